"""Sums of voxels in adjacent parts of a grid, with limits that may cut voxels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Number of decimals of a sum: more than its rounding error, far less than a voxel.
_DECIMALS = 6
#: A limit of a part counts as the limit between two voxels if it is at most this far
#: from it, in voxels.
_ROUNDING = 1e-9


def summed(values: npt.NDArray[Any], limits: Floats, axis: int) -> npt.NDArray[Any]:
    """Sum values between adjacent limits along an axis.

    A voxel that a limit cuts counts on each side in proportion to its part there. If no
    limit cuts a voxel, sums of integers are integers.

    Parameters
    ----------
    values : ndarray of bool, int or float
    limits : ndarray
        Ascending limits from 0 to the number of voxels along the axis; voxel i lies
        between i and i + 1.
    axis : int

    Returns
    -------
    ndarray
        Sums; one fewer along the axis than there are limits.

    Examples
    --------
    >>> summed(np.array([1, 1, 0, 1]), np.array([0, 2, 4]), 0).tolist()
    [2, 1]
    >>> summed(np.array([1, 1, 0, 1]), np.array([0, 1.5, 3.5]), 0).tolist()
    [1.5, 1.0]
    """
    n = values.shape[axis]
    whole = np.rint(limits)
    limits = np.where(np.abs(limits - whole) <= _ROUNDING, whole, limits)
    # The limit at the end is the end of the last voxel.
    first = np.minimum(np.floor(limits).astype(np.int64), n - 1)
    cut = limits - first
    # A row has fewer than 2³¹ voxels.
    integer: Any = np.int32 if values.dtype == bool else np.int64
    dtype: Any = np.float64 if values.dtype.kind == "f" else integer
    sums = np.add.reduceat(values, first, axis=axis, dtype=dtype)
    sums = np.take(sums, np.arange(len(first) - 1), axis)
    shape = [-1 if a == axis else 1 for a in range(values.ndim)]
    # For two limits within the same voxel, `reduceat` returns this voxel.
    sums *= (np.diff(first) > 0).astype(dtype).reshape(shape)
    if (limits == whole).all():
        cut = cut.astype(dtype)
    edges = np.take(values, first, axis) * cut.reshape(shape)
    found: npt.NDArray[Any] = sums + np.diff(edges, axis=axis)
    return found if found.dtype.kind == "i" else np.round(found, _DECIMALS)


def add_planes(
    target: npt.NDArray[Any],
    planes: npt.NDArray[Any],
    start: int,
    limits: tuple[Floats, Floats, Floats],
) -> None:
    """Add the sums of whole planes to those of all parts of a volume, in place.

    Parameters
    ----------
    target : ndarray of shape (n, m, l)
        Sums in the parts; one value fewer along each axis than there are limits.
    planes : ndarray of shape (z, Y, X)
    start : int
        Number of the first plane.
    limits : tuple of 3 ndarray
        Limits of the parts along Z, Y and X, in voxels of the volume.
    """
    along_z = np.clip(limits[0] - start, 0, len(planes))
    reached = np.flatnonzero(np.diff(along_z) > 0)
    if not reached.size:
        return
    own = slice(int(reached[0]), int(reached[-1]) + 1)
    near = slice(math.floor(along_z[0]), math.ceil(along_z[-1]))
    sums = summed(summed(planes[near], limits[1], 1), limits[2], 2)
    target[own] += summed(sums, along_z[own.start : own.stop + 1] - near.start, 0)
