"""Specific surface area: surface of the pores ÷ volume of the sample.

For an image, this is the specific perimeter: perimeter of the pores ÷ area of the
sample.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def specific_surface_area(totals: SweepTotals) -> float | None:
    """Compute the specific surface area; None for an image or without a voxel size."""
    return None if totals.geometry.flat else _specific(totals)


def specific_perimeter(totals: SweepTotals) -> float | None:
    """Compute the specific perimeter; None for a volume or without a voxel size."""
    return _specific(totals) if totals.geometry.flat else None


def _specific(totals: SweepTotals) -> float | None:
    surface, size = totals.surface, totals.sample_size
    return None if surface is None or size is None else surface / size


STATISTICS = (
    VolumeStatistic(
        "specific_surface_area",
        specific_surface_area,
        power=-1,
        unit_key="specific_unit",
        order=280,
        row=Row(
            "Specific surface area",
            order=130,
            help="Surface area of the pores ÷ volume of the sample.",
        ),
    ),
    VolumeStatistic(
        "specific_perimeter",
        specific_perimeter,
        power=-1,
        unit_key="specific_unit",
        order=300,
        row=Row("Specific perimeter", order=130),
    ),
)
