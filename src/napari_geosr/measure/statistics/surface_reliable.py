"""Whether a pore is large enough for its surface to be measured."""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.measure.statistic import PoreStatistic
from napari_geosr.measure.sums import BoolArray, Pores

#: Radius in voxels below which no surface estimator is reliable.
RELIABLE_RADIUS_VOXELS = 4.0


def surface_reliable(pores: Pores) -> BoolArray:
    """Whether the sphere (image: circle) of the same size has at least this radius."""
    voxels = pores.voxels
    if pores.geometry.flat:
        radius = np.sqrt(voxels / math.pi)
    else:
        radius = np.cbrt(voxels * 3 / (4 * math.pi))
    reliable: BoolArray = radius >= RELIABLE_RADIUS_VOXELS
    return reliable


STATISTICS = (PoreStatistic("surface_reliable", surface_reliable, order=60),)
