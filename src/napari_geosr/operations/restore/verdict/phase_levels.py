"""Finds the noise-free grey values of the two phases of a scan."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.measure.noise.contrast import noise_free_histogram
from napari_geosr.operations.restore.verdict.pore_counts import Mask, threshold_of

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample

Array = npt.NDArray[np.float64]

#: Minimum distance between the classes of Otsu's threshold, relative to that between
#: the phases, at which the threshold separates the phases. If pores are rare, the
#: threshold may split the noise of the solid instead.
_MIN_DISTANCE = 0.25
#: Otsu's threshold separates the phases of a noisy scan if the fraction of voxels that
#: it assigns to the rarer phase is at most this multiple of the true fraction: at most
#: half of these voxels are then assigned to it because of noise.
_MAX_RARER_RATIO = 2.0
#: Percentiles of the noise-free grey values that are extreme enough to find rare
#: objects.
_RARE = (0.05, 99.95)
#: Minimum distance of rare objects from the nearer phase, relative to that between the
#: phases, at which they are a separate phase; other objects are texture.
_MIN_RARE_DISTANCE = 4.0
#: Minimum depth of the valleys next to a peak, relative to its height, at which the
#: peak is a separate phase.
_MIN_PROMINENCE = 0.5
#: Minimum fraction of the voxels that a peak of the histogram must contain to be a
#: phase.
_MIN_PHASE = 0.05
#: Value added to each bin of the histogram, so that no class is empty.
_TINY = 1e-9


@dataclass(frozen=True)
class PhaseLevels:
    """Dark and bright phases of a scan.

    Attributes
    ----------
    dark, bright : float
        Median grey value of each phase, without noise and not smoothed: fine pores are
        as dark as they are in the scan.
    dark_share : float
        Fraction of the voxels in the dark phase.
    number : int
        Number of phases: peaks of the histogram without noise. With more than two,
        Otsu's threshold may lie between any two of them.
    """

    dark: float
    bright: float
    dark_share: float
    number: int = 2

    @property
    def threshold(self) -> float:
        """The grey value halfway between the phases."""
        return (self.dark + self.bright) / 2

    @property
    def is_mostly_dark(self) -> bool:
        """Whether most voxels are in the dark phase."""
        return self.dark_share > 0.5

    def are_separated(self, blocks: Sequence[Array], insides: Sequence[Mask]) -> bool:
        """Return whether Otsu's threshold separates the two phases in these blocks.

        Parameters
        ----------
        blocks : sequence of ndarray
            Grey values of a scan or of a result.
        insides : sequence of ndarray of bool
            Voxels that belong to the sample.
        """
        found = threshold_of(blocks, insides)
        if found is None:
            return False
        threshold, values = found
        is_dark = values <= threshold
        distance = np.median(values[~is_dark]) - np.median(values[is_dark])
        return bool(distance >= _MIN_DISTANCE * (self.bright - self.dark))

    def are_separated_in_noise(
        self, blocks: Sequence[Array], insides: Sequence[Mask]
    ) -> bool:
        """Return whether Otsu's threshold separates the phases of a noisy scan.

        If pores are rare, the threshold may split the noise of the solid: most of the
        voxels that it assigns to the pores then belong to the solid.

        Parameters
        ----------
        blocks, insides
            As in `are_separated`; the blocks of the scan itself.
        """
        found = threshold_of(blocks, insides)
        if found is None:
            return False
        threshold, values = found
        dark_share = float((values <= threshold).mean())
        share, true = dark_share, self.dark_share
        if self.is_mostly_dark:
            share, true = 1 - share, 1 - true
        return share <= _MAX_RARER_RATIO * true


def phase_levels(
    sample: EvaluationSample, noise: Noise, insides: Sequence[Mask]
) -> PhaseLevels | None:
    """Find the noise-free grey values of the phases in a scan's histogram.

    In a smoothed scan, small pores would be too bright.

    Parameters
    ----------
    sample : EvaluationSample
        Blocks of the scan.
    noise : Noise
        Noise of the scan.
    insides : sequence of ndarray of bool
        Voxels of each window that belong to the sample.

    Returns
    -------
    PhaseLevels or None
        None if all voxels have the same grey value.
    """
    from skimage.filters import threshold_otsu

    pairs = zip(sample.blocks, insides, strict=True)
    values = np.concatenate([block.window[inside] for block, inside in pairs])
    if not (values.size and np.ptp(values) > 0):
        return None
    edges, shares = noise_free_histogram(values, noise.at)
    if shares is None:
        shares = np.histogram(values, edges)[0] / len(values)
    shares = shares + _TINY
    places = (edges[1:] + edges[:-1]) / 2
    limit = float(threshold_otsu(hist=(shares, places)))
    dark, bright = (_median(shares, places, own) for own in _sides(places, limit))
    share = np.cumsum(shares) / shares.sum()
    lowest, highest = np.interp(np.array(_RARE) / 100, share, places)
    far = _MIN_RARE_DISTANCE * (bright - dark)
    if max(dark - lowest, highest - bright) > far:
        middle = float(np.interp(0.5, share, places))
        rare = lowest if dark - lowest > highest - bright else highest
        limit = float((rare + middle) / 2)
        dark, bright = (_median(shares, places, own) for own in _sides(places, limit))
    dark_share = float(shares[places <= limit].sum() / shares.sum())
    return PhaseLevels(dark, bright, dark_share, max(2, _number_of_peaks(shares)))


def _number_of_peaks(shares: Array) -> int:
    """Return the number of separate peaks of a histogram, not counting small ones."""
    from scipy import signal

    padded = np.concatenate([[0], shares, [0]])
    peaks, found = signal.find_peaks(padded, prominence=0)
    peaks = peaks[found["prominences"] >= _MIN_PROMINENCE * padded[peaks]]
    valleys = [
        low + int(np.argmin(padded[low:high]))
        for low, high in itertools.pairwise(peaks)
    ]
    masses = [part.sum() for part in np.split(padded, valleys)]
    return int(np.count_nonzero(np.array(masses) >= _MIN_PHASE * padded.sum()))


def _sides(places: Array, limit: float) -> tuple[Mask, Mask]:
    return places <= limit, places > limit


def _median(shares: Array, places: Array, own: Mask) -> float:
    share = np.cumsum(shares[own]) / shares[own].sum()
    return float(np.interp(0.5, share, places[own]))
