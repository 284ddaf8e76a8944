"""Threshold: the grey value between pore and solid.

In the JSON file, the threshold is one of the settings.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def threshold(totals: SweepTotals) -> float:
    """Return the threshold: dark pores are at or below it, bright pores above it."""
    return totals.threshold


STATISTICS = (
    VolumeStatistic(
        "threshold",
        threshold,
        in_json=False,
        row=Row(
            "Threshold",
            order=160,
            compares=False,
            help="Grey value that separates pores from solid.",
        ),
    ),
)
