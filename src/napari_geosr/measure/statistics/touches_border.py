"""Whether a pore reaches the border of the volume or of the sample."""

from __future__ import annotations

from napari_geosr.measure.statistic import Colour, PoreStatistic
from napari_geosr.measure.sums import BoolArray, Pores


def touches_border(pores: Pores) -> BoolArray:
    """Whether a face of the pore lies on the border."""
    return pores.touches_border


STATISTICS = (
    PoreStatistic("touches_border", touches_border, order=130, colour=Colour(order=80)),
)
