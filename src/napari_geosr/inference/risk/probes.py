"""Noise of the level and correlation that was measured in a scan. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_geosr.core.noise import Noise

FloatArray = npt.NDArray[np.float64]

#: Kernels are this wide at most: a correlation of 0.95 of neighbours.
_WIDEST = 3.2
#: Widths of the smoothing that a grey value is read from, along Z, Y and X.
_GREY_WIDTH = (0.5, 1.0, 1.0)


def noise_like(
    shape: Sequence[int], correlation: Mapping[str, float], rng: np.random.Generator
) -> FloatArray:
    """Gaussian noise of variance 1 with given correlations of neighbours.

    White noise smoothed along each axis with the Gaussian whose neighbours correlate
    as asked for; where they are to anticorrelate, with one of alternating signs.

    Parameters
    ----------
    shape : sequence of int
        (Z, Y, X) or (Y, X).
    correlation : mapping of str to float
        By axis, as in `Noise`; axes that are missing are independent.
    """
    axes = "ZYX"[-len(shape) :].lower()
    kernels = [_kernel(round(correlation.get(axis, 0.0), 3)) for axis in axes]
    # Larger first and cut afterwards, so that the border is as the middle.
    margins = [len(kernel) // 2 for kernel in kernels]
    wide = [n + 2 * m for n, m in zip(shape, margins, strict=True)]
    noise = rng.standard_normal(wide)
    for axis, kernel in enumerate(kernels):
        if len(kernel) > 1:
            noise = ndimage.convolve1d(noise, np.asarray(kernel), axis=axis)
    inner = tuple(slice(m, m + n) for n, m in zip(shape, margins, strict=True))
    found: FloatArray = noise[inner]
    return found


def level_map(window: FloatArray, noise: Noise) -> FloatArray:
    """Standard deviation of the noise at every voxel of `window`.

    Read from the curve of levels at the lightly smoothed grey value.
    """
    if len(noise.greys) == 1:
        return np.full(window.shape, noise.levels[0])
    grey = ndimage.gaussian_filter(window, _GREY_WIDTH[-window.ndim :])
    return noise.at(grey)


@lru_cache(maxsize=64)
def _kernel(wanted: float) -> tuple[float, ...]:
    """Kernel of unit energy after which neighbours of white noise correlate so."""
    if abs(wanted) < 0.005:
        return (1.0,)
    low, high = 0.05, _WIDEST
    for _ in range(40):
        middle = 0.5 * (low + high)
        kernel = _gaussian(middle)
        if float(kernel[1:] @ kernel[:-1]) < abs(wanted):
            low = middle
        else:
            high = middle
    kernel = _gaussian(low)
    if wanted < 0:
        kernel = kernel * (-1.0) ** np.arange(len(kernel))
    return tuple(float(value) for value in kernel)


def _gaussian(width: float) -> FloatArray:
    radius = int(4 * width + 1)
    places = np.arange(-radius, radius + 1)
    kernel: FloatArray = np.exp(-0.5 * (places / width) ** 2)
    return kernel / np.sqrt(np.square(kernel).sum())
