"""Pores below the minimum size: included in the porosity, but not in the table."""

from __future__ import annotations

from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def small_pore_count(totals: SweepTotals) -> int:
    """Return the number of pores below the minimum size."""
    return totals.small.n


def small_pore_voxels(totals: SweepTotals) -> int:
    """Return the number of voxels of pores below the minimum size."""
    return totals.small_pore_voxels


STATISTICS = (
    VolumeStatistic(
        "small_pore_count",
        small_pore_count,
        order=110,
        row=Row(
            "Pores below minimum size",
            order=150,
            help="Pores too small to be counted or listed; they are part of the "
            "porosity.",
        ),
    ),
    VolumeStatistic("small_pore_voxels", small_pore_voxels, order=230),
)
