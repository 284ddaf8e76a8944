"""Pore density: counted pores per mm³ (image: mm²) of the sample."""

from __future__ import annotations

from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def pores_per_mm3(totals: SweepTotals) -> float | None:
    """Return the number of pores per mm³; None for an image or in pixel units."""
    flat = totals.geometry.flat
    return None if flat else totals.per_millimetre(totals.pore_count)


def pores_per_mm2(totals: SweepTotals) -> float | None:
    """Return the number of pores per mm²; None for a volume or in pixel units."""
    flat = totals.geometry.flat
    return totals.per_millimetre(totals.pore_count) if flat else None


STATISTICS = (
    VolumeStatistic(
        "pores_per_mm3",
        pores_per_mm3,
        order=120,
        row=Row("Pores per mm³", order=80, file_unit="1/mm³"),
    ),
    VolumeStatistic(
        "pores_per_mm2",
        pores_per_mm2,
        order=130,
        row=Row("Pores per mm²", order=80, file_unit="1/mm²"),
    ),
)
