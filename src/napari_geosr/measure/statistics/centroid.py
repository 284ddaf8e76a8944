"""Centroid of each pore in physical coordinates, one column per axis."""

from __future__ import annotations

from functools import partial

from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.statistic import PoreStatistic
from napari_geosr.measure.sums import FloatArray, Pores

_SUMS = (column.SUM_Z, column.SUM_Y, column.SUM_X)


def centroid(pores: Pores, axis: int) -> FloatArray:
    """Return the mean position of the voxels along an axis (0, 1, 2 for Z, Y, X)."""
    mean = pores.sums[:, _SUMS[axis]] / pores.sums[:, column.COUNT]
    geometry = pores.geometry
    place: FloatArray = geometry.origin[axis] + mean * geometry.voxel_size[axis]
    return place


STATISTICS = tuple(
    PoreStatistic(
        f"centroid_{letter}",
        partial(centroid, axis=axis),
        power=1,
        flat=False if letter == "z" else None,
        order=100 + axis,
    )
    for axis, letter in enumerate("zyx")
)
