"""Threshold sensitivity: change of the porosity if the threshold shifts by ±5 %.

The shift is relative to the contrast: the distance between the mean grey values of the
phases. The sensitivity shows how much the porosity depends on the threshold; it is not
an uncertainty of the measurement, because noise and artefacts are not included.
"""

from __future__ import annotations

from napari_geosr.measure.number_text import percent_range_text
from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def lowest(totals: SweepTotals) -> float:
    """Return the lowest porosity at the threshold and at both shifted thresholds."""
    return _sorted_voxels(totals)[0] / totals.sample_voxels


def highest(totals: SweepTotals) -> float:
    """Return the highest porosity at the threshold and at both shifted thresholds."""
    return _sorted_voxels(totals)[2] / totals.sample_voxels


def half_width(totals: SweepTotals) -> float:
    """Return half the difference between the highest and the lowest porosity."""
    return (highest(totals) - lowest(totals)) / 2


def _sorted_voxels(totals: SweepTotals) -> list[int]:
    return sorted((totals.pore_voxels_low, totals.pore_voxels_high, totals.pore_voxels))


def _text(ends: tuple[float, float]) -> str:
    return "no change" if ends[0] == ends[1] else percent_range_text(ends)


STATISTICS = (
    VolumeStatistic("porosity_low", lowest, order=20),
    VolumeStatistic("porosity_high", highest, order=30),
    VolumeStatistic(
        "threshold_sensitivity",
        half_width,
        order=40,
        row=Row(
            "Threshold sensitivity (±5 %)",
            order=20,
            value=lambda figures: (figures["porosity_low"], figures["porosity_high"]),
            text=_text,
            file_unit="%",
            compares=False,
            help="Porosity with the threshold lowered and raised by 5 % of the "
            "contrast. It shows how much the result depends on the threshold; it "
            "does not include noise and is not a measurement uncertainty.",
        ),
    ),
    # Earlier name, for programs that read it.
    VolumeStatistic("porosity_uncertainty", half_width, order=50),
)
