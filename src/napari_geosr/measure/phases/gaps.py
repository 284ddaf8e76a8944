"""Fills narrow gaps of unmeasured voxels (NaN or infinite) in the phases of a scan."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.measure.phases import Mask, PhasePlanes

#: Minimum width, in voxels, of a gap of unmeasured voxels that is excluded, not filled.
GAP_WIDTH = 3
#: Number of planes on each side of a slab on which its gaps depend.
_GAP_HALO = 4
#: Offsets of the 26 neighbours of a voxel.
_NEIGHBOURS = [
    offset for offset in itertools.product((-1, 0, 1), repeat=3) if any(offset)
]


class GapFiller:
    """Stores the phases of a scan with unmeasured voxels, and fills narrow gaps.

    A gap is wide where it contains `GAP_WIDTH`³ voxels (in an image,
    `GAP_WIDTH`²); the space beyond the border of the volume counts as unmeasured. All
    other unmeasured voxels, such as dead pixels or a missing slice, are assigned the
    phase of most of their measured neighbours, except within two voxels of a wide gap.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the volume, (Z, Y, X).
    flat : bool
        Whether this is one image: shape (1, Y, X).
    """

    def __init__(self, shape: tuple[int, int, int], *, flat: bool) -> None:
        self.shape, self.flat = shape, flat
        self._pores, self._inside, self._missing = (PackedMask(shape) for _ in range(3))
        self._filled = np.zeros(shape[0], np.int64)

    def add(self, z: int, pores: Mask, inside: Mask | None, missing: Mask) -> None:
        """Store planes, starting at `z`.

        Parameters
        ----------
        pores : ndarray of bool
            Pores, including those outside the sample mask.
        inside : ndarray of bool or None
            Sample mask, including unmeasured voxels; None if all voxels are inside.
        missing : ndarray of bool
            Unmeasured voxels.
        """
        self._pores.write(z, pores)
        whole = np.ones(pores.shape, bool)
        self._inside.write(z, whole if inside is None else inside)
        self._missing.write(z, missing)

    @property
    def n_filled(self) -> int:
        """Number of filled voxels of the sample in all planes returned so far."""
        return int(self._filled.sum())

    def planes(self, slab: slice) -> PhasePlanes:
        """Return planes with narrow gaps filled, after all planes were stored."""
        low = max(0, slab.start - _GAP_HALO)
        wide = slice(low, min(self.shape[0], slab.stop + _GAP_HALO))
        missing = self._whole(self._missing, wide)
        pores = self._whole(self._pores, slab)
        inside = self._whole(self._inside, slab)
        own = slice(slab.start - low, slab.stop - low)
        left = missing[own]
        if missing.any():
            left = left & _near_wide(missing, self.flat)[own]
            places = np.argwhere(missing[own] & ~left)
            places[:, 0] += own.start
            is_pore = _most_neighbours(self._whole(self._pores, wide), missing, places)
            z, y, x = places.T
            pores[z - own.start, y, x] = is_pore
            counted = (z - own.start)[inside[z - own.start, y, x]]
            self._filled[slab] = np.bincount(counted, minlength=len(left))
        sample = inside & ~left
        return PhasePlanes(pores & sample, sample, pores, left)

    @staticmethod
    def _whole(mask: PackedMask, slab: slice) -> Mask:
        return mask[slab, slice(None), slice(None)]


def filled_remark(n_filled: int, purpose: str) -> str:
    """Return a remark on filled voxels of the sample, such as for ``"morphometry"``."""
    voxels = "voxel" if n_filled == 1 else "voxels"
    return (
        f"For {purpose}, {n_filled:,} NaN or infinite {voxels} in gaps narrower than "
        f"{GAP_WIDTH} voxels were assigned the phase of most of their neighbours."
    )


def _near_wide(missing: Mask, flat: bool) -> Mask:
    """Return a mask of the voxels in a wide gap or within two voxels of one."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    axes = (1, 2) if flat else (0, 1, 2)
    margin = [(int(axis in axes),) * 2 for axis in range(3)]
    padded: npt.NDArray[np.uint8] = np.pad(
        missing.view(np.uint8), margin, constant_values=1
    )
    for axis in axes:
        padded = minimum_filter1d(padded, GAP_WIDTH, axis=axis, mode="constant", cval=1)
    for axis in axes:
        padded = maximum_filter1d(padded, GAP_WIDTH, axis=axis, mode="constant")
    inner = tuple(
        slice(before, n - after)
        for (before, after), n in zip(margin, padded.shape, strict=True)
    )
    near = np.ascontiguousarray(padded[inner]) & missing.view(np.uint8)
    for axis in axes:
        near = maximum_filter1d(near, 2 * GAP_WIDTH - 1, axis=axis, mode="constant")
    found: Mask = near.view(np.bool_)
    return found


def _most_neighbours(
    pores: Mask, missing: Mask, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return, for each voxel, whether most of its measured neighbours are pores."""
    known, n_pores = np.zeros((2, len(places)), np.int64)
    last = np.array(pores.shape) - 1
    for offset in _NEIGHBOURS:
        near = places + offset
        within: Mask = np.logical_and.reduce((near >= 0) & (near <= last), axis=1)
        z, y, x = np.clip(near, 0, last).T
        measured = within & ~missing[z, y, x]
        known += measured
        n_pores += measured & pores[z, y, x]
    most: npt.NDArray[np.bool_] = 2 * n_pores > known
    return most
