"""Dock widgets, readers and writers for napari. No other package uses Qt."""
