"""Gaussian noise with a given correlation or spectrum (without torch).

`noise_of_scan` draws noise, and `filtered_covariance` computes its covariance after a
linear filter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.physics.noise_spectrum import reconstruction_power

FloatArray = npt.NDArray[np.float64]

#: Maximum standard deviation, in voxels, of the Gaussian kernels with which white noise
#: is filtered.
_MAX_WIDTH = 3.2
#: Largest correlation of the non-white part of the noise: the correlation of adjacent
#: voxels for the widest kernel.
_MAX_CORRELATION = math.exp(-1 / (4 * _MAX_WIDTH**2))
#: Fraction of white noise above which the correlated part is not simulated.
_ALL_WHITE = 0.98
#: Minimum number of voxels by which planes are extended along each axis while they are
#: filtered, because the filter is periodic.
_PLANE_MARGIN = 16
#: Smallest number of frequencies along an axis at which a spectrum is integrated.
_FREQUENCIES = 256


def noise_like(
    shape: Sequence[int], correlation: Mapping[str, float], rng: np.random.Generator
) -> FloatArray:
    """Draw Gaussian noise of variance 1 with given correlations of adjacent voxels.

    White noise is smoothed along each axis with the Gaussian that gives the required
    correlation; for negative correlations, its weights alternate in sign.

    Parameters
    ----------
    shape : sequence of int
        (Z, Y, X) or (Y, X).
    correlation : mapping of str to float
        Correlation by axis, as in `Noise`; noise is independent along missing axes.
    """
    from scipy import ndimage

    axes = "ZYX"[-len(shape) :].lower()
    kernels = [_kernel(round(correlation.get(axis, 0.0), 3)) for axis in axes]
    # Generate a larger array and crop it, to avoid boundary effects.
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
    """Return the kernel of unit energy that gives white noise this correlation."""
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


def noise_of_scan(
    noise: Noise, shape: Sequence[int], rng: np.random.Generator
) -> FloatArray:
    """Draw Gaussian noise of variance 1 with the measured spectrum of a scan's noise.

    Noise of a reconstruction has hardly any low frequencies: adjacent voxels may be
    correlated as in blurred noise, but much less of the noise passes through a
    denoiser.

    Parameters
    ----------
    noise : Noise
        Its correlation, white fraction and cutoff are used.
    shape : sequence of int
        (Z, Y, X) or (Y, X).
    rng : numpy.random.Generator
    """
    white, along = _white_and_rest(noise)
    if white == 1:
        return rng.standard_normal(tuple(shape))
    if noise.cutoff is None:
        found = noise_like(shape, along, rng)
    else:
        found = _reconstruction_like(shape, noise.cutoff, along.get("z", 0.0), rng)
    if white > 0:
        found = math.sqrt(1 - white) * found
        found += math.sqrt(white) * rng.standard_normal(tuple(shape))
    return found


def filtered_covariance(
    noise: Noise,
    kernels: Sequence[npt.ArrayLike],
    distance: Sequence[int] | None = None,
) -> float:
    """Return the covariance of the noise of a scan after a linear filter.

    The result is exact for the noise that `noise_of_scan` draws.

    Parameters
    ----------
    noise : Noise
        Its correlation, white fraction and cutoff are used; the variance before the
        filter is 1.
    kernels : sequence of array_like
        Weights of the filter along (Z, Y, X) or (Y, X).
    distance : sequence of int, optional
        Distance in voxels, along the same axes, between the two positions; by default
        0, which gives the variance.

    Examples
    --------
    The variance of the mean of two voxels, and the covariance of adjacent means:

    >>> noise = Noise(level=5.0, contrast=100.0, correlation={"x": 0.5})
    >>> pair = [[1.0], [0.5, 0.5]]
    >>> round(filtered_covariance(noise, pair), 3)
    0.75
    >>> round(filtered_covariance(noise, pair, (0, 2)), 3)
    0.168
    """
    weights = [np.asarray(kernel, np.float64) for kernel in kernels]
    steps = [0] * len(weights) if distance is None else [abs(d) for d in distance]
    white, along = _white_and_rest(noise)
    found = white * _overlap(weights, steps)
    if white == 1:
        return found
    if noise.cutoff is None:
        blurs = [along.get(axis, 0.0) for axis in "zyx"[-len(weights) :]]
        return found + (1 - white) * _overlap(_blurred(weights, blurs), steps)
    deep = _blurred(weights[:-2], [along.get("z", 0.0)] * len(weights[:-2]))
    plane = _plane_covariance(noise.cutoff, weights[-2:], steps[-2:])
    return found + (1 - white) * _overlap(deep, steps[:-2]) * plane


def _white_and_rest(noise: Noise) -> tuple[float, dict[str, float]]:
    """Return the white fraction, and the correlation of the non-white part per axis."""
    white = min(max(noise.white, 0.0), 1.0)
    if white > _ALL_WHITE:
        return 1.0, {}
    return white, {
        axis: min(max(value / (1 - white), -_MAX_CORRELATION), _MAX_CORRELATION)
        for axis, value in noise.correlation.items()
    }


def _blurred(
    weights: Sequence[FloatArray], correlations: Sequence[float]
) -> list[FloatArray]:
    """Return the weights of a filter, convolved with the blur that correlates noise."""
    return [
        np.convolve(kernel, np.asarray(_kernel(round(rho, 3))))
        for kernel, rho in zip(weights, correlations, strict=True)
    ]


def _overlap(weights: Sequence[FloatArray], steps: Sequence[int]) -> float:
    """Return the covariance of filtered white noise."""
    return math.prod(
        float(kernel[step:] @ kernel[: len(kernel) - step]) if step < len(kernel) else 0
        for kernel, step in zip(weights, steps, strict=True)
    )


def _plane_covariance(
    cutoff: float, weights: Sequence[FloatArray], steps: Sequence[int]
) -> float:
    """Return the covariance of the filtered noise of a back-projected slice."""
    longest = max(
        len(kernel) + step for kernel, step in zip(weights, steps, strict=True)
    )
    n = max(_FREQUENCIES, 4 * longest)
    f = np.fft.fftfreq(n)
    power = reconstruction_power(np.hypot(f[:, None], f), cutoff)
    # The spectrum is even along each axis, so only the cosines remain.
    along_y, along_x = (
        np.square(np.abs(np.fft.fft(kernel, n))) * np.cos(2 * np.pi * f * step)
        for kernel, step in zip(weights, steps, strict=True)
    )
    return float(along_y @ power @ along_x / power.sum())


def _reconstruction_like(
    shape: Sequence[int], cutoff: float, along_z: float, rng: np.random.Generator
) -> FloatArray:
    """Draw noise of variance 1 with the spectrum of filtered back-projection."""
    from scipy import fft

    # Filtered planes are periodic, so generate larger ones and crop them.
    plane = [fft.next_fast_len(n + _PLANE_MARGIN, real=True) for n in shape[-2:]]
    noise = noise_like((*shape[:-2], *plane), {"z": along_z}, rng)
    f = np.hypot(fft.fftfreq(plane[0])[:, None], fft.fftfreq(plane[1]))
    power = reconstruction_power(f, cutoff)
    amplitude = np.sqrt(power / power.mean())[:, : plane[1] // 2 + 1]
    filtered = fft.irfft2(fft.rfft2(noise) * amplitude, s=plane)
    found: FloatArray = filtered[..., : shape[-2], : shape[-1]]
    return found
