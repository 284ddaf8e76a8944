"""Porosity: pore voxels ÷ sample voxels, including pores of any size."""

from __future__ import annotations

from napari_geosr.measure.number_text import percent_text
from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def porosity(totals: SweepTotals) -> float:
    """Return the fraction of the sample that is pore."""
    return totals.pore_voxels / totals.sample_voxels


STATISTICS = (
    VolumeStatistic(
        "porosity",
        porosity,
        order=10,
        row=Row(
            "Porosity",
            order=10,
            text=percent_text,
            file_unit="%",
            help="Pore voxels ÷ sample voxels, including the smallest pores.",
        ),
    ),
)
