"""Generate noise with the level and spectrum measured in a scan; needs only numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.physics.correlated_noise import noise_like, noise_of_scan

__all__ = ["level_map", "noise_like", "noise_of_scan"]

FloatArray = npt.NDArray[np.float64]

#: Edge length, in voxels, of the neighbourhood in which the grey value for the noise
#: curve is estimated.
_EDGE = 3


def level_map(window: FloatArray, noise: Noise) -> FloatArray:
    """Return the standard deviation of the noise at every voxel of `window`.

    The level is the noise curve evaluated at the grey value estimated by a local Wiener
    filter (J. S. Lee, IEEE Trans. Pattern Anal. Mach. Intell. 2, 165-168, 1980,
    doi:10.1109/TPAMI.1980.4766994): the local mean where the window is uniform, and the
    voxel itself where the window varies more than the noise. The local mean at every
    voxel would give small bright objects too little noise and their surroundings too
    much.
    """
    from scipy import ndimage

    if len(noise.greys) == 1:
        return np.full(window.shape, noise.levels[0])
    values = np.asarray(window, np.float64)
    values = values - values.mean()
    mean = ndimage.uniform_filter(values, _EDGE)
    variance = np.maximum(ndimage.uniform_filter(values**2, _EDGE) - mean**2, 0.0)
    offset = np.asarray(window, np.float64).mean()
    expected = noise.at(mean + offset) ** 2
    share = np.maximum(variance - expected, 0.0) / np.maximum(variance, 1e-300)
    return noise.at(mean + share * (values - mean) + offset)
