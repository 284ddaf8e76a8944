"""Dock widgets, readers and writers for napari; the only package that uses Qt."""
