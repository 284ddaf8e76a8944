"""Finds slices and single voxels that are much noisier than the rest of a scan.

The noise of a scan is measured where it is weakest. Bad frames of a camera leave noisy
slices; direct hits on the detector (zingers) and hot pixels leave single voxels far
outside the grey values of the sample. A restoration adapted to the noise of the other
voxels hardly changes these slices and voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.measure.noise.basis import Array, FloatArray
from napari_geosr.measure.noise.remarks import UNMEASURED
from napari_geosr.measure.noise.sample import Bools, NoiseSample
from napari_geosr.measure.noise.topics import Remark, is_about
from napari_geosr.measure.number_text import rough_percent

Numbers = npt.NDArray[np.intp]

#: Maximum number of runs of slices that a remark lists.
_MAX_RUNS = 4
#: Minimum number of blocks for the remarks of this module.
_MIN_BLOCKS = 1000
#: Minimum number of blocks for measuring the noise of a slice.
_MIN_SLICE_BLOCKS = 40
#: Minimum number of slices within `_REACH` for comparing a slice with their median.
_MIN_SLICES = 5
#: Maximum distance, in slices, between a slice and the slices it is compared with. At
#: most half of the latter may be noisy.
_REACH = 12
#: Noise level, in steps between grey values, up to which the noise may be due to
#: rounding.
_ROUNDING = 0.5
#: Quantile of the blocks' noise that is taken as the noise of a slice; noisier blocks
#: contain structure.
_QUIET = 0.2
#: Ratio of the fine detail of a slice to that of its neighbours above which the slice
#: is noisy. With equal noise, the ratio is 0.9 to 1.15.
_MIN_SLICE_RATIO = 1.5
#: Maximum of this ratio for the slices before and after a run of noisy slices. Above
#: it, the run is not a group of bad slices, but structure with gradually changing
#: detail.
_MAX_ADJACENT_RATIO = 1.25
#: Minimum and maximum number of slices on each side of a run for telling a lasting
#: change of the noise from a few bad slices. The nearest slices that were read are
#: used: only windows of a large scan are read.
_MIN_SIDE = 3
_MAX_SIDE = 6
#: Distance of a voxel from the range of nearly all grey values and from its neighbours,
#: as a multiple of the width of this range, above which the voxel is an outlier.
_FAR = 2.0
#: Fraction of clipped voxels above which the range of the other voxels is unknown.
_MAX_CLIPPED_SHARE = 0.05
#: Minimum number of blocks that must remain without outliers.
_MIN_KEPT = 200
#: Maximum deviation of the neighbours of a single voxel from their median, as a
#: fraction of the voxel's distance from this median. In a microscope image, the
#: neighbours of a voxel in a small spot are also bright.
_ISOLATED = 0.25
#: Maximum distance of the neighbours' median from usual grey values, as a fraction of
#: the voxel's distance from the median.
_RAISED = 0.1
#: Maximum number of voxels at the ends of the grey scale that are examined.
_MAX_PLACES = 50_000
#: Minimum distance of such voxels from their neighbours, in steps between grey values.
_MIN_STEPS = 2.0
#: Minimum fraction of single voxels at the ends of the grey scale for a remark: noise
#: seldom makes more voxels differ so much from their neighbours.
_MIN_END_SHARE = 5e-4
#: Mean square of the outliers, relative to that of the noise, above which they matter.
_MIN_OUTLIER_POWER = 0.25
#: Variance of the second differences of white noise along both axes of a slice.
_DIFFERENCE_VARIANCE = 36.0


def anomaly_remarks(
    sample: NoiseSample, n_slices: int, found: Outliers, noise: Noise
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Describe noisy slices and single voxels far outside the range.

    Parameters
    ----------
    sample : NoiseSample
        The sample without the outlier voxels.
    n_slices : int
        Number of slices of the scan.
    found : Outliers
        Single voxels far outside the range.
    noise : Noise
        The measured noise, in grey values of the sample.

    Returns
    -------
    doubts, notes : tuple of str
        Further sentences for the attributes of `noise` with these names.
    """
    seen = (sample, n_slices, noise.contrast)
    outliers = _outlier_doubts(sample, found, noise.level, noise.contrast)
    if any(is_about(note, *UNMEASURED) for note in noise.notes):
        return tuple(outliers), tuple(_slice_notes(*seen))
    return (*_slice_doubts(*seen), *outliers), ()


