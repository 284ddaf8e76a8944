"""Bounding box of each pore in voxel indices; the end is exclusive."""

from __future__ import annotations

from functools import partial

from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.statistic import PoreStatistic
from napari_geosr.measure.sums import IntArray, Pores

_LOWEST = (column.MIN_Z, column.MIN_Y, column.MIN_X)
_HIGHEST = (column.MAX_Z, column.MAX_Y, column.MAX_X)


def start(pores: Pores, axis: int) -> IntArray:
    """Return the index of the first voxel along an axis (0, 1, 2 for Z, Y, X)."""
    return pores.sums[:, _LOWEST[axis]] + 0


def end(pores: Pores, axis: int) -> IntArray:
    """Return the index after the last voxel along an axis (0, 1, 2 for Z, Y, X)."""
    return pores.sums[:, _HIGHEST[axis]] + 1


STATISTICS = tuple(
    PoreStatistic(
        f"bbox_{word}_{letter}",
        partial(function, axis=axis),
        unit="voxel",
        flat=False if letter == "z" else None,
        order=order + axis,
    )
    for word, function, order in (("start", start, 110), ("end", end, 120))
    for axis, letter in enumerate("zyx")
)
