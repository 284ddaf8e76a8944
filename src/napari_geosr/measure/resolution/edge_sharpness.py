"""Sharpness of a scan, from differences between voxels one and two apart.

The mean squared difference between two voxels grows with their distance (variogram
[1]_). At sharp edges, it is proportional to the distance, so that voxels one apart have
half the value of voxels two apart. In a smooth scan, it is proportional to the square
of the distance, and the ratio is one quarter. The contribution of noise is subtracted.

References
----------
.. [1] Matheron. Principles of geostatistics. Economic Geology 58, 1246-1266 (1963).
   doi:10.2113/gsecongeo.58.8.1246
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.physics.correlated_noise import filtered_covariance

Array = npt.NDArray[np.floating]
#: Smallest fraction of the differences that must be due to structure, and not to noise.
_MIN_STRUCTURE = 0.2
#: Limits of the ratio; values beyond them result from errors of the estimated noise.
_LIMITS = (0.2, 1.0)


def edge_sharpness(boxes: Iterable[Array], noise: Noise | None = None) -> float | None:
    """Measure the sharpness of a scan in parts of it.

    Parameters
    ----------
    boxes : iterable of ndarray of shape (Z, Y, X) or (Y, X)
        Parts of the scan with structure.
    noise : Noise, optional
        Noise of the scan in its grey values. By default, the scan is
        assumed to be noise-free.

    Returns
    -------
    float or None
        Mean squared difference of voxels one apart, relative to voxels two apart: about
        0.25 for a blurred scan, 0.5 for sharp edges, up to 1 for structure of a single
        voxel. None if there is little but noise, or no structure at all.

    Examples
    --------
    >>> sharp = np.zeros((8, 16)); sharp[:, 8:] = 1
    >>> round(edge_sharpness([sharp]), 2)
    0.47
    >>> edge_sharpness([np.tile(np.arange(16.0), (8, 1))])
    0.25
    >>> edge_sharpness([np.ones((8, 8))]) is None
    True
    """
    sums, pairs = np.zeros((2, 3)), np.zeros((2, 3))
    variance, voxels = 0.0, 0
    for box in boxes:
        values = np.asarray(box, np.float32)
        for axis in range(-values.ndim, 0):
            for step in (1, 2):
                n = values.shape[axis]
                if n <= step:
                    continue
                ahead = values.take(range(step, n), axis)
                behind = values.take(range(n - step), axis)
                squares = np.square(ahead - behind, dtype=np.float64)
                sums[step - 1, axis] += squares.sum()
                pairs[step - 1, axis] += squares.size
        if noise is not None:
            variance += float(np.square(noise.at(values), dtype=np.float64).sum())
            voxels += values.size
    measured = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0)
    structure = measured.copy()
    if noise is not None and voxels:
        structure -= variance / voxels * _noise_differences(noise)
    near, far = np.where(pairs[1] > 0, structure, 0.0).sum(1)
    if near <= _MIN_STRUCTURE * measured[0].sum() or far <= 0:
        return None
    return float(np.clip(near / far, *_LIMITS))


def _noise_differences(noise: Noise) -> npt.NDArray[np.float64]:
    """Return the mean squared differences of noise of level 1, as (step, axis)."""
    found = np.zeros((2, 3))
    for axis in range(3):
        for step in (1, 2):
            kernels = [[1.0]] * 3
            kernels[axis] = [1.0, *[0.0] * (step - 1), -1.0]
            found[step - 1, axis] = filtered_covariance(noise, kernels)
    return found