def _slice_doubts(sample: NoiseSample, n_slices: int, contrast: float) -> Iterator[str]:
    """Yield remarks on slices with more noise than the adjacent ones.

    Parameters
    ----------
    sample : NoiseSample
        The sample without the outlier voxels.
    n_slices : int
        Number of slices of the scan.
    contrast : float
        Contrast of the scan, in grey values of the sample.
    """
    slices = _compared_slices(sample, n_slices, contrast)
    for step in slices.steps:
        yield Remark(step, "slices")
    if slices.runs:
        yield Remark(
            f"{slices.names} along Z (counted from 0) {slices.verb} much more noise "
            f"than the adjacent slices (up to {slices.strongest:.1f} times as much). "
            "Most of this noise remains in the result: do not measure there."
            f"{slices.rest}",
            "slices",
        )


def _slice_notes(sample: NoiseSample, n_slices: int, contrast: float) -> Iterator[str]:
    """Yield the remark for a scan in which noise cannot be told from structure.

    Fine structure may differ between slices, as in a weave, so nothing is claimed about
    their noise.

    Parameters
    ----------
    sample, n_slices, contrast
        As in `_slice_doubts`.
    """
    slices = _compared_slices(sample, n_slices, contrast)
    if slices.runs:
        yield Remark(
            f"{slices.names} along Z (counted from 0) {slices.verb} more fine detail "
            f"than the adjacent slices (up to {slices.strongest:.1f} times as much): "
            f"noise or structure. Compare them with the adjacent slices.{slices.rest}",
            "slices",
        )


def _outlier_doubts(
    sample: NoiseSample, found: Outliers, level: float, contrast: float
) -> Iterator[str]:
    """Yield a remark on single voxels far outside the range.

    Parameters
    ----------
    sample : NoiseSample
        The sample without the outlier voxels.
    found : Outliers
    level, contrast : float
        Noise level and contrast of the scan, in grey values of the sample.
    """
    if not contrast > 0 or len(sample.values) < _MIN_BLOCKS:
        return
    if found.power > _MIN_OUTLIER_POWER * max(level, FLOOR * contrast) ** 2:
        # At the ends of the grey scale, only voxels in uniform blocks are counted.
        about = "at least " if found.end_share > 0 else ""
        yield Remark(
            "Single voxels, such as zingers and hot or dead pixels, differ strongly "
            f"from all of their neighbours ({about}{rough_percent(found.share)} of the "
            "voxels). Models and filters do not remove them well"
            f"{', and expected gains are wrong' if level > 0 else ''}. First replace "
            "them, and only them, with the median of their neighbours: a median filter "
            "over the whole scan would blur its noise, which could then no longer be "
            "measured. Or remove them when reconstructing (--zingers).",
            "single voxels",
        )


@dataclass(frozen=True, eq=False)
class _Slices:
    """Slices that differ from adjacent ones.

    Attributes
    ----------
    ratios : ndarray of shape (slices,)
        From `slice_ratios`; NaN for slices that were not examined.
    runs : list of ndarray
        Indices of consecutive slices with more fine detail than adjacent ones.
    steps : tuple of str
        Descriptions of lasting changes of the noise.
    """

    ratios: Array
    runs: list[Numbers]
    steps: tuple[str, ...]

    @property
    def noisy(self) -> Numbers:
        """Indices of all slices in `runs`."""
        return np.concatenate(self.runs)

    @property
    def names(self) -> str:
        """The slices in words, such as ``"Slices 3 to 5 and 9"``."""
        return f"{'Slice' if len(self.noisy) == 1 else 'Slices'} {_ranges(self.runs)}"

    @property
    def verb(self) -> str:
        """The verb that follows `names`."""
        return "has" if len(self.noisy) == 1 else "have"

    @property
    def strongest(self) -> float:
        """Largest ratio of a slice in `runs`."""
        return float(self.ratios[self.noisy].max())

    @property
    def rest(self) -> str:
        """Sentence stating how many slices were examined; empty if all were."""
        examined = int(np.isfinite(self.ratios).sum())
        if examined == len(self.ratios):
            return ""
        return f" Only {examined} of the {len(self.ratios)} slices were examined."


def _compared_slices(sample: NoiseSample, n_slices: int, contrast: float) -> _Slices:
    """Compare the fine detail of slices; find none in samples that are too small."""
    if not contrast > 0 or len(sample.blocks) < _MIN_BLOCKS:
        return _Slices(np.full(n_slices, np.nan), [], ())
    floor = max(FLOOR * contrast, _ROUNDING * sample.step)
    levels = slice_levels(sample, n_slices, floor)
    ratios = slice_ratios(levels)
    runs, steps = [], []
    for run in _noisy_runs(ratios):
        step = _step_at(run, levels)
        if step:
            steps.append(step)
        else:
            runs.append(run)
    return _Slices(ratios, runs, tuple(dict.fromkeys(steps)))


