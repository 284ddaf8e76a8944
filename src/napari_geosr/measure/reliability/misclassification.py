"""Fractions of voxels that are on the wrong side of a threshold because of noise.

References
----------
.. [1] Laird. Nonparametric maximum likelihood estimation of a mixing distribution.
   J. Am. Stat. Assoc. 73, 805-811 (1978). doi:10.1080/01621459.1978.10480103
.. [2] Lucy. An iterative technique for the rectification of observed distributions.
   Astron. J. 79, 745-754 (1974). doi:10.1086/111605
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.measure.histogram import GreyHistogram

Array = npt.NDArray[np.float64]

#: Maximum noise level at a grey value, relative to that at other grey values, at which
#: this grey value counts as noise-free; the variation at the others is then structure.
_NO_NOISE = 0.01
#: Fraction of misclassified voxels at and above which pore counts are unreliable (in
#: phantoms, they were wrong by a quarter).
_COUNTS_LIMIT = 0.02
#: Fraction of misclassified voxels at and above which porosities are unreliable.
_POROSITY_LIMIT = 0.05
#: Relative change of the smaller phase at and above which the porosity is unreliable if
#: enough voxels are misclassified.
_PHASE_CHANGE_LIMIT = 0.10
#: Minimum fraction of misclassified voxels for that change to make the porosity
#: unreliable.
_MIN_CHANGED_SHARE = 0.005
#: Number of bins per standard deviation of the noise.
_BINS_PER_DEVIATION = 3.0
#: Minimum number of bins.
_MIN_BINS = 64
#: Maximum number of bins.
_MAX_BINS = 512
#: Fraction of the voxels at either end of the histogram that is put into the outermost
#: bin.
_TAIL = 5e-4
#: Distance by which noise-free values may lie beyond the histogram, in standard
#: deviations of the noise.
_BEYOND = 4.0
#: Number of iterations of the deconvolution; more would change the misclassified
#: fractions by less than 0.01.
_ITERATIONS = 400
#: Assumed levels of unknown noise, as fractions of the range of grey values.
_ASSUMED = (0.4, 0.3, 0.25, 0.2, 0.16, 0.13, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02)
#: Maximum difference between the cumulative histogram of the scan and that of
#: noise-free values plus noise of an assumed level.
_MAX_MISFIT = 0.005


@dataclass(frozen=True)
class Misclassification:
    """Expected fractions of voxels on the wrong side of the threshold due to noise.

    Their sum is more accurate than either of them: near the threshold, the phase of a
    voxel cannot be inferred from its grey value.

    Attributes
    ----------
    to_pore : float
        Fraction of all voxels that are solid but classified as pore, 0 … 1.
    to_solid : float
        Fraction of all voxels that are pore but classified as solid, 0 … 1.
    constant : float
        Largest fraction of the voxels on either side of the threshold that have a
        single grey value at the end of the histogram: padding, or a phase of a
        noise-free scan.
    ends : (float, float)
        Range of grey values in which noise is visible.
    """

    to_pore: float
    to_solid: float
    constant: float = 0.0
    ends: tuple[float, float] = (-math.inf, math.inf)

    @property
    def share(self) -> float:
        """Fraction of all voxels that are misclassified."""
        return self.to_pore + self.to_solid

    @property
    def makes_counts_unreliable(self) -> bool:
        """Whether pore counts and sizes are unreliable."""
        return self.share >= _COUNTS_LIMIT

    def makes_porosity_unreliable(self, porosity: float) -> bool:
        """Whether a measured porosity is unreliable."""
        if self.share >= _POROSITY_LIMIT:
            return True
        smaller = min(porosity, 1 - porosity)
        change = abs(self.to_pore - self.to_solid)
        return (
            self.share >= _MIN_CHANGED_SHARE and change >= _PHASE_CHANGE_LIMIT * smaller
        )


def misclassification(
    histogram: GreyHistogram, threshold: float, noise: Noise, phase: str
) -> Misclassification:
    """Estimate the fractions of misclassified voxels from the histogram and the noise.

    The distribution of the noise-free grey values is found by deconvolving the
    histogram with Gaussian noise (maximum likelihood by expectation-maximisation
    [1]_, [2]_), for any number of phases and for voxels that contain two phases. A
    voxel with the noise-free grey value g is on the wrong side of the threshold t with
    probability Φ(−|t − g| / σ(g)).

    Parameters
    ----------
    histogram : GreyHistogram
        Histogram of the sample.
    threshold : float
    noise : Noise
        Noise of the scan; its standard deviation may depend on the grey value.
    phase : str
        ``"dark"``: pores are at or below the threshold; ``"bright"``: above it.
    """
    low, high = _inner_range(histogram)
    levels = [float(noise.at(g)) for g in (low, (low + high) / 2, high)]
    smallest = min(levels)
    is_clean = smallest <= _NO_NOISE * max(levels)
    if noise.is_negligible or is_clean or not low < high:
        return Misclassification(0.0, 0.0)
    edges = _edges(histogram, low, high, smallest)
    values = np.clip(histogram.centres, low, high)
    observed, _ = np.histogram(values, bins=edges, weights=histogram.counts)
    return _with_noise(observed, threshold, noise, phase, edges)[0]


def possible_misclassification(
    histogram: GreyHistogram, threshold: float, phase: str
) -> Misclassification:
    """Return the largest misclassified fractions that agree with the histogram.

    This function is for noise of unknown level and spectrum; it relies on the fact
    that noise of any correlation widens the peaks of the histogram. The function
    assumes the highest noise level at which the histogram can be explained as
    noise-free values plus Gaussian noise of equal strength at all grey values.

    Parameters
    ----------
    histogram : GreyHistogram
        Histogram of the sample.
    threshold : float
    phase : str
        As in `misclassification`.
    """
    low, high = _inner_range(histogram)
    if not low < high:
        return Misclassification(0.0, 0.0)
    limit = max(_MAX_MISFIT, float(histogram.counts.sum()) ** -0.5)
    for part in _ASSUMED:
        noise = Noise(level=part * (high - low), contrast=high - low)
        edges = _edges(histogram, low, high, noise.level)
        observed = _spread(histogram, edges)
        wrong, misfit = _with_noise(observed, threshold, noise, phase, edges)
        if misfit <= limit:
            return wrong
    return Misclassification(0.0, 0.0)


def _spread(histogram: GreyHistogram, edges: Array) -> Array:
    """Spread the counts of each grey value halfway to its neighbours; sum them by bin.

    Converted eight-bit values have gaps, so that bins of equal width contain
    different numbers of possible values.
    """
    is_used = histogram.counts > 0
    centres, counts = histogram.centres[is_used], histogram.counts[is_used]
    middles = (centres[1:] + centres[:-1]) / 2
    # Values at the ends may be clipped; they are counted in the outermost bins.
    total = np.concatenate([[0.0], np.cumsum(counts[1:-1])])
    below = np.interp(edges[1:-1], middles, total)
    found = np.diff(np.concatenate([[0.0], below, [total[-1]]]))
    found[0] += counts[0]
    found[-1] += counts[-1]
    return np.asarray(found, np.float64)


def _with_noise(
    observed: Array, threshold: float, noise: Noise, phase: str, edges: Array
) -> tuple[Misclassification, float]:
    """Return the fractions misclassified by this noise, and its misfit to a histogram.

    The misfit is the maximum difference between cumulative histograms.
    """
    from scipy.special import ndtr

    observed = observed / observed.sum()
    centres = _noise_free_values(edges, noise)
    deviation = np.maximum(noise.at(centres), 1e-12 * (edges[-1] - edges[0]))
    up_to = ndtr((edges[:, None] - centres) / deviation)
    up_to[0], up_to[-1] = 0.0, 1.0  # clipped grey values lie in the outermost bins
    kernel = np.diff(up_to, axis=0)
    clean = _deconvolved(observed, kernel)
    misfit = float(np.abs(np.cumsum(kernel @ clean - observed)).max())
    wrong = clean * ndtr(-np.abs(threshold - centres) / deviation)
    below = centres <= threshold
    upwards, downwards = float(wrong[below].sum()), float(wrong[~below].sum())
    constant = max(
        float(clean[outside].sum() / max(clean[side].sum(), 1e-12))
        for outside, side in (
            (centres < edges[0], below),
            (centres > edges[-1], ~below),
        )
    )
    to_pore, to_solid = (
        (downwards, upwards) if phase == "dark" else (upwards, downwards)
    )
    ends = float(edges[1]), float(edges[-2])
    return Misclassification(to_pore, to_solid, constant, ends), misfit


def _inner_range(histogram: GreyHistogram) -> tuple[float, float]:
    """Find the range of grey values without outliers, which would require many bins."""
    total = np.cumsum(histogram.counts)
    ends = np.searchsorted(total, [_TAIL * total[-1], (1 - _TAIL) * total[-1]])
    low, high = histogram.centres[np.minimum(ends, len(total) - 1)]
    return float(low), float(high)


def _edges(
    histogram: GreyHistogram, low: float, high: float, deviation: float
) -> Array:
    """Choose bins narrower than the noise.

    If the values are integers, all bins contain equally many possible values.
    """
    n_bins = np.clip(
        _BINS_PER_DEVIATION * (high - low) / deviation, _MIN_BINS, _MAX_BINS
    )
    width = (high - low) / float(n_bins)
    if histogram.is_exact:
        width = max(1.0, float(np.floor(width)))
    # The lowest and the highest value lie within the first and the last bin.
    start = low - (0.5 if histogram.is_exact else width / 2)
    n = int(np.floor((high - start) / width)) + 1
    return np.asarray(start + width * np.arange(n + 1), np.float64)


def _noise_free_values(edges: Array, noise: Noise) -> Array:
    """Return the centres of the bins, and of further bins beyond the histogram.

    Many voxels of one value at an end of the histogram are clipped noise if the
    adjacent bins follow a Gaussian; otherwise, they are constant. The further bins
    allow both cases to be fitted: noise around a value well beyond the end is clipped
    completely, so its voxels are constant.
    """
    width = edges[1] - edges[0]
    n_low, n_high = (
        int(np.clip(np.ceil(_BEYOND * float(noise.at(end)) / width), 1, _MAX_BINS))
        for end in edges[[0, -1]]
    )
    bins = np.arange(-n_low, len(edges) - 1 + n_high)
    return np.asarray(edges[0] + (bins + 0.5) * width, np.float64)


def _deconvolved(observed: Array, kernel: Array) -> Array:
    """Deconvolve the observed distribution; `kernel` has shape (observed, clean)."""
    n = kernel.shape[1]
    # Start with a small value in all bins, even in those where nothing was observed:
    # voxels may be clipped there.
    clean = kernel.T @ observed + 0.01 / n
    clean /= clean.sum()
    for _ in range(_ITERATIONS):
        expected = np.maximum(kernel @ clean, 1e-30)
        clean = clean * (kernel.T @ (observed / expected))
    return np.asarray(clean / clean.sum(), np.float64)
