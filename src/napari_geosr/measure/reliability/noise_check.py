"""Estimates how many voxels noise misclassifies in a porosity measurement.

References
----------
.. [1] Laird. Nonparametric maximum likelihood estimation of a mixing distribution.
   J. Am. Stat. Assoc. 73, 805-811 (1978). doi:10.1080/01621459.1978.10480103
.. [2] Lucy. An iterative technique for the rectification of observed distributions.
   Astron. J. 79, 745-754 (1974). doi:10.1086/111605
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.histogram import GreyHistogram
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.noise.sample import NoiseUnknownError

Array = npt.NDArray[np.float64]

#: Part of a side of the threshold that is constant: it is padding or has no noise.
_CONSTANT = 0.6
#: Planes and squares of pixels in which padding is told from a phase without noise.
_PLANES, _EDGE = 9, 8
#: A square holds a value if this part of it does; part of the squares of a phase.
_HOLDS, _MIXED = 0.1, 0.5
#: Share of all voxels on the wrong side from which on pore counts (in phantoms, off by
#: a quarter), and porosities, are unreliable.
_SPOILS_COUNTS, _SPOILS_POROSITY = 0.02, 0.05
#: Change of the smaller phase by noise that is as bad, and the least share for it.
_MUCH_OF_A_PHASE = 0.10
_LITTLE = 0.005
#: Bins per standard deviation of the noise, and how many bins there are at most.
_BINS_PER_DEVIATION = 3.0
_FEWEST_BINS, _MOST_BINS = 64, 512
#: Share of the voxels at either end whose grey values are not told apart.
_TAIL = 5e-4
#: Noise-free values are looked for so many standard deviations beyond the histogram.
_BEYOND = 4.0
#: Iterations of the deconvolution: more change the shares by less than 0.01.
_ITERATIONS = 400


@dataclass(frozen=True)
class NoiseCheck:
    """The noise of a scan, and the voxels it is expected to misclassify.

    Attributes
    ----------
    noise : Noise
    misclassified : Misclassification or None
        None where it is not known: a phase has one grey value, so what was measured
        in the others is rather their structure.
    """

    noise: Noise
    misclassified: Misclassification | None

    def to_json_dict(self) -> AnyDict:
        """For reports."""
        found = self.misclassified
        return {
            **self.noise.to_json_dict(),
            "misclassified_share": None if found is None else found.share,
        }


def noise_check_steps(
    volume: Volume,
    histogram: GreyHistogram,
    threshold: float,
    phase: str,
    *,
    warnings: list[str],
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, NoiseCheck | None]:
    """Measure the noise of a sample of the scan, and what it does at a threshold.

    None is returned where the noise cannot be measured (hardly any finite voxels).

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX. Only a sample is read.
    histogram : GreyHistogram
        Of the voxels whose porosity is measured.
    threshold : float
    phase : str
        As in `PorosityConfig`.
    warnings : list of str
        Gets the reason where the noise cannot be measured.
    """
    yield StageStarted(message="Measuring the noise")
    try:
        with StepIterator(noise_steps(volume, should_stop=should_stop)) as iterator:
            for _ in iterator:
                yield Step()  # its blocks are not those of the measurement
    except NoiseUnknownError as error:
        warnings.append(str(error))
        yield WarningIssued(message=str(error))
        return None
    noise = iterator.result
    found: Misclassification | None
    found = misclassification(histogram, threshold, noise, phase)
    if found.constant >= _CONSTANT and _is_phase(volume.data, found.ends):
        found = None
    return NoiseCheck(noise, found)


def _is_phase(data: ArrayLike, ends: tuple[float, float]) -> bool:
    """Whether voxels beyond `ends` lie within the sample rather than around it."""
    planes = [data]
    if data.ndim == 3:
        chosen = np.linspace(0, data.shape[0] - 1, min(data.shape[0], _PLANES))
        planes = [data[int(z)] for z in chosen.round()]
    mixed = squares = 0
    for plane in planes:
        height, width = (n // _EDGE * _EDGE for n in plane.shape)
        values = np.asarray(plane)[:height, :width]
        outside = (values < ends[0]) | (values > ends[1])
        parts = outside.reshape(height // _EDGE, _EDGE, width // _EDGE, _EDGE)
        share = parts.mean(axis=(1, 3))
        squares += int((share < 1).sum())
        mixed += int(((share < 1) & (share >= _HOLDS)).sum())
    return mixed >= _MIXED * max(1, squares)


def noise_remarks(
    check: NoiseCheck | None, porosity: float, name: str
) -> Iterator[str]:
    """One sentence if noise makes the figures unreliable.

    Parameters
    ----------
    porosity : float
        As measured, 0 … 1.
    """
    found = None if check is None else check.misclassified
    if check is None or found is None:
        return
    if found.spoils_porosity(porosity):
        what = "porosity and pore counts"
    elif found.spoils_counts:
        what = "pore counts and sizes"
    else:
        return
    yield (
        f"About {_percent(found.share)} of the voxels of {name!r} are "
        "expected to be on the wrong side of the threshold because of noise "
        f"({_percent(check.noise.relative)} of the contrast): {what} are unreliable. "
        "Restore the scan first."
    )


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.1g} %"


@dataclass(frozen=True)
class Misclassification:
    """Shares of all voxels that noise is expected to put on the wrong side.

    Their sum is known better than either of them: near the threshold noise hides which
    side a grey value came from.

    Attributes
    ----------
    to_pore : float
        Solid that is taken as pore, 0 … 1.
    to_solid : float
        Pore that is taken as solid, 0 … 1.
    constant : float
        Largest part of either side of the threshold that has one grey value at the
        end of the histogram, without noise: padding, or a phase of a clean scan.
    ends : (float, float)
        Between them lie the grey values that noise can be seen in.
    """

    to_pore: float
    to_solid: float
    constant: float = 0.0
    ends: tuple[float, float] = (-math.inf, math.inf)

    @property
    def share(self) -> float:
        """Both together."""
        return self.to_pore + self.to_solid

    @property
    def spoils_counts(self) -> bool:
        """Whether pore counts and sizes are unreliable because of it."""
        return self.share >= _SPOILS_COUNTS

    def spoils_porosity(self, porosity: float) -> bool:
        """Whether a measured porosity is unreliable because of it."""
        if self.share >= _SPOILS_POROSITY:
            return True
        smaller = min(porosity, 1 - porosity)
        change = abs(self.to_pore - self.to_solid)
        return self.share >= _LITTLE and change >= _MUCH_OF_A_PHASE * smaller


def misclassification(
    histogram: GreyHistogram, threshold: float, noise: Noise, phase: str
) -> Misclassification:
    """Expect shares of misclassified voxels from the grey values and their noise.

    The distribution of the noise-free grey values is found by deconvolving the
    histogram with Gaussian noise (maximum likelihood by expectation-maximisation
    [1]_, [2]_), so that any number of phases, and voxels that hold two, are allowed
    for. A voxel of noise-free grey value g is on the wrong side of the threshold t
    with probability Φ(-|t - g| / σ(g)).

    Parameters
    ----------
    histogram : GreyHistogram
        Of the sample.
    threshold : float
    noise : Noise
        Of the scan; its standard deviation may depend on the grey value.
    phase : str
        ``"dark"``: pores are at or below the threshold; ``"bright"``: above it.
    """
    from scipy.special import ndtr

    low, high = _inner_range(histogram)
    smallest = min(float(noise.at(g)) for g in (low, (low + high) / 2, high))
    if noise.is_negligible or smallest <= 0 or not low < high:
        return Misclassification(0.0, 0.0)
    edges = _edges(histogram, low, high, smallest)
    values = np.clip(histogram.centres, low, high)
    observed, _ = np.histogram(values, bins=edges, weights=histogram.counts)
    centres = _noise_free_values(edges, noise)
    deviation = np.maximum(noise.at(centres), 1e-12)
    up_to = ndtr((edges[:, None] - centres) / deviation)
    up_to[0], up_to[-1] = 0.0, 1.0  # clipped grey values lie in the outermost bins
    clean = _deconvolved(observed / observed.sum(), np.diff(up_to, axis=0))
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
    return Misclassification(to_pore, to_solid, constant, ends)


def _inner_range(histogram: GreyHistogram) -> tuple[float, float]:
    """Grey values without the outermost few: a bright speck would need many bins."""
    total = np.cumsum(histogram.counts)
    ends = np.searchsorted(total, [_TAIL * total[-1], (1 - _TAIL) * total[-1]])
    low, high = histogram.centres[np.minimum(ends, len(total) - 1)]
    return float(low), float(high)


def _edges(
    histogram: GreyHistogram, low: float, high: float, deviation: float
) -> Array:
    """Bins narrower than the noise; for integers, with equally many values each."""
    wanted = np.clip(
        _BINS_PER_DEVIATION * (high - low) / deviation, _FEWEST_BINS, _MOST_BINS
    )
    width = (high - low) / float(wanted)
    if histogram.is_exact:
        width = max(1.0, float(np.floor(width)))
    # The lowest and the highest value lie within the first and the last bin.
    start = low - (0.5 if histogram.is_exact else width / 2)
    n = int(np.floor((high - start) / width)) + 1
    return np.asarray(start + width * np.arange(n + 1), np.float64)


def _noise_free_values(edges: Array, noise: Noise) -> Array:
    """Centres of the bins, and the values beyond, where padding is not noise.

    Many voxels of one value at an end of the histogram are clipped noise if a part of
    a bell lies beside them, and constant if not. Of values well beyond the end all
    voxels are clipped, so that both are fitted.
    """
    width = edges[1] - edges[0]
    n_low, n_high = (
        int(np.clip(np.ceil(_BEYOND * float(noise.at(end)) / width), 1, _MOST_BINS))
        for end in edges[[0, -1]]
    )
    bins = np.arange(-n_low, len(edges) - 1 + n_high)
    return np.asarray(edges[0] + (bins + 0.5) * width, np.float64)


def _deconvolved(observed: Array, kernel: Array) -> Array:
    """The distribution that, blurred by `kernel` (observed × clean), is observed."""
    n = kernel.shape[1]
    # Not where nothing was observed alone, as voxels may be clipped there.
    clean = kernel.T @ observed + 0.01 / n
    clean /= clean.sum()
    for _ in range(_ITERATIONS):
        expected = np.maximum(kernel @ clean, 1e-30)
        clean = clean * (kernel.T @ (observed / expected))
    return np.asarray(clean / clean.sum(), np.float64)