def slice_levels(sample: NoiseSample, n_slices: int, floor: float) -> Array:
    """Measure the fine detail in quiet parts of each slice.

    Parameters
    ----------
    sample : NoiseSample
    n_slices : int
        Number of slices of the scan.
    floor : float
        Maximum noise level of a scan that counts as noise-free; lower levels are
        replaced by this value.

    Returns
    -------
    ndarray of shape (n_slices,)
        Standard deviations; NaN for slices that were not read.
    """
    blocks = sample.blocks
    depth, height, width = blocks.shape[1:]
    if depth < 2 or min(height, width) < 3:
        return np.full(n_slices, np.nan)
    along_y = np.diff(blocks, 2, axis=2)
    energy = np.square(np.diff(along_y, 2, axis=3)).mean((2, 3)) / _DIFFERENCE_VARIANCE
    starts = np.rint(sample.centres[:, 0] * n_slices - depth / 2).astype(np.intp)
    slices = (starts[:, None] + np.arange(depth)).ravel()
    levels = np.sqrt(_quantiles(energy.ravel(), slices, n_slices))
    return np.asarray(np.maximum(levels, floor))


def slice_ratios(levels: Array) -> Array:
    """Compare the fine detail of each slice with that of nearby slices.

    Parameters
    ----------
    levels : ndarray of shape (n_slices,)
        From `slice_levels`.

    Returns
    -------
    ndarray of shape (n_slices,)
        Ratios of standard deviations; NaN for slices that were not read or cannot be
        compared.
    """
    ratios = np.full(len(levels), np.nan)
    known = np.flatnonzero(np.isfinite(levels))
    for at in known:
        near = known[np.abs(known - at) <= _REACH]
        if len(near) >= _MIN_SLICES:
            ratios[at] = levels[at] / float(np.median(levels[near]))
    return ratios


def _step_at(run: Numbers, levels: Array) -> str:
    """Describe a lasting change of the noise at a run of noisy slices, if any.

    A slice is compared with slices on both sides, so that only the first or last slices
    of a noisy part stand out. The result is empty if the run is noisier than the slices
    on both sides, or one side is unknown.
    """
    sides = levels[: run[0]], levels[run[-1] + 1 :]
    before, after = (side[np.isfinite(side)] for side in sides)
    before, after = before[-_MAX_SIDE:], after[:_MAX_SIDE]
    if min(len(before), len(after)) < _MIN_SIDE:
        return ""
    low, high = float(np.median(before)), float(np.median(after))
    if float(np.nanmax(levels[run])) > _MIN_SLICE_RATIO * max(low, high):
        return ""
    times = f"{max(low, high) / min(low, high):.1f} times as strong"
    if high > _MIN_SLICE_RATIO * low:
        return (
            f"From about slice {run[0]} along Z (counted from 0) on, the noise is "
            f"{times} as before."
        )
    if low > _MIN_SLICE_RATIO * high:
        return (
            f"Up to about slice {run[-1]} along Z (counted from 0), the noise is "
            f"{times} as after it."
        )
    return ""


def _quantiles(energy: FloatArray, slices: Numbers, n_slices: int) -> Array:
    """Return the energy of the quiet blocks of each slice; NaN for too few blocks."""
    order = np.argsort(slices, kind="stable")
    ends = np.searchsorted(slices[order], np.arange(n_slices + 1))
    found = np.full(n_slices, np.nan)
    for i, (start, end) in enumerate(itertools.pairwise(ends)):
        if end - start >= _MIN_SLICE_BLOCKS:
            found[i] = np.quantile(energy[order[start:end]], _QUIET)
    return found


@dataclass(frozen=True)
class Outliers:
    """Single voxels far outside the grey values of all others.

    Attributes
    ----------
    share : float
        Fraction of the voxels that are outliers.
    power : float
        Mean square, over all voxels, of the distance of outliers from their neighbours.
    end_share : float
        Fraction of the voxels that are outliers at an end of the grey scale.
    """

    share: float = 0.0
    power: float = 0.0
    end_share: float = 0.0


