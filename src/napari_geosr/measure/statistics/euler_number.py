"""Euler number of each pore and of all pores: pores − tunnels + enclosed solids."""

from __future__ import annotations

from napari_geosr.measure.statistic import (
    Colour,
    PoreStatistic,
    Row,
    VolumeStatistic,
)
from napari_geosr.measure.sums import IntArray, Pores, SweepTotals


def of_each(pores: Pores) -> IntArray:
    """Return the Euler number of each pore."""
    return pores.euler_number


def of_all(totals: SweepTotals) -> int:
    """Return the Euler number of all pores, whatever their size.

    The space outside the volume does not count as pore.
    """
    return int(totals.pores.euler_number.sum()) + totals.small.euler8 // 8


STATISTICS = (
    PoreStatistic("euler_number", of_each, order=70, colour=Colour(order=60)),
    VolumeStatistic(
        "euler_number",
        of_all,
        order=310,
        row=Row(
            "Euler number",
            order=140,
            help="Pores − tunnels + enclosed solid particles. Strongly negative values "
            "mean that the pores are well connected.",
        ),
    ),
)
