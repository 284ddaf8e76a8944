"""Coarser sampling, as by a detector with larger elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.physics.blur import gaussian_blur


def area_downsample(
    volume: npt.NDArray[np.float32], factor: int | Sequence[int]
) -> npt.NDArray[np.float32]:
    """Average blocks of `factor` voxels; one factor for all axes, or one for each.

    The outer edges of the field of view are preserved, so the centre of the first voxel
    moves by ``(factor - 1) / 2`` voxels of the input.

    Raises
    ------
    VolumeError
        If a length is not a multiple of `factor`.
    """
    factors = (factor,) * volume.ndim if isinstance(factor, int) else tuple(factor)
    if any(n % f for n, f in zip(volume.shape, factors, strict=True)):
        raise VolumeError(
            f"A volume of shape {volume.shape} cannot be averaged over blocks of "
            f"{factor}: crop each axis to a multiple of the factor."
        )
    pairs = zip(volume.shape, factors, strict=True)
    split = [part for n, f in pairs for part in (n // f, f)]
    axes = tuple(range(1, 2 * volume.ndim, 2))
    coarse: npt.NDArray[np.float32] = volume.reshape(split).mean(axis=axes)
    return coarse.astype(np.float32, copy=False)


def kept_samples(
    volume: npt.NDArray[np.float32], factors: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Keep one voxel of every block of `factors`, like a scan that skips the others.

    It has the index ``factor // 2`` along every axis, the middle for odd factors.
    """
    return volume[tuple(slice(f // 2, None, f) for f in factors)]


def shift_half_voxel(
    volume: npt.NDArray[np.float32], axes: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Shift the sampling points by half a voxel along `axes`, by cubic interpolation.

    The last voxel of each axis is repeated.
    """
    for axis in axes:
        n = volume.shape[axis]
        moved = np.zeros_like(volume, np.float32)
        for step, weight in ((-1, -0.0625), (0, 0.5625), (1, 0.5625), (2, -0.0625)):
            at = np.clip(np.arange(n) + step, 0, n - 1)
            moved += np.float32(weight) * np.take(volume, at, axis)
        volume = moved
    return volume


def centre_samples(
    smooth: npt.NDArray[np.float32], factors: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Values at the centres of blocks of `factors` voxels, of a smooth image.

    For even factors the centre lies between two voxels and is interpolated.
    """
    even = [axis for axis, f in enumerate(factors) if f % 2 == 0]
    between = shift_half_voxel(smooth, even)
    starts = (f // 2 - (f % 2 == 0) for f in factors)
    return between[
        tuple(slice(a, None, f) for a, f in zip(starts, factors, strict=True))
    ]


def coarse_scan(
    volume: npt.NDArray[np.float32], factor: int, sigma: float
) -> npt.NDArray[np.float32]:
    """Noise-free image of a system with voxels `factor` times larger.

    Parameters
    ----------
    volume : ndarray of shape (Z, Y, X)
        The object on the fine grid.
    factor : int
        Voxels of the fine grid per voxel of the result along each axis.
    sigma : float
        Blur of the low-resolution system in *its* voxels, applied before sampling.
    """
    return area_downsample(gaussian_blur(volume, sigma * factor), factor)
