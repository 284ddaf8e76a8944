"""Sphericity (image: circularity): 1 for a sphere (circle), less for other shapes.

Sphericity is the ratio of the surface of a sphere of equal volume to that of the pore;
circularity is 4π × area ÷ perimeter². Both are NaN for pores that reach the border.
Where the estimated surface is too small, as for tiny pores, they exceed 1.
"""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.measure.statistic import Colour, PoreStatistic
from napari_geosr.measure.sums import FloatArray, Pores, ratio


def sphericity(pores: Pores) -> FloatArray:
    """Return the sphericity of each pore."""
    ball = math.pi * pores.equivalent_diameter**2
    return _inside(pores, ratio(ball, pores.surface))


def circularity(pores: Pores) -> FloatArray:
    """Return the circularity of each pore."""
    return _inside(pores, ratio(4 * math.pi * pores.size, pores.surface**2))


def _inside(pores: Pores, values: FloatArray) -> FloatArray:
    values[pores.touches_border] = np.nan
    return values


STATISTICS = (
    PoreStatistic(
        "sphericity", sphericity, flat=False, order=50, colour=Colour(order=30)
    ),
    PoreStatistic(
        "circularity", circularity, flat=True, order=50, colour=Colour(order=30)
    ),
)
