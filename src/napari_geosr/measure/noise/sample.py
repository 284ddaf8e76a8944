"""Finds the usable blocks of a scan, and rounding and clipping of grey values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.basis import Array, FloatArray
from napari_geosr.measure.noise.missing import with_neighbours
from napari_geosr.measure.noise.reading import Box, ScanBlocks

Bools = npt.NDArray[np.bool_]

#: Maximum number of values examined for steps between grey values.
_MAX_VALUES = 300_000
#: Number of different values above which a float scan is not considered rounded.
_MAX_LEVELS = 5000
#: Minimum fraction of voxels at one end of the grey scale in a clipped scan.
_MIN_CLIPPED_SHARE = 2e-3
#: Minimum ratio of the number of these voxels to that at the adjacent grey value.
_CLIPPED_RATIO = 3.0
#: Maximum fraction of clipped voxels in a block; more would reduce its noise.
_CLIPPED_SHARE = 0.01
#: Edge length, in voxels, of the patches in the corners of a slice.
_CORNER = 5
#: Fraction of clipped voxels above which the noise cannot be measured in the others.
_MOSTLY_CLIPPED = 0.6
#: Noise level, in steps between grey values, below which noise is lost in rounding.
_ROUNDED = 0.5
#: Minimum gap between padding and other grey values, as a fraction of their range.
_GAP = 0.03
#: Fraction of the other voxels that a gap may contain and still count as empty.
_GAP_SHARE = 1e-3
#: Range of grey values below which single precision does not suffice for squares.
_MIN_RANGE = 1e-9
#: Range of grey values above which single precision does not suffice for squares.
_MAX_RANGE = 1e9
#: Distance of grey values from zero, as a multiple of their range, above which double
#: precision does not suffice for squares.
_MAX_OFFSET = 2.0**20
#: Percentiles between which nearly all grey values lie, and the median.
_RANGE = (0.01, 50.0, 99.99)
#: Minimum distance of an extreme value from the median, in units of this range.
_EXTREME = 1e3
#: Distance between two grey values, relative to the range of grey values, below which
#: they differ only by floating-point rounding.
_SAME = 1e-5
#: Quantile of the distances between adjacent grey values that is taken as the step of
#: the grey scale. Each distance is weighted by the count of the rarer of its two
#: values, because the smallest distance may come from a single voxel.
_STEP_QUANTILE = 0.1
#: Range of a block, relative to that of the scan, below which it counts as constant.
_CONSTANT = 1e-6


#: Number of steps between adjacent float numbers by which a constant may vary.
_ROUNDING_STEPS = 4
#: Difference between neighbouring voxels, relative to the range of grey values, below
#: which they belong to the blurred border of a flat phase.
_FLAT = 2e-3
#: Maximum difference in brightness between two scans, relative to their noise level.
_MAX_DRIFT = 0.3
#: Maximum additional variance of the difference of two scans at edges, relative to that
#: of their noise.
_MAX_EXTRA = 0.1
#: Variance of the difference between two scans in a block, relative to the median of
#: all blocks, above which the block is not used to compare the scans.
_MAX_SUM = 20.0
#: Number of standard errors beyond which two noise levels count as different.
_CLEARLY = 4.0
#: Number of blocks that share voxels or correlated noise and therefore count as one.
_DEPENDENT = 4.0
#: Maximum ratio of two scans' noise levels at which these are treated as equal.
_MAX_EQUAL_RATIO = 1.1


class NoiseUnknownError(VolumeError):
    """The noise of a valid volume cannot be measured."""


@dataclass(frozen=True, eq=False)
class NoiseSample:
    """Usable blocks of a scan.

    Attributes
    ----------
    blocks : ndarray of shape (blocks, Z, Y, X), float32 or float64
        Grey values minus the mean of each block.
    greys : ndarray of shape (blocks,)
        Mean of each block.
    centres : ndarray of shape (blocks, 3)
        Centres along Z, Y and X, as fractions of the scan's extent.
    values : ndarray of shape (blocks, Z, Y, X), float64
        Grey values, including those of clipped blocks, without padding or NaN.
    step : float
        Typical smallest step between grey values; 0 if they are not rounded.
    levels : int
        Number of different grey values; 0 if there are too many to count.
    unknown, padded, clipped : float
        Fractions of NaN and infinite voxels, of blocks of padding, and of clipped
        voxels.
    extreme : float
        Fraction of voxels with values far outside the range of all others.
    has_clipped : bool
        Whether `blocks` contains clipped blocks, because there are no others.
    has_single : bool
        Whether single voxels at the ends of the grey scale do not belong to the object.
    second : float
        Noise level of the second scan, if there is one, relative to that of the first.
    """

    blocks: FloatArray
    greys: Array
    centres: Array
    values: Array
    step: float
    levels: int
    unknown: float
    padded: float
    clipped: float
    extreme: float = 0.0
    has_clipped: bool = False
    has_single: bool = False
    second: float = 1.0

    @property
    def is_mostly_clipped(self) -> bool:
        """Whether too many voxels are clipped to measure the noise in the others."""
        return self.has_clipped and self.clipped > _MOSTLY_CLIPPED

    def halves(self) -> tuple[Array, Array]:
        """Return block means over every other voxel, and over the voxels in between."""
        edges = self.blocks.shape[1:]
        is_odd = np.indices(edges).sum(0) % 2 == 1
        first, second = (
            self.greys + self.blocks[:, part].mean(1, dtype=np.float64)
            for part in (is_odd, ~is_odd)
        )
        return first, second

    def is_coarse(self, level: float) -> bool:
        """Whether rounding of grey values hides noise of this level."""
        return level < _ROUNDED * self.step


def rescaled(sample: NoiseSample) -> tuple[NoiseSample, float, float]:
    """Rescale the sample so that squares neither overflow nor underflow.

    Grey values that are far from zero are shifted, because their squares would have too
    few digits. Grey values of usual magnitude are unchanged.

    Returns
    -------
    NoiseSample
    float
        Grey value that became zero.
    float
        Grey values of the scan per grey value of the returned sample.
    """
    spread = float(np.ptp(sample.values)) if sample.values.size else 0.0
    if not spread > 0:
        return sample, 0.0, 1.0
    zero, unit = 0.0, 1.0
    if float(np.abs(sample.values).max()) > _MAX_OFFSET * spread:
        zero = float(sample.values.min())
    if not _MIN_RANGE <= spread <= _MAX_RANGE:
        unit = 2.0 ** round(np.log2(spread))
    if (zero, unit) == (0.0, 1.0):
        return sample, zero, unit
    return (
        replace(
            sample,
            blocks=(sample.blocks / unit).astype(np.float32),
            greys=(sample.greys - zero) / unit,
            values=(sample.values - zero) / unit,
            step=sample.step / unit,
        ),
        zero,
        unit,
    )


def _too_few_known(volume: Volume, shape: Sequence[int]) -> NoiseUnknownError:
    return NoiseUnknownError(
        f"{volume.title} has no block of {' × '.join(map(str, shape))} voxels in which "
        "at least two thirds of the voxels are finite and known, so its noise cannot "
        "be measured. Fill the unknown voxels first, for example by interpolation."
    )


def usable_sample(
    volume: Volume, found: ScanBlocks, outer: Sequence[float] | None = None
) -> NoiseSample:
    """Drop and count blocks that contain no information about noise.

    With a second scan of the same object, each block is the difference between the
    scans, divided by √2, and its grey value is the mean of both.

    Parameters
    ----------
    volume : Volume
    found : ScanBlocks
        The result of `sample_steps`.
    outer : sequence of float, optional
        The result of `outer_values`, if it is known.
    """
    blocks: Any = found.values
    repeats: Any = found.repeats
    known = np.isfinite(blocks)
    if repeats is not None:
        known &= np.isfinite(repeats)
    unknown = 1 - float(known.mean()) if known.size else 1.0
    far = _extreme(blocks, known)
    if repeats is not None:
        far |= _extreme(repeats, known)
    far_share = float(far.mean()) if known.size else 0.0
    known &= ~far
    if repeats is None:
        blocks, known = with_neighbours(blocks, known)
    whole = known.all((1, 2, 3))
    if not whole.any():
        raise _too_few_known(volume, blocks.shape[1:])
    blocks, centres = blocks[whole].astype(np.float64), found.centres[whole]
    repeats = None if repeats is None else repeats[whole].astype(np.float64)
    lowest, highest = float(blocks.min()), float(blocks.max())
    same = max(_CONSTANT * (highest - lowest), _rounding(found.values.dtype, blocks))
    constant = np.ptp(blocks, (1, 2, 3)) <= same
    padding = _padding(
        blocks, constant, list(outer_values(volume) if outer is None else outer)
    )
    if padding.all():
        padding[:] = False
    repeats = None if repeats is None else repeats[~padding]
    blocks, centres = blocks[~padding], centres[~padding]
    step, levels = _steps(blocks.ravel())
    ends = [end for end in (lowest, highest) if _is_clipped(blocks, end, step)]
    at_end = np.isin(blocks, ends)
    if repeats is not None:
        extremes = (float(repeats.min()), float(repeats.max()))
        ends = [end for end in extremes if _is_clipped(repeats, end, step)]
        at_end |= np.isin(repeats, ends)
    share = at_end.mean((1, 2, 3))
    flat = np.ptp(blocks, (1, 2, 3)) <= same
    phases = len(np.unique(blocks[flat & (share < 1), 0, 0, 0])) > 1
    usable = (share <= _CLIPPED_SHARE) | (flat & phases)
    has_clipped = not usable.any()
    if has_clipped:
        usable[:] = True
    centred = blocks[usable]
    greys = centred.mean((1, 2, 3))
    ratio = 1.0
    if repeats is not None:
        repeats = repeats[usable]
        greys = (greys + repeats.mean((1, 2, 3))) / 2
        ratio = _ratio_of_pair(volume, centred, repeats)
        centred = (centred - repeats) / np.sqrt(2)
    centred -= centred.mean((1, 2, 3), keepdims=True)  # in place: a copy takes 17 MB
    extreme = not _MIN_RANGE <= highest - lowest <= _MAX_RANGE
    return NoiseSample(
        blocks=centred if extreme else centred.astype(np.float32),
        greys=greys,
        centres=centres[usable],
        values=blocks,
        step=step,
        levels=levels,
        unknown=unknown,
        padded=float(padding.mean()),
        clipped=float(at_end.mean()),
        extreme=far_share,
        has_clipped=has_clipped,
        second=ratio,
    )


def known_from_pair(noise: Noise, ratio: float) -> Noise:
    """Return the first scan's noise, given the root mean square of both noise levels.

    Parameters
    ----------
    noise : Noise
        Noise with the root mean square of the levels of both scans.
    ratio : float
        Noise level of the second scan relative to that of the first.
    """
    if ratio == 1.0:
        return noise
    stated = (
        f"The second scan has {ratio:.2g} times the noise of this scan. The difference "
        "was taken into account."
    )
    own = noise.scaled(math.sqrt(2 / (1 + ratio**2)))
    return replace(own, second=ratio, notes=(*own.notes, stated))


def _ratio_of_pair(volume: Volume, first: Array, second: Array) -> float:
    """Return the noise level of a second scan, relative to that of the first.

    Within blocks, the structure has the same variance in both scans, so only noise
    makes the variances differ. The ratio is 1 unless the levels clearly differ.

    Raises
    ------
    VolumeError
        If the scans differ by more than noise: in brightness, or because the object
        moved.
    """
    if np.array_equal(first, second):
        raise VolumeError(
            f"The second scan has the same values as {volume.title}: noise can be "
            "measured only from two scans that were recorded separately."
        )
    axes = (1, 2, 3)
    middles = first.mean(axes), second.mean(axes)
    first, second = (
        part - middle[:, None, None, None]
        for part, middle in zip((first, second), middles, strict=True)
    )
    n = first[0].size / max(1, first[0].size - 1)
    sums = n * np.square(first - second).mean(axes)
    usual = sums <= _MAX_SUM * np.median(sums)  # omit blocks with zingers or markers
    if not usual.all():
        first, second, sums = first[usual], second[usual], sums[usual]
        middles = middles[0][usual], middles[1][usual]
    structure = n * (first * second).mean(axes)
    total = float(sums.mean())
    change, grey = middles[1] - middles[0], (middles[0] + middles[1]) / 2
    line = np.polynomial.Polynomial.fit(grey, change, int(np.ptp(grey) > 0))
    drift = math.sqrt(float(np.square(line(grey)).mean()))
    if drift > _MAX_DRIFT * math.sqrt(total / 2):
        contrast = float(np.ptp(np.percentile(grey, [2, 98]))) or 1.0
        raise VolumeError(
            f"The second scan differs from {volume.title} in brightness, by about "
            f"{100 * drift / contrast:.2g} % of the contrast, so their difference is "
            "not only noise. Scale one of them so that equal materials have equal grey "
            "values, or omit the second scan."
        )
    facts = np.stack([np.ones_like(grey), grey - grey.mean(), structure], 1)
    slope = float(np.linalg.lstsq(facts, sums, rcond=None)[0][2])
    steep = float(structure[structure >= np.percentile(structure, 90)].mean())
    if slope * steep > _MAX_EXTRA * total:
        raise VolumeError(
            f"The second scan differs from {volume.title} at edges: the object or the "
            "voxel grid moved between the scans. Align them, or omit the second scan."
        )
    differences = n * (np.square(first) - np.square(second)).mean(axes)
    error = float(differences.std()) / math.sqrt(len(differences) / _DEPENDENT)
    difference = float(differences.mean())
    if abs(difference) < _CLEARLY * error:
        return 1.0
    own = (total + difference) / 2
    other = total - own
    if not min(own, other) > 0:
        smallest = _CLEARLY * error
        own, other = max(own, smallest), max(other, smallest)
    ratio = math.sqrt(other / own)
    return ratio if max(ratio, 1 / ratio) > _MAX_EQUAL_RATIO else 1.0


def _extreme(blocks: Any, known: Bools) -> Bools:
    """Select values far outside the range of nearly all others, like no-data markers.

    One such value would be enough to make all differences between the others look like
    rounding.
    """
    none = np.zeros(known.shape, bool)
    if not known.any():
        return none
    values = blocks[known].astype(np.float64)
    low, middle, high = np.percentile(values, _RANGE)
    if not high > low:
        return none
    with np.errstate(over="ignore"):
        distance = np.abs(np.where(known, blocks, middle).astype(np.float64) - middle)
        found: Bools = distance > _EXTREME * (high - low)
    return found


def outer_values(volume: Volume) -> list[float]:
    """Find values that fill all corners or an edge of the first, middle or last slice.

    Padding is recognised in this way. Pores in which no photon was counted also have a
    constant value, but belong to the sample.
    """
    n = volume.shape[0]
    planes: list[Any] = [()]
    if volume.data.ndim == 3:
        planes = [(slice(z, z + 1),) for z in sorted({0, n // 2, n - 1})]
    ends = [
        (slice(0, _CORNER), slice(max(0, length - _CORNER), length))
        for length in volume.shape[-2:]
    ]
    whole = slice(0, volume.shape[-2]), slice(0, volume.shape[-1])
    edges = [(y, whole[1]) for y in ends[0]] + [(whole[0], x) for x in ends[1]]
    found = set()
    for plane in planes:
        corners = {
            _constant(volume, (*plane, y, x)) for y, x in itertools.product(*ends)
        }
        if len(corners) == 1:
            found |= corners
        found |= {_constant(volume, (*plane, *edge)) for edge in edges}
    return sorted(value for value in found if value is not None)


def _constant(volume: Volume, box: Box) -> float | None:
    """Return the value of all voxels of a box, if they are all equal."""
    values = np.asarray(volume.data[box], np.float64)
    return float(values.flat[0]) if (values == values.flat[0]).all() else None


def _padding(blocks: Array, constant: Bools, outer: Sequence[float]) -> Bools:
    """Find the blocks that touch the constant surroundings of the sample.

    Padding has one value, which also fills corners or an edge of a slice; if that value
    is at an end of the grey scale, hardly any voxel of the sample has a similar value.
    Constant blocks of several values between the ends are phases of a scan without
    noise; constant blocks at an end are saturated.
    """
    is_padding = np.zeros(len(blocks), bool)
    lowest, highest = float(blocks.min()), float(blocks.max())
    values = np.unique(blocks[constant, 0, 0, 0])
    values = values[np.isin(values, outer)]
    inner = values[(values > lowest) & (values < highest)]
    padding = list(inner) if len(inner) == 1 else []
    near = _GAP * (highest - lowest)
    for end in values[(values == lowest) | (values == highest)]:
        distance = np.abs(blocks - end)
        others = distance > 0
        if others.any() and float((distance[others] < near).mean()) < _GAP_SHARE:
            padding.append(end)
    for value in padding:
        is_padding |= (blocks == value).mean((1, 2, 3)) > _CLIPPED_SHARE
    return is_padding


def _steps(values: Array) -> tuple[float, int]:
    """Find the typical smallest step between grey values, and count distinct values."""
    some = values[:: max(1, len(values) // _MAX_VALUES)]
    most = min(_MAX_LEVELS, len(some) // 10)
    # Sorting is slow: skip it if the first values already have too many distinct ones.
    distinct = np.unique(some[: 2 * most])
    numbers: Any = None
    if len(distinct) <= most:
        distinct, numbers = np.unique(some, return_counts=True)
    if len(distinct) < 2 or len(distinct) > most:
        whole = bool((some == np.rint(some)).all())
        return (1.0 if whole and len(distinct) > 1 else 0.0), 0
    steps = np.diff(distinct)
    weights = np.minimum(numbers[1:], numbers[:-1])
    differ = steps > _SAME * (distinct[-1] - distinct[0])
    steps, weights = steps[differ], weights[differ]
    order = np.argsort(steps)
    share = np.cumsum(weights[order]) / weights.sum()
    step = steps[order][np.searchsorted(share, _STEP_QUANTILE)]
    return float(step), 1 + len(steps)


def _is_clipped(values: Array, end: float, step: float) -> bool:
    """Whether voxels are clipped at an end of the grey scale."""
    share = float((values == end).mean())
    if share < _MIN_CLIPPED_SHARE or share * values.size < 2:
        return False
    if step > 0:
        adjacent = float(np.isclose(np.abs(values - end), step).mean())
        if share <= _CLIPPED_RATIO * adjacent:
            return False
    return not _is_flat_phase(values, end, step)


def _is_flat_phase(values: Array, end: float, step: float) -> bool:
    """Whether grey values approach this end of the grey scale smoothly.

    This is the case at the blurred border of a phase without noise. Next to a clipped
    voxel, grey values vary by about the noise level.
    """
    at_end = values == end
    left, right = at_end[..., :-1], at_end[..., 1:]
    steps = np.abs(np.diff(values, axis=-1))[left != right]
    near = max(_FLAT * float(np.ptp(values)), 1.5 * step)
    return len(steps) > 0 and float(np.median(steps)) < near


def _rounding(dtype: np.dtype[Any], values: Array) -> float:
    """Return the largest difference that floating-point rounding can cause."""
    if dtype.kind != "f":
        return 0.0
    largest = np.abs(values).max().astype(dtype)
    return _ROUNDING_STEPS * float(np.spacing(largest))
