"""Learn from one scan with known noise by adding more of that noise.

Noise ``n'`` is drawn with the statistics of the noise ``n`` in the scan ``y``. The
input is ``y + α n'`` and the target is ``y − n' / α``. Their noise, ``n + α n'`` and
``n − n' / α``, is uncorrelated, so for Gaussian noise the network learns the same as
from a clean target [1]_, whatever the correlation between voxels. The noise level of
the input, ``√(1 + α²)`` times that of the scan, is passed to networks that take it.

References
----------
.. [1] Pang, Zheng, Quan, Ji. Recorrupted-to-Recorrupted: unsupervised deep learning for
   image denoising. CVPR (2021). doi:10.1109/CVPR46437.2021.00208
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.learning.noise_input import noise_of
from napari_geosr.physics.correlated_noise import noise_of_scan

if TYPE_CHECKING:
    from napari_geosr.learning.method import Arrays

Array = AnyArray

#: Level of the added noise, relative to that of the scan (α). A higher level makes the
#: input less similar to the scan; a lower level makes the target noisier.
STRENGTH = 0.5
#: Edge length, in voxels, of the box for the mean that estimates the noise-free grey
#: value.
_BOX = 5


def recorrupt(sample: Arrays, rng: np.random.Generator, *, deep: bool) -> Arrays:
    """Turn a patch into an input and a target with uncorrelated noise.

    Parameters
    ----------
    sample : dict of str to ndarray
        ``"source"`` (C, [Z,] Y, X) with its noise (``"greys"``, ``"levels"``,
        ``"correlation"``, ``"spectrum"``) and, unless `deep`, the indices of its
        ``"slices"``.
    deep : bool
        Whether the network convolves along Z as well.

    Returns
    -------
    dict of str to ndarray
        ``"source"``, ``"target"`` (1, [Z,] Y, X) and the noise of the source.
    """
    patch = sample["source"]
    noise = _draw_noise(sample, rng, deep) * _level(sample)
    middle = slice(patch.shape[0] // 2, patch.shape[0] // 2 + 1)
    return {
        "source": (patch + STRENGTH * noise).astype(np.float32),
        "target": (patch[middle] - noise[middle] / STRENGTH).astype(np.float32),
        "greys": sample["greys"],
        "levels": sample["levels"] * np.float32(math.sqrt(1 + STRENGTH**2)),
        "correlation": sample["correlation"],
    }


def _draw_noise(sample: Arrays, rng: np.random.Generator, deep: bool) -> Array:
    """Draw noise of variance 1 for a patch; repeated slices have the same noise."""
    shape = sample["source"].shape
    noise = noise_of(sample)
    if deep:
        return noise_of_scan(noise, shape[1:], rng)[None]
    indices = sample["slices"].ravel()
    first = int(indices.min())
    depth = int(indices.max()) - first + 1
    drawn = noise_of_scan(noise, (depth, *shape[1:]), rng)
    return np.asarray(drawn[indices - first])


def _level(sample: Arrays) -> Array:
    """Return the standard deviation of the noise at every voxel, for all channels."""
    from scipy.ndimage import uniform_filter

    mean = sample["source"].mean(0)
    smooth = uniform_filter(mean, _BOX, mode="nearest")
    return np.asarray(np.interp(smooth, sample["greys"], sample["levels"]))[None]
