"""Sphericity (image: circularity): 1 for a sphere (circle), less for any other shape.

Sphericity is the surface of the sphere of the same volume ÷ the pore's surface;
circularity is 4π × area ÷ perimeter². Both are NaN for pores that reach the border.
"""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.measure.statistic import Colour, PoreStatistic
from napari_geosr.measure.sums import FloatArray, Pores, ratio


def sphericity(pores: Pores) -> FloatArray:
    """Return the sphericity of each pore."""
    ball = math.pi * pores.equivalent_diameter**2
    return _at_most_one(pores, ratio(ball, pores.surface))


def circularity(pores: Pores) -> FloatArray:
    """Return the circularity of each pore."""
    return _at_most_one(pores, ratio(4 * math.pi * pores.size, pores.surface**2))


def _at_most_one(pores: Pores, values: FloatArray) -> FloatArray:
    values[pores.touches_border] = np.nan
    # The estimated surface of a tiny pore may be below that of a sphere of equal
    # volume.
    return np.minimum(values, 1.0)


STATISTICS = (
    PoreStatistic(
        "sphericity", sphericity, flat=False, order=50, colour=Colour(order=30)
    ),
    PoreStatistic(
        "circularity", circularity, flat=True, order=50, colour=Colour(order=30)
    ),
)
