"""Elongation and flatness of the ellipsoid with the pore's second moments.

Elongation is the second axis ÷ the longest; flatness (in volumes only) is the shortest
axis ÷ the second.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import Colour, PoreStatistic
from napari_geosr.measure.sums import FloatArray, Pores, ratio


def elongation(pores: Pores) -> FloatArray:
    """Return the second axis ÷ the longest axis."""
    return ratio(pores.axis_lengths[:, 1], pores.axis_lengths[:, 0])


def flatness(pores: Pores) -> FloatArray:
    """Return the shortest axis ÷ the second axis."""
    return ratio(pores.axis_lengths[:, 2], pores.axis_lengths[:, 1])


STATISTICS = (
    PoreStatistic("elongation", elongation, order=80, colour=Colour(order=40)),
    PoreStatistic("flatness", flatness, flat=False, order=90, colour=Colour(order=50)),
)
