"""Sample volumes more coarsely, as a detector with larger elements would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.physics.blur import gaussian_blur


def area_downsample(
    volume: npt.NDArray[np.float32], factor: int | Sequence[int]
) -> npt.NDArray[np.float32]:
    """Average blocks of `factor` voxels; `factor` is one number, or one per axis.

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
    """Keep one voxel of every block of `factors`, as in a scan that skips the others.

    The kept voxel has the index ``factor // 2`` along every axis, the middle for odd
    factors.
    """
    return volume[tuple(slice(f // 2, None, f) for f in factors)]


def without_kept(volume: AnyArray, factors: Sequence[int], first: int = 0) -> AnyArray:
    """Replace the voxels of `kept_samples` with values interpolated from skipped ones.

    The result does not depend on the kept voxels. If the noise is independent from
    voxel to voxel, the noise of the result is also independent of the noise of the kept
    voxels.

    Parameters
    ----------
    volume : ndarray of shape ([Z,] Y, X)
    factors : sequence of int
        Edge lengths of a block, in voxels; at least 2 along Y and X.
    first : int
        Index of the first slice of `volume` in the whole scan.

    Notes
    -----
    The mean of two cubic interpolations, along Y and along X, is used, because
    microscopes sample most finely in the plane. Near the edges, interpolation is
    linear. In integer volumes, the values are rounded and limited to the range of the
    volume.
    """
    start = [f // 2 for f in factors]
    if volume.ndim == 3:
        start[0] = (start[0] - first) % factors[0]
    key = tuple(slice(a, None, f) for a, f in zip(start, factors, strict=True))
    filled = volume.copy()
    total = np.zeros_like(volume[key], np.float32)
    for axis in (-2, -1):
        n, factor = volume.shape[axis], factors[axis]
        lines = list(key)
        lines[axis] = slice(None)
        line = volume[tuple(lines)]
        places = np.arange(start[axis], n, factor)
        # With a factor of 2, voxels at a distance of 2 are also replaced, so those at a
        # distance of 3 are used.
        far, cubic = (3, 0.5625) if factor == 2 else (2, 2 / 3)
        shape = [1] * volume.ndim
        shape[axis] = len(places)
        near = np.where((places >= far) & (places < n - far), cubic, 0.5)
        for step, weights in ((1, near), (far, 0.5 - near)):
            weights = (weights / 2).astype(np.float32).reshape(shape)
            for at in (places - step, places + step):
                inside = (at >= 0) & (at < n)
                at = np.where(inside, at, 2 * places - at)
                total += weights * np.take(line, at, axis)
    if volume.dtype.kind in "iub":
        total = np.rint(np.clip(total, volume.min(), volume.max()))
    filled[key] = total
    return filled


def shift_half_voxel(
    volume: npt.NDArray[np.float32], axes: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Shift the sampling points by half a voxel along `axes`, by cubic interpolation.

    Beyond the ends of an axis, its outermost voxels are repeated.
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
    """Return the values of a smooth image at the centres of blocks of `factors` voxels.

    For even factors, the centre lies between two voxels and its value is interpolated.
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
    """Simulate the noise-free image of a system with voxels `factor` times larger.

    Parameters
    ----------
    volume : ndarray of shape (Z, Y, X)
        The object on the fine grid.
    factor : int
        Voxels of the fine grid per voxel of the result along each axis.
    sigma : float
        Standard deviation of the blur before sampling, in low-resolution voxels.
    """
    return area_downsample(gaussian_blur(volume, sigma * factor), factor)
