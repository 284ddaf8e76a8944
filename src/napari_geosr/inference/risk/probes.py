"""Noise with the level and spectrum measured in a scan. numpy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.physics.correlated_noise import noise_like, noise_of_scan

__all__ = ["level_map", "noise_like", "noise_of_scan"]

FloatArray = npt.NDArray[np.float64]

#: Widths, along Z, Y and X, of the smoothing that gives the grey value for the
#: noise-level curve; wider ones underestimate the variance at edges.
_GREY_WIDTH = (0.7, 1.0, 1.0)


def level_map(window: FloatArray, noise: Noise) -> FloatArray:
    """Standard deviation of the noise at every voxel of `window`.

    The level is the noise curve evaluated at the lightly smoothed grey value.
    """
    from scipy import ndimage

    if len(noise.greys) == 1:
        return np.full(window.shape, noise.levels[0])
    grey = ndimage.gaussian_filter(window, _GREY_WIDTH[-window.ndim :])
    return noise.at(grey)
