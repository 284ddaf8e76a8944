"""Equivalent diameter: diameter of the sphere with the volume of the pore.

For an image, this is the diameter of the circle with the area of the pore.
"""

from __future__ import annotations

from napari_geosr.measure.statistic import (
    Colour,
    PoreStatistic,
    Row,
    VolumeStatistic,
)
from napari_geosr.measure.sums import FloatArray, Pores, SweepTotals

NAME = "equivalent_diameter"


def equivalent_diameter(pores: Pores) -> FloatArray:
    """Return the diameter of the sphere (image: circle) with the size of each pore."""
    return pores.equivalent_diameter


def quantiles(totals: SweepTotals) -> dict[str, float | None]:
    """Return mean, 10th, 50th and 90th percentiles, and maximum of the diameters."""
    return totals.quantiles(NAME)


STATISTICS = (
    PoreStatistic(
        NAME,
        equivalent_diameter,
        power=1,
        order=30,
        colour=Colour(logarithmic=True, order=20),
    ),
    VolumeStatistic(
        NAME,
        quantiles,
        power=1,
        order=360,
        row=Row(
            "Mean equivalent diameter",
            order=120,
            value=lambda figures: figures[NAME]["mean"],
            help="Diameter of the sphere (circle in 2D) of the same volume as the "
            "pore.",
        ),
    ),
)
