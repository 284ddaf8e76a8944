"""Whether a pore is large enough for its surface to be measured."""

from __future__ import annotations

from napari_geosr.measure.statistic import PoreStatistic
from napari_geosr.measure.sums import BoolArray, Pores

#: Radius, in edge lengths of a voxel, below which no surface estimator is reliable.
RELIABLE_RADIUS = 4.0


def surface_reliable(pores: Pores) -> BoolArray:
    """Whether a pore is large enough for its surface to be reliable.

    The sphere of the same volume (image: circle of the same area) must have a radius of
    at least `RELIABLE_RADIUS` times the longest edge of a voxel.
    """
    edges = pores.geometry.voxel_size[1 if pores.geometry.flat else 0 :]
    diameter = 2 * RELIABLE_RADIUS * max(edges)
    reliable: BoolArray = pores.equivalent_diameter >= diameter
    return reliable


STATISTICS = (PoreStatistic("surface_reliable", surface_reliable, order=60),)
