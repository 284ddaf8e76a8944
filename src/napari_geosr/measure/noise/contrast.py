"""The contrast that a scan would have without its noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_geosr.measure.noise.basis import Array
from napari_geosr.measure.noise.sample import NoiseSample

#: Grey values of the histogram, and rounds of its deconvolution.
_BINS, _ROUNDS = 256, 400
#: Between these percentiles.
PERCENTILES = (2.0, 98.0)
#: Noise above this part of the range between them is averaged over 2 × 2 × 2 voxels.
_STRONG = 0.12


def noise_free_contrast(
    sample: NoiseSample, level: Callable[[Array], Array], lags: Sequence[float]
) -> float:
    """Distance between the 2nd and 98th percentile of the scan without its noise.

    The histogram of a scan is that of its object, each grey value spread by the noise
    that it has. Richardson (1972, doi:10.1364/JOSA.62.000055) and Lucy (1974) take that
    back; grey values stay what they are in thin structures. Only strong noise is
    averaged over pairs of voxels before.

    Parameters
    ----------
    sample : NoiseSample
    level : callable
        Standard deviation of the noise at grey values.
    lags : sequence of float
        Correlation of the noise of neighbours along Z, Y and X.
    """
    values = sample.values.ravel()
    low, high = np.percentile(values, PERCENTILES)
    if not high > low:
        return 0.0
    typical = float(np.median(level(values[:: max(1, len(values) // 1000)])))
    factor = 1.0
    if typical > _STRONG * (high - low):
        values, factor = _averaged(sample.values, lags)
    return _deconvolved(values, lambda places: factor * level(places))


def _averaged(blocks: Array, lags: Sequence[float]) -> tuple[Array, float]:
    """Means of pairs of voxels along each axis, and what they leave of the noise."""
    factor = 1.0
    for axis, lag in enumerate(lags, 1):
        n = blocks.shape[axis] // 2 * 2
        if n:
            even = np.take(blocks, range(0, n, 2), axis)
            blocks = (even + np.take(blocks, range(1, n, 2), axis)) / 2
            factor *= (1 + lag) / 2
    return blocks.ravel(), float(np.sqrt(factor))


def _deconvolved(values: Array, level: Callable[[Array], Array]) -> float:
    from scipy.special import ndtr

    lowest, highest = float(values.min()), float(values.max())
    edges = np.linspace(lowest, highest, _BINS + 1)
    places = (edges[1:] + edges[:-1]) / 2
    levels = level(places)
    if levels.max() < 0.5 * (edges[1] - edges[0]):
        low, high = np.percentile(values, PERCENTILES)
        return float(high - low)
    counts = np.histogram(values, edges)[0] / len(values)
    # Column j: where noise takes the grey value j.
    spread = ndtr((edges[:, None] - places) / np.maximum(levels, 1e-9 * np.ptp(places)))
    spread[0], spread[-1] = 0, 1
    matrix = np.diff(spread, axis=0)
    found = np.full(_BINS, 1 / _BINS)
    for _ in range(_ROUNDS):
        found *= matrix.T @ (counts / np.maximum(matrix @ found, 1e-12))
    share = np.concatenate([[0], np.cumsum(found)]) / found.sum()
    low, high = np.interp(np.array(PERCENTILES) / 100, share, edges)
    return float(high - low)
