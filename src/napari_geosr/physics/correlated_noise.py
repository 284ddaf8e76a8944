"""Gaussian noise with a given correlation of neighbouring voxels (without torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Largest kernel width in voxels: adjacent voxels then have a correlation of 0.95.
_MAX_WIDTH = 3.2


def noise_like(
    shape: Sequence[int], correlation: Mapping[str, float], rng: np.random.Generator
) -> FloatArray:
    """Gaussian noise of variance 1 with given correlations of neighbouring voxels.

    White noise is smoothed along each axis with the Gaussian that gives the required
    correlation; for negative correlations, its weights alternate in sign.

    Parameters
    ----------
    shape : sequence of int
        (Z, Y, X) or (Y, X).
    correlation : mapping of str to float
        By axis, as in `Noise`; axes that are missing are independent.
    """
    from scipy import ndimage

    axes = "ZYX"[-len(shape) :].lower()
    kernels = [_kernel(round(correlation.get(axis, 0.0), 3)) for axis in axes]
    # Generate a larger array and crop it, so that borders are like the interior.
    margins = [len(kernel) // 2 for kernel in kernels]
    wide = [n + 2 * m for n, m in zip(shape, margins, strict=True)]
    noise = rng.standard_normal(wide)
    for axis, kernel in enumerate(kernels):
        if len(kernel) > 1:
            noise = ndimage.convolve1d(noise, np.asarray(kernel), axis=axis)
    inner = tuple(slice(m, m + n) for n, m in zip(shape, margins, strict=True))
    found: FloatArray = noise[inner]
    return found


@lru_cache(maxsize=64)
def _kernel(correlation: float) -> tuple[float, ...]:
    """Kernel of unit energy that correlates white noise by `correlation`."""
    if abs(correlation) < 0.005:
        return (1.0,)
    low, high = 0.05, _MAX_WIDTH
    for _ in range(40):
        middle = 0.5 * (low + high)
        kernel = _gaussian(middle)
        if float(kernel[1:] @ kernel[:-1]) < abs(correlation):
            low = middle
        else:
            high = middle
    kernel = _gaussian(low)
    if correlation < 0:
        kernel = kernel * (-1.0) ** np.arange(len(kernel))
    return tuple(float(value) for value in kernel)


def _gaussian(width: float) -> FloatArray:
    radius = int(4 * width + 1)
    places = np.arange(-radius, radius + 1)
    kernel: FloatArray = np.exp(-0.5 * (places / width) ** 2)
    return np.asarray(kernel / np.sqrt(np.square(kernel).sum()))
