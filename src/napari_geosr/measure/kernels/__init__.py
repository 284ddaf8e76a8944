"""Compiled loops over voxels and labels; all release the GIL.

Import the modules inside functions only: numba takes a second to load.
"""
