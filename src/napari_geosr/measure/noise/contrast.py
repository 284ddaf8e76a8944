"""Estimates the contrast that a scan would have without its noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_geosr.measure.noise.basis import Array
from napari_geosr.measure.noise.sample import NoiseSample

#: Number of bins of the histogram for the contrast.
_BINS = 256
#: Number of iterations of the deconvolution of this histogram.
_ITERATIONS = 400
#: Percentiles of the noise-free grey values between which the contrast is measured.
PERCENTILES = (2.0, 98.0)
#: Percentiles for scans in which dark pores are so rare that the percentiles above do
#: not include them.
RARE_DARK_PERCENTILES = (0.1, 98.0)
#: Percentiles for scans in which bright objects are equally rare, and the other voxels
#: are uniform (see `is_uniform`). In other scans, rare bright objects such as the spots
#: of a fluorescence image are not included: the noise would seem weak relative to them,
#: although it matters for all other objects.
RARE_BRIGHT_PERCENTILES = (2.0, 99.9)
#: Percentiles that exclude rare bright objects and their blurred edges.
_WITHOUT_BRIGHT = (2.0, 95.0)
#: Maximum distance between these percentiles in a uniform scan, as a multiple of the
#: noise: 3.7 for normally distributed noise alone, and at least 8 in real CT and
#: fluorescence scans.
_MAX_UNIFORM = 5.0
#: Contrast of rare objects, as a multiple of the noise in the values from which it was
#: measured, above which it cannot be noise.
_CLEAR_CONTRAST = 3.0
#: Minimum ratio of the contrast of rare objects to that of the other voxels.
_RARE_RATIO = 2.0
#: Percentiles between which nearly all grey values lie. If the range of all values is
#: wider than this range by more than the factor below, the other values are excluded
#: from the histogram.
_USUAL = (0.1, 99.9)
_MAX_RANGES = 4.0
#: Noise level, relative to the range between the percentiles of the contrast, above
#: which voxels are first averaged in pairs along each axis.
_STRONG_NOISE = 0.12


def contrast_of(
    sample: NoiseSample,
    greys: Sequence[float],
    levels: Sequence[float],
    lags: Sequence[float],
) -> float:
    """Return the contrast that a scan would have without its noise.

    Rare dark pores count wherever they are clearly visible. Rare bright objects count
    only where the other voxels are uniform.

    Parameters
    ----------
    sample : NoiseSample
    greys, levels : sequence of float
        Grey values, and the standard deviation of the noise at each of them.
    lags : sequence of float
        Correlation of the noise of adjacent voxels along Z, Y and X.
    """

    def level_at(places: Array) -> Array:
        return np.asarray(np.interp(places, greys, levels))

    contrast, _ = noise_free_contrast(sample, level_at, lags)
    if sample.has_single:
        return contrast
    kinds = [RARE_DARK_PERCENTILES]
    if is_uniform(sample, level_at, lags):
        kinds.append(RARE_BRIGHT_PERCENTILES)
    for percentiles in kinds:
        rare, spread = noise_free_contrast(sample, level_at, lags, percentiles)
        if rare > max(_CLEAR_CONTRAST * spread, _RARE_RATIO * contrast):
            return rare
    return contrast


def noise_free_contrast(
    sample: NoiseSample,
    level: Callable[[Array], Array],
    lags: Sequence[float],
    percentiles: tuple[float, float] = PERCENTILES,
) -> tuple[float, float]:
    """Return the distance between two percentiles of a scan, as if it had no noise.

    The histogram of a scan is the histogram of its object, spread by the noise at each
    grey value. Richardson-Lucy deconvolution (Richardson 1972,
    doi:10.1364/JOSA.62.000055; Lucy 1974) reverses this, and preserves the grey values
    of thin structures. If the noise is strong, pairs of voxels are averaged first.

    Parameters
    ----------
    sample : NoiseSample
    level : callable
        Standard deviation of the noise at given grey values.
    lags : sequence of float
        Correlation of the noise of adjacent voxels along Z, Y and X.
    percentiles : (float, float)
        Percentiles between which the contrast is measured.

    Returns
    -------
    contrast : float
        Contrast in grey values.
    spread : float
        Typical standard deviation of the noise in the values from which the contrast
        was measured; it is lower than that of the voxels if pairs of voxels were
        averaged.
    """
    values = sample.values.ravel()
    low, high = np.percentile(values, percentiles)
    if not high > low:
        return 0.0, 0.0
    typical = float(np.median(level(values[:: max(1, len(values) // 1000)])))
    factor = 1.0
    if typical > _STRONG_NOISE * (high - low):
        values, factor = _averaged(sample.values, lags)
    contrast = _deconvolved(values, lambda places: factor * level(places), percentiles)
    return contrast, factor * typical


def is_uniform(
    sample: NoiseSample, level: Callable[[Array], Array], lags: Sequence[float]
) -> bool:
    """Return whether only noise can be seen in a scan, except for bright objects.

    The bright objects may occupy up to 5 % of the scan, with their blurred edges.
    Pairs of voxels are averaged along each axis, which reduces noise more than
    structure.
    """
    values, factor = _averaged(sample.values, lags)
    low, high = np.percentile(values, _WITHOUT_BRIGHT)
    typical = float(np.median(level(values[:: max(1, len(values) // 1000)])))
    return bool(high - low < _MAX_UNIFORM * factor * typical)


def _averaged(blocks: Array, lags: Sequence[float]) -> tuple[Array, float]:
    """Average voxels in pairs along each axis, and return the ratio of noise levels."""
    factor = 1.0
    for axis, lag in enumerate(lags, 1):
        n = blocks.shape[axis] // 2 * 2
        if n:
            even = np.take(blocks, range(0, n, 2), axis)
            blocks = (even + np.take(blocks, range(1, n, 2), axis)) / 2
            factor *= (1 + lag) / 2
    return blocks.ravel(), float(np.sqrt(factor))


def _deconvolved(
    values: Array, level: Callable[[Array], Array], percentiles: tuple[float, float]
) -> float:
    edges, clean = noise_free_histogram(values, level)
    if clean is None:
        low, high = np.percentile(values, percentiles)
        return float(high - low)
    share = np.concatenate([[0], np.cumsum(clean)]) / clean.sum()
    low, high = np.interp(np.array(percentiles) / 100, share, edges)
    return float(high - low)


def noise_free_histogram(
    values: Array, level: Callable[[Array], Array]
) -> tuple[Array, Array | None]:
    """Return the histogram that the grey values would have without noise.

    Parameters
    ----------
    values : ndarray
        Grey values with noise, not all the same.
    level : callable
        Standard deviation of the noise at given grey values.

    Returns
    -------
    edges : ndarray
        Edges of the bins, in grey values.
    shares : ndarray or None
        Fraction of the values in each bin; None if the noise is narrower than half a
        bin.
    """
    from scipy.special import ndtr

    lowest, highest = float(values.min()), float(values.max())
    usual = np.percentile(values, _USUAL)
    if highest - lowest > _MAX_RANGES * np.ptp(usual) > 0:
        lowest, highest = float(usual[0]), float(usual[1])
    edges = np.linspace(lowest, highest, _BINS + 1)
    places = (edges[1:] + edges[:-1]) / 2
    levels = level(places)
    if levels.max() < 0.5 * (edges[1] - edges[0]):
        return edges, None
    counts = np.histogram(values, edges)[0] / len(values)
    # Column j: distribution of the grey value j after noise is added.
    spread = ndtr((edges[:, None] - places) / np.maximum(levels, 1e-9 * np.ptp(places)))
    spread[0], spread[-1] = 0, 1
    matrix = np.diff(spread, axis=0)
    clean = np.full(_BINS, 1 / _BINS)
    for _ in range(_ITERATIONS):
        clean *= matrix.T @ (counts / np.maximum(matrix @ clean, 1e-12))
    return edges, clean / clean.sum()
