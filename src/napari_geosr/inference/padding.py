"""Find constant padding around a sample, such as zeros outside a circular field."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_geosr.core.volume import ArrayLike

#: Edge length, in voxels, of the corners of a slice that are searched for padding.
_CORNER = 5
#: Minimum edge length of a slice, as a multiple of that of its corners.
_MIN_PATCHES = 4
#: Half the edge, in voxels, of the central square in which the sample is examined.
_HALF = 128
#: The sample itself counts as uniform if more than this fraction of the voxels examined
#: is in uniform squares of a value other than the padding's.
_MAX_FLAT_SHARE = 0.01
#: Size of the squares (Z, Y, X) of equal values that padding consists of.
_SQUARE = (1, 3, 3)


def padding_value(source: ArrayLike) -> float | None:
    """Return the grey value of the padding around the sample.

    A reconstruction of a circular field is padded in all four corners of its slices.
    Only the corners of the first, middle and last slices, and the central square of the
    middle slice, are read.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)

    Returns
    -------
    float or None
        None if the corners have different values, as in a scan without padding, or if
        the sample itself is just as uniform, as in a segmented volume.

    Examples
    --------
    >>> scan = np.random.default_rng(0).normal(100.0, 5.0, (3, 40, 40))
    >>> print(padding_value(scan))
    None
    >>> y, x = np.indices((40, 40)) - 19.5
    >>> scan[:, y**2 + x**2 > 400] = 0
    >>> padding_value(scan)
    0.0
    """
    rows, columns = source.shape[-2:]
    if min(rows, columns) < _MIN_PATCHES * _CORNER or source.dtype.kind not in "uif":
        return None
    planes: list[tuple[int, ...]] = [()]
    if len(source.shape) == 3:
        n = source.shape[0]
        planes = [(z,) for z in sorted({0, n // 2, n - 1})]
    ends = slice(0, _CORNER), slice(-_CORNER, None)
    first: float | None = None
    for plane in planes:
        for y in ends:
            for x in ends:
                box = (*plane, _absolute(y, rows), _absolute(x, columns))
                values = np.asarray(source[box])
                value = float(values.flat[0])
                first = value if first is None else first
                # NaN differs from itself and is therefore not accepted.
                if value != first or not (values == values.flat[0]).all():
                    return None
    middle = np.asarray(source[(*planes[len(planes) // 2], *_centre(rows, columns))])
    return None if first is None or _is_flat(middle, first) else first


def _centre(rows: int, columns: int) -> tuple[slice, slice]:
    y, x = (slice(max(0, n // 2 - _HALF), n // 2 + _HALF) for n in (rows, columns))
    return y, x


def _is_flat(plane: npt.NDArray[np.generic], value: float) -> bool:
    """Whether the sample also contains uniform squares, as in a segmented volume.

    Equal values in all corners then belong to a phase of the sample.
    """
    squares = sliding_window_view(plane, _SQUARE[1:])
    constant = squares.max((2, 3)) == squares.min((2, 3))
    others = constant & (plane[1:-1, 1:-1] != value)
    return bool(others.mean() > _MAX_FLAT_SHARE)


def _absolute(part: slice, length: int) -> slice:
    """Convert negative indices of a slice, because some sources reject them."""
    return slice(*part.indices(length)[:2])


def padded_voxels(
    source: ArrayLike, box: Sequence[slice], value: float
) -> npt.NDArray[np.bool_] | None:
    """Return the voxels of a box that are padding.

    A voxel is padding if it lies, within its slice, in a square of 3 × 3 voxels with
    this value; single voxels may have the value by chance. The result for a voxel does
    not depend on the box that is read.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
    box : sequence of slice
        One slice per axis, with step 1 and within the volume.
    value : float
        Grey value of the padding, from `padding_value`.

    Returns
    -------
    ndarray of bool, of the box's shape, or None
        None if no voxel is padding.
    """
    from scipy import ndimage

    if not (np.asarray(source[tuple(box)]) == value).any():
        return None
    reach = [n - 1 for n in _SQUARE[-len(box) :]]
    wide = tuple(
        slice(max(0, part.start - r), min(n, part.stop + r))
        for part, r, n in zip(box, reach, source.shape, strict=True)
    )
    equal = np.asarray(source[wide]) == value
    size = _SQUARE[-len(box) :]
    # Beyond the edges of the volume, its outermost voxels are repeated.
    full = ndimage.minimum_filter(equal, size, mode="nearest")
    found = ndimage.maximum_filter(full, size, mode="nearest")
    inner = tuple(
        slice(part.start - w.start, part.stop - w.start)
        for part, w in zip(box, wide, strict=True)
    )
    padded: npt.NDArray[np.bool_] = found[inner]
    return padded if padded.any() else None
