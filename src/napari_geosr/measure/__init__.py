"""Porosity and image quality of volumes, in memory or by blocks. No torch."""
