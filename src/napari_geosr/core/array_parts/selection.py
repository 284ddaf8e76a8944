"""Lazy selection of planes and rows of an array in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import ArrayLike
from napari_geosr.core.types import AnyArray

#: Two selected planes are read in one block if at most this many planes lie between
#: them.
_MAX_SKIPPED_PLANES = 3


class Selection:
    """Selected planes (first axis) and rows (second axis) of a 3D array, read lazily.

    Arrays in files support only slices; this class supports any planes in any order,
    and reads neighbouring planes together.

    Parameters
    ----------
    data : ArrayLike
        Array with three axes that supports slices of step one.
    planes : ndarray of int
        Indices along the first axis, in the order of the result.
    rows : tuple of int
        First row and the row after the last.
    """

    def __init__(
        self, data: ArrayLike, planes: npt.NDArray[np.intp], rows: tuple[int, int]
    ) -> None:
        if isinstance(data, Selection):
            planes = data.planes[planes]
            rows = (data.row_range[0] + rows[0], data.row_range[0] + rows[1])
            data = data.data
        self.data: ArrayLike = data
        self.planes: npt.NDArray[np.intp] = np.asarray(planes, np.intp)
        self.row_range: tuple[int, int] = rows
        self.shape = (len(self.planes), rows[1] - rows[0], int(data.shape[2]))
        self.dtype = np.dtype(data.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes: three."""
        return 3

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        parts += [slice(None)] * (3 - len(parts))
        if len(parts) != 3:
            raise IndexError(
                f"{len(parts)} indices were given for an array with 3 axes"
            )
        chosen = np.arange(self.shape[0])[parts[0]]
        rows = np.arange(self.shape[1])[parts[1]]
        low, high = (int(rows.min()), int(rows.max()) + 1) if rows.size else (0, 0)
        read = self._read(self.planes[np.atleast_1d(chosen)], low, high)
        first = 0 if chosen.ndim == 0 else slice(None)
        voxels: AnyArray = read[first][..., rows - low, :][..., parts[2]]
        return voxels

    def _read(self, planes: npt.NDArray[np.intp], low: int, high: int) -> AnyArray:
        out = np.empty((len(planes), high - low, self.shape[2]), self.dtype)
        if out.size == 0:
            return out
        order = np.argsort(planes, kind="stable")
        ordered = planes[order]
        cuts = np.flatnonzero(np.diff(ordered) > _MAX_SKIPPED_PLANES + 1) + 1
        key = slice(low + self.row_range[0], high + self.row_range[0])
        for places in np.split(order, cuts):
            begin, end = int(planes[places[0]]), int(planes[places[-1]]) + 1
            block = np.asarray(self.data[begin:end, key, :])
            out[places] = block[planes[places] - begin]
        return out


def select(
    data: Any, planes: npt.NDArray[np.intp], rows: tuple[int, int] | None = None
) -> Any:
    """Select planes and rows of a 3D array; nothing is read from a lazy array.

    Evenly spaced planes of a numpy array are returned as a view.

    Parameters
    ----------
    data : array-like of shape (plane, row, column)
    planes : ndarray of int
        Indices of the planes, in any order.
    rows : (int, int), optional
        First row and the row after the last; by default all rows.
    """
    rows = rows or (0, int(data.shape[1]))
    in_memory = isinstance(data, np.ndarray)
    if not in_memory and not type(data).__module__.startswith("dask."):
        return Selection(data, planes, rows)
    steps = set(np.diff(planes).tolist())
    if len(steps) == 1 and min(steps) > 0:
        key: Any = slice(int(planes[0]), int(planes[-1]) + 1, steps.pop())
    else:
        key = planes
    return data[key][:, rows[0] : rows[1]]
