"""Samples small blocks of a scan; finds rounding and clipping of grey values."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.basis import Edges, FloatArray

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Box = tuple[slice, ...]

#: Edge of a block in volumes, in voxels.
_EDGE = 6
#: Edge of a block in images, in voxels.
_EDGE_2D = 8
#: Maximum number of voxels of a volume that is read as a whole; in larger volumes,
#: evenly spaced windows are read.
_MAX_WHOLE_VOXELS = 1_500_000
#: Size of a window along Z, in voxels.
_WINDOW_DEPTH = 8
#: Size of a window along Y and X, in voxels.
_WINDOW_EDGE = 128
#: Number of windows along Z.
_WINDOWS_ALONG_Z = 5
#: Number of windows along Y and along X.
_WINDOWS_IN_PLANE = 3
_WINDOW_2D = 384
#: Maximum number of blocks.
_MAX_BLOCKS = 10_000
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
#: Edge length of the patches in the corners of a slice.
_CORNER = 5
#: Fraction of clipped voxels above which the others do not show the noise.
_MOSTLY_CLIPPED = 0.6
#: Noise level, in steps between grey values, below which noise is lost in rounding.
_ROUNDED = 0.5
#: Minimum gap between padding and other grey values, as a fraction of their range.
_GAP = 0.03
#: Fraction of the other voxels below which such a gap counts as empty.
_GAP_SHARE = 1e-3
#: Range of grey values below which single precision does not suffice for squares.
_MIN_RANGE = 1e-9
#: Range of grey values above which single precision does not suffice for squares.
_MAX_RANGE = 1e9
#: Distance of grey values from zero, in ranges of grey values, above which double
#: precision does not suffice for squares.
_MAX_OFFSET = 2.0**20
#: Percentiles between which nearly all grey values are, and their middle.
_RANGE = (0.01, 50.0, 99.99)
#: Minimum distance of an extreme value from the middle, in units of this range.
_EXTREME = 1e3
#: Distance, relative to the range of grey values, below which two of them are equal up
#: to rounding in the computer.
_SAME = 1e-5
#: Quantile of the distances between adjacent grey values that is taken as the step of
#: the grey scale. Each distance counts like the rarer of its two values, because the
#: smallest distance may come from a single voxel.
_STEP_QUANTILE = 0.1
#: Number of voxels that are averaged along an axis.
_PAIR = 2
#: Range of a block, relative to that of the scan, below which it counts as constant.
_CONSTANT = 1e-6


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
    values : ndarray of shape (blocks, Z, Y, X), float64
        Grey values, including those of clipped blocks, without padding and NaN.
    step : float
        Smallest distance between grey values; 0 if they are not rounded.
    levels : int
        Number of different grey values; 0 if there are too many to count.
    unknown, padded, clipped : float
        Fractions of NaN and infinite voxels, of blocks of padding, and of voxels at the
        ends of the grey scale.
    extreme : float
        Fraction of voxels with values far outside the range of all others.
    has_clipped : bool
        Whether `blocks` contains clipped blocks, because there are no others.
    """

    blocks: FloatArray
    greys: Array
    values: Array
    step: float
    levels: int
    unknown: float
    padded: float
    clipped: float
    extreme: float = 0.0
    has_clipped: bool = False

    @property
    def is_mostly_clipped(self) -> bool:
        """Whether so many voxels are clipped that the others do not show the noise."""
        return self.has_clipped and self.clipped > _MOSTLY_CLIPPED

    def is_coarse(self, level: float) -> bool:
        """Whether rounding of grey values hides noise of this level."""
        return level < _ROUNDED * self.step


