"""Elongation and flatness of the ellipsoid with the pore's second moments.

Elongation is the ratio of the second axis to the longest; flatness (in volumes only) is
the ratio of the shortest axis to the second.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import Colour, PoreStatistic
from napari_geosr.measure.sums import FloatArray, Pores, ratio


def elongation(pores: Pores) -> FloatArray:
    """Return the ratio of the second axis to the longest axis."""
    return ratio(pores.axis_lengths[:, 1], pores.axis_lengths[:, 0])


def flatness(pores: Pores) -> FloatArray:
    """Return the ratio of the shortest axis to the second axis."""
    return ratio(pores.axis_lengths[:, 2], pores.axis_lengths[:, 1])


STATISTICS = (
    PoreStatistic("elongation", elongation, order=80, colour=Colour(order=40)),
    PoreStatistic("flatness", flatness, flat=False, order=90, colour=Colour(order=50)),
)
