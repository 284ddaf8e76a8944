"""Surface area (image: perimeter), excluding faces on the border of the volume.

It is computed by Crofton's formula with 13 directions; see
`napari_geosr.measure.crofton`.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import Colour, PoreStatistic, VolumeStatistic
from napari_geosr.measure.sums import FloatArray, Pores, SweepTotals


def surface(pores: Pores) -> FloatArray:
    """Return the surface area (image: perimeter) of each pore."""
    return pores.surface


def surface_area(totals: SweepTotals) -> float | None:
    """Return the surface of all pores; None for an image or without a voxel size."""
    return None if totals.geometry.flat else totals.surface


def perimeter(totals: SweepTotals) -> float | None:
    """Return the perimeter of all pores; None for a volume or without a voxel size."""
    return totals.surface if totals.geometry.flat else None


STATISTICS = (
    PoreStatistic(
        "surface_area",
        surface,
        power=2,
        flat=False,
        order=40,
        colour=Colour(logarithmic=True, order=70),
    ),
    PoreStatistic("perimeter", surface, power=1, flat=True, order=40),
    VolumeStatistic(
        "surface_area", surface_area, power=2, unit_key="surface_area_unit", order=270
    ),
    VolumeStatistic("perimeter", perimeter, power=1, order=290),
)