def sample_steps(
    volume: Volume, second: Volume | None = None, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, tuple[FloatArray, FloatArray | None] | None]:
    """Read blocks of a scan, window by window.

    Returns
    -------
    ndarray of shape (blocks, Z, Y, X)
        Grey values.
    ndarray or None
        Those of the second scan at the same positions.
    """
    edges = block_edges(volume)
    boxes = _boxes(volume.shape)
    rng = np.random.default_rng(0)
    share = -(-_MAX_BLOCKS // len(boxes))
    pairs: list[tuple[FloatArray, FloatArray | None]] = []
    for done, box in enumerate(boxes, 1):
        if should_stop():
            return None
        keys = _places(box, edges, share, rng)
        first = _blocks(volume, box, edges, keys)
        repeat = None if second is None else _blocks(second, box, edges, keys)
        pairs.append((first, repeat))
        yield BlockDone(done, len(boxes))
    blocks: Any = np.concatenate([first for first, _ in pairs])
    parts = [repeat for _, repeat in pairs if repeat is not None]
    repeats = np.concatenate(parts) if parts else None
    pairs.clear()
    parts.clear()
    return blocks, repeats


def averaged(volume: Volume) -> Volume | None:
    """The scan with neighbouring voxels averaged in pairs along every axis.

    Only the sampled parts of it are read. A single slice is averaged within its plane.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.

    Returns
    -------
    Volume or None
        None if it would have no room for a block.
    """
    factors = [1 if n == 1 else _PAIR for n in volume.shape]
    edges = (_EDGE_2D,) * 2 if 1 in volume.shape or volume.ndim == 2 else (_EDGE,) * 3
    shape = [n // factor for n, factor in zip(volume.shape, factors, strict=True)]
    if min(shape[-2:]) < edges[0] or (len(edges) == 3 and shape[0] < edges[0]):
        return None
    return replace(volume, data=_Averaged(volume.data, factors), provenance=())


class _Averaged:
    """Means over boxes of an array, computed where they are read."""

    dtype = np.dtype(np.float32)

    def __init__(self, data: Any, factors: Sequence[int]) -> None:
        self._data = data
        self._factors = factors
        self.shape = tuple(n // f for n, f in zip(data.shape, factors, strict=True))
        self.ndim = len(self.shape)

    def __getitem__(self, key: Box) -> FloatArray:
        box = tuple(
            slice(k.start * f, k.stop * f)
            for k, f in zip(key, self._factors, strict=True)
        )
        values = np.asarray(self._data[box], np.float64)
        for axis, factor in enumerate(self._factors):
            if factor > 1:
                even = np.take(values, range(0, values.shape[axis], factor), axis)
                odd = np.take(values, range(1, values.shape[axis], factor), axis)
                values = (even + odd) / factor
        return values.astype(np.float32)


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
        Unit of its values.
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


def block_edges(volume: Volume) -> Edges:
    """Edge lengths of a block (Z, Y, X)."""
    if volume.axes not in ("ZYX", "YX"):
        raise VolumeError(
            f"{volume.title} has the axes {volume.axes}; noise is measured in a "
            "single volume or image. Choose a time point and a channel."
        )
    deep = volume.axes == "ZYX" and volume.shape[0] > 1
    edge = _EDGE if deep else _EDGE_2D
    z = min(edge, volume.shape[0]) if deep else 1
    y, x = (min(edge, n) for n in volume.shape[-2:])
    return z, y, x


def _boxes(shape: Sequence[int]) -> list[Box]:
    """Evenly spaced windows of the volume, or the whole volume if it is small."""
    if np.prod(shape) <= _MAX_WHOLE_VOXELS:
        return [tuple(slice(0, n) for n in shape)]
    if len(shape) == 2 or shape[0] == 1:
        plane = [_evenly_spaced(n, _WINDOW_2D, _WINDOWS_IN_PLANE) for n in shape[-2:]]
        boxes: list[Box] = list(itertools.product(*plane))
        return boxes if len(shape) == 2 else [(slice(0, 1), *box) for box in boxes]
    # Read about the same number of voxels from deep, narrow volumes as from flat, wide
    # ones.
    along = [
        _evenly_spaced(shape[0], _WINDOW_DEPTH, _WINDOWS_ALONG_Z),
        *(_evenly_spaced(n, _WINDOW_EDGE, _WINDOWS_IN_PLANE) for n in shape[1:]),
    ]
    return list(itertools.product(*along))


def _evenly_spaced(length: int, size: int, limit: int) -> list[slice]:
    """At most `limit` windows of `size`, evenly spaced over `length`."""
    size = min(size, length)
    count = min(limit, -(-length // size))
    starts = np.linspace(0, length - size, count + 2)[1:-1] if count > 1 else [0.0]
    if count * size >= length:
        starts = np.linspace(0, length - size, count)
    elif count == 1:
        starts = [(length - size) / 2]
    return [slice(int(s), int(s) + size) for s in np.unique(np.rint(starts))]


def _places(
    box: Box, edges: Edges, limit: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int_], ...]:
    """Corners of blocks in a box that overlap by half; at most `limit`, at random."""
    lengths = [b.stop - b.start for b in box]
    lengths = [1] * (3 - len(lengths)) + lengths
    grids = [
        np.arange(0, n - e + 1, max(1, e // 2))
        for n, e in zip(lengths, edges, strict=True)
    ]
    count = int(np.prod([len(grid) for grid in grids]))
    if count <= limit:
        chosen = np.arange(count)
    else:
        chosen = np.sort(rng.choice(count, limit, replace=False))
    at = np.unravel_index(chosen, [len(grid) for grid in grids])
    return tuple(grid[i] for grid, i in zip(grids, at, strict=True))


def _blocks(volume: Volume, box: Box, edges: Edges, corners: Any) -> FloatArray:
    values = np.asarray(volume.data[box])
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    return np.asarray(sliding_window_view(values, edges)[corners])


def usable_sample(volume: Volume, blocks: Any, repeats: Any) -> NoiseSample:
    """Drop and count blocks that contain no information about noise.

    With a second scan of the same object, the blocks are the difference divided by √2,
    at the mean grey values of the two.

    Parameters
    ----------
    volume : Volume
    blocks, repeats
        The result of `sample_steps`.
    """
    known = np.isfinite(blocks)
    if repeats is not None:
        known &= np.isfinite(repeats)
    unknown = 1 - float(known.mean()) if known.size else 1.0
    far = _extreme(blocks, known)
    far_share = float(far.mean()) if known.size else 0.0
    known &= ~far
    whole = known.all((1, 2, 3))
    if not whole.any():
        raise NoiseUnknownError(
            f"{volume.title} has no block of {' × '.join(map(str, blocks.shape[1:]))} "
            "voxels without NaN or infinite values: its noise cannot be measured."
        )
    blocks = blocks[whole].astype(np.float64)
    repeats = None if repeats is None else repeats[whole].astype(np.float64)
    lowest, highest = float(blocks.min()), float(blocks.max())
    constant = np.ptp(blocks, (1, 2, 3)) <= _CONSTANT * (highest - lowest)
    padding = _padding(blocks, constant, _outer_values(volume))
    if padding.all():
        padding[:] = False
    repeats = None if repeats is None else repeats[~padding]
    blocks = blocks[~padding]
    step, levels = _steps(blocks.ravel())
    ends = [end for end in (lowest, highest) if _is_clipped(blocks, end, step)]
    at_end = np.isin(blocks, ends)
    share = at_end.mean((1, 2, 3))
    flat = np.ptp(blocks, (1, 2, 3)) <= _CONSTANT * (highest - lowest)
    phases = len(np.unique(blocks[flat & (share < 1), 0, 0, 0])) > 1
    usable = (share <= _CLIPPED_SHARE) | (flat & phases)
    has_clipped = not usable.any()
    if has_clipped:
        usable[:] = True
    centred = blocks[usable]
    greys = centred.mean((1, 2, 3))
    if repeats is not None:
        repeats = repeats[usable]
        greys = (greys + repeats.mean((1, 2, 3))) / 2
        centred = (centred - repeats) / np.sqrt(2)
        if not centred.any():
            raise VolumeError(
                f"The second scan has the same values as {volume.title}: noise can be "
                "measured only from two scans that were recorded separately."
            )
    centred -= centred.mean((1, 2, 3), keepdims=True)  # in place: a copy takes 17 MB
    extreme = not _MIN_RANGE <= highest - lowest <= _MAX_RANGE
    return NoiseSample(
        blocks=centred if extreme else centred.astype(np.float32),
        greys=greys,
        values=blocks,
        step=step,
        levels=levels,
        unknown=unknown,
        padded=float(padding.mean()),
        clipped=float(at_end.mean()),
        extreme=far_share,
        has_clipped=has_clipped,
    )


def _extreme(blocks: Any, known: Bools) -> Bools:
    """Values far outside the range of nearly all others, such as no-data markers.

    A single one would make all differences between the others look like rounding.
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


def _outer_values(volume: Volume) -> list[float]:
    """Values that fill all corners, or one edge, of the first, middle or last slice.

    This is how padding is recognised. Pores in which no photon was counted also have a
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
    return [value for value in found if value is not None]


def _constant(volume: Volume, box: Box) -> float | None:
    """The value of all voxels of a box, if they are all equal."""
    values = np.asarray(volume.data[box], np.float64)
    return float(values.flat[0]) if np.ptp(values) == 0 else None


def _padding(blocks: Array, constant: Bools, outer: Sequence[float]) -> Bools:
    """Find the blocks that touch the constant surroundings of the sample.

    Padding has one value, which also fills corners or an edge of a slice; if that value
    is an end of the grey scale, hardly any voxel of the sample has a similar value.
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
    """The usual smallest step between grey values, and the number of these values."""
    some = values[:: max(1, len(values) // _MAX_VALUES)]
    most = min(_MAX_LEVELS, len(some) // 10)
    # Sorting is slow, so skip the remaining values if there are already too many.
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
    if share < _MIN_CLIPPED_SHARE:
        return False
    if not step > 0:
        return True
    adjacent = float(np.isclose(np.abs(values - end), step).mean())
    return share > _CLIPPED_RATIO * adjacent
