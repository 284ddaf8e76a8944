"""Number of pores of at least the minimum size."""

from __future__ import annotations

from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def pore_count(totals: SweepTotals) -> int:
    """Return the number of pores of at least the minimum size."""
    return totals.pore_count


STATISTICS = (
    VolumeStatistic(
        "pore_count",
        pore_count,
        order=100,
        row=Row(
            "Pores",
            order=70,
            help="Number of pores of at least the minimum size.",
        ),
    ),
)
