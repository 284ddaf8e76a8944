"""Rotate and mirror patches where the voxel size allows it."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray

Array = AnyArray


class PatchSymmetry:
    """One of the symmetries of a patch, the same for all arrays of a sample.

    Parameters
    ----------
    rng : Generator
    square : bool
        Whether Y and X may be exchanged, because voxels and patch are square.
    depth : bool
        Whether there is an axis of slices to mirror (channels of 2.5D, or Z).
    """

    def __init__(self, rng: np.random.Generator, *, square: bool, depth: bool) -> None:
        self.flips = tuple(bool(rng.random() < 0.5) for _ in range(3))
        self.swap = bool(square and rng.random() < 0.5)
        self.depth = depth

    def __call__(self, patch: Array) -> Array:
        """Transform a patch (C, [Z,] Y, X); returns a view."""
        if self.depth and self.flips[0]:
            # Slices are channels in 2.5D, and a separate axis in 3D.
            patch = np.flip(patch, axis=0 if patch.ndim == 3 else 1)
        if self.flips[1]:
            patch = np.flip(patch, axis=-2)
        if self.flips[2]:
            patch = np.flip(patch, axis=-1)
        return patch.swapaxes(-1, -2) if self.swap else patch