def without_outliers(sample: NoiseSample) -> tuple[NoiseSample, Outliers]:
    """Remove blocks that contain outlier voxels; return the sample and the outliers.

    Such voxels would be mistaken for noise that increases with the grey value, and for
    contrast. Single voxels at the ends of the grey scale are counted, but not removed.
    """
    if sample.clipped > _MAX_CLIPPED_SHARE:
        ends = _at_ends(sample, None)
        return replace(sample, has_single=ends.share > 0), ends
    whole = sample.blocks + sample.greys[:, None, None, None]
    in_blocks, _ = _single(whole)
    in_values, power = _single(sample.values)
    ends = _at_ends(sample, in_values)
    sample = replace(sample, has_single=ends.share > 0)
    if not (in_blocks.any() or in_values.any()):
        return sample, ends
    found = Outliers(
        float(in_values.mean()) + ends.share, power + ends.power, ends.end_share
    )
    kept = ~in_blocks.any((1, 2, 3))
    values = sample.values[~in_values.any((1, 2, 3))]
    if kept.sum() < _MIN_KEPT or not len(values):
        return sample, found
    cleaned = replace(
        sample,
        blocks=sample.blocks[kept],
        greys=sample.greys[kept],
        centres=sample.centres[kept],
        values=values,
    )
    return cleaned, found


def _single(values: npt.NDArray[np.floating]) -> tuple[Bools, float]:
    """Find single voxels far from all others in value, and their `Outliers.power`."""
    found = np.zeros(values.shape, bool)
    low, high = np.percentile(values, (2, 98))
    limit = _FAR * float(high - low)
    places = np.argwhere((values > high + limit) | (values < low - limit))
    if not (len(places) and limit > 0):
        return found, 0.0
    usual, far, is_even = _surroundings(values, places)
    is_usual = (usual < high + _RAISED * far) & (usual > low - _RAISED * far)
    single = (far > limit) & is_even & is_usual
    found[tuple(places[single].T)] = True
    return found, float(np.square(far[single]).sum()) / values.size


def _at_ends(sample: NoiseSample, counted: Bools | None) -> Outliers:
    """Describe single voxels at the ends of the grey scale.

    Only voxels with neighbours near the median of their block are included. Voxels that
    are already counted are left out.
    """
    values = sample.values
    if not values.size or max(values.shape[1:]) == 1:
        return Outliers()
    ends = (values == values.min()) | (values == values.max())
    if counted is not None:
        ends &= ~counted
    if not ends.any():
        return Outliers()
    places = np.argwhere(ends)[:: 1 + np.count_nonzero(ends) // _MAX_PLACES]
    usual, far, is_even = _surroundings(values, places)
    middle = np.median(values, (1, 2, 3))[places[:, 0]]
    clear = far > _MIN_STEPS * sample.step
    single = clear & is_even & (np.abs(usual - middle) < _RAISED * far)
    share = float(ends.mean()) * float(single.mean())
    if share < _MIN_END_SHARE:
        return Outliers()
    power = float(ends.mean()) * float(np.square(far[single]).sum()) / len(places)
    return Outliers(share, power, share)


def _surroundings(
    values: npt.NDArray[np.floating], places: Numbers
) -> tuple[Array, Array, Bools]:
    """Return neighbours' medians, distances from them, and whether neighbours agree."""
    around = np.full((2 * (values.ndim - 1), len(places)), np.nan)
    for axis, length in enumerate(values.shape[1:], 1):
        for side, step in enumerate((-1, 1)):
            moved = places.copy()
            moved[:, axis] += step
            inside = (moved[:, axis] >= 0) & (moved[:, axis] < length)
            around[2 * axis - 2 + side, inside] = values[tuple(moved[inside].T)]
    usual = np.nanmedian(around, axis=0)
    far = np.abs(values[tuple(places.T)] - usual)
    return usual, far, np.nanmax(np.abs(around - usual), axis=0) < _ISOLATED * far


def _noisy_runs(ratios: Array) -> Iterator[Numbers]:
    """Yield runs of noisy slices; the slices next to a run must not be noisy."""
    bad = np.flatnonzero(ratios > _MIN_SLICE_RATIO)
    if not len(bad):
        return
    for run in np.split(bad, np.flatnonzero(np.diff(bad) > 1) + 1):
        beside = [i for i in (run[0] - 1, run[-1] + 1) if 0 <= i < len(ratios)]
        known = ratios[beside][np.isfinite(ratios[beside])]
        if len(known) and known.max() < _MAX_ADJACENT_RATIO:
            yield run


def _ranges(runs: list[Numbers]) -> str:
    """Describe runs in words, such as ``"3, 7 to 9 and 12"``; at most four."""
    parts = [
        str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}"
        for run in runs[:_MAX_RUNS]
    ]
    if len(runs) > len(parts):
        parts.append("others")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
