"""Samples small blocks of a scan; finds rounding and clipping of grey values."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise.basis import Edges, FloatArray

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Box = tuple[slice, ...]

#: Edge of a block, in volumes and in images.
_EDGE, _EDGE_2D = 6, 8
#: Volumes up to this number of voxels are read as a whole; of others, windows at
#: places that spread evenly over the volume.
_WHOLE = 1_500_000
_DEPTH, _WINDOW = 8, 128
_PLACES_ALONG_Z, _PLACES_IN_PLANE = 5, 3
_WINDOW_2D = 384
#: Blocks that are looked at, at most.
_MOST_BLOCKS = 10_000
#: Values on which steps between grey values are looked for.
_MOST_VALUES = 300_000
#: A float scan with more different values than this is not rounded.
_MOST_LEVELS = 5000
#: Voxels at an end of the grey scale that make a scan clipped: their share, and how
#: many times more of them there are than at the values next to the end.
_PILE, _PILE_RATIO = 2e-3, 3.0
#: Blocks with a larger share of clipped voxels tell too little of their noise.
_CLIPPED_SHARE = 0.01
#: Noise below this number of steps between grey values is lost in rounding.
_ROUNDED = 0.5
#: Around padding there is a gap of this part of the range of grey values, which holds
#: less than this share of all voxels.
_GAP, _GAP_SHARE = 0.03, 1e-3
#: Ranges of grey values beyond which single precision is not enough for squares.
_SMALL, _LARGE = 1e-9, 1e9
#: Blocks that vary by less than this part of the scan's range are constant.
_CONSTANT = 1e-6


class NoiseUnknownError(VolumeError):
    """A volume is as it should be, but its noise cannot be measured."""


@dataclass(frozen=True, eq=False)
class NoiseSample:
    """Blocks of a scan without those that cannot be used.

    Attributes
    ----------
    blocks : ndarray of shape (blocks, Z, Y, X), float32 or float64
        Less their mean.
    greys : ndarray of shape (blocks,)
        Their means.
    values : ndarray of shape (blocks, Z, Y, X), float64
        Grey values, of clipped blocks as well; without padding and NaN.
    step : float
        Distance of grey values that can be told apart; 0 where there is none.
    levels : int
        Number of different grey values; 0 where there are too many to count.
    unknown, padded, clipped : float
        Shares of NaN and infinite voxels, of blocks of padding, and of voxels at the
        ends of the grey scale.
    """

    blocks: FloatArray
    greys: Array
    values: Array
    step: float
    levels: int
    unknown: float
    padded: float
    clipped: float

    def is_coarse(self, level: float) -> bool:
        """Whether noise of that level is hidden by the rounding of grey values."""
        return level < _ROUNDED * self.step


def sample_steps(
    volume: Volume, second: Volume | None = None, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, NoiseSample | None]:
    """Read blocks of a scan, window by window; ends in the `NoiseSample`.

    With a second scan of the same object, the blocks are those of the difference,
    divided by √2, at the mean grey values of the two.
    """
    edges = block_edges(volume)
    boxes = _boxes(volume.shape)
    rng = np.random.default_rng(0)
    share = -(-_MOST_BLOCKS // len(boxes))
    found: list[tuple[FloatArray, FloatArray | None]] = []
    for done, box in enumerate(boxes, 1):
        if should_stop():
            return None
        keys = _places(box, edges, share, rng)
        first = _blocks(volume, box, edges, keys)
        again = None if second is None else _blocks(second, box, edges, keys)
        found.append((first, again))
        yield BlockDone(done, len(boxes))
    blocks = np.concatenate([first for first, _ in found])
    repeats = [again for _, again in found if again is not None]
    return _sorted_out(volume, blocks, np.concatenate(repeats) if repeats else None)


def rescaled(sample: NoiseSample) -> tuple[NoiseSample, float]:
    """The sample in units in which squares neither overflow nor vanish, and the unit.

    Grey values of a usual size stay as they are, to the last bit.
    """
    spread = float(np.ptp(sample.values)) if sample.values.size else 0.0
    if not spread > 0 or _SMALL <= spread <= _LARGE:
        return sample, 1.0
    unit = 2.0 ** round(np.log2(spread))
    return replace(
        sample,
        blocks=(sample.blocks / unit).astype(np.float32),
        greys=sample.greys / unit,
        values=sample.values / unit,
        step=sample.step / unit,
    ), unit


def block_edges(volume: Volume) -> Edges:
    """Edges of a block (Z, Y, X)."""
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
    """Windows that spread evenly over the volume; all of it if it is small."""
    if np.prod(shape) <= _WHOLE:
        return [tuple(slice(0, n) for n in shape)]
    if len(shape) == 2 or shape[0] == 1:
        plane = [_spread(n, _WINDOW_2D, _PLACES_IN_PLANE) for n in shape[-2:]]
        boxes: list[Box] = list(itertools.product(*plane))
        return boxes if len(shape) == 2 else [(slice(0, 1), *box) for box in boxes]
    # Deep and narrow, or flat and wide: as many voxels all the same.
    along = [
        _spread(shape[0], _DEPTH, _PLACES_ALONG_Z),
        *(_spread(n, _WINDOW, _PLACES_IN_PLANE) for n in shape[1:]),
    ]
    return list(itertools.product(*along))


def _spread(length: int, size: int, most: int) -> list[slice]:
    size = min(size, length)
    count = min(most, -(-length // size))
    starts = np.linspace(0, length - size, count + 2)[1:-1] if count > 1 else [0.0]
    if count * size >= length:
        starts = np.linspace(0, length - size, count)
    elif count == 1:
        starts = [(length - size) / 2]
    return [slice(int(s), int(s) + size) for s in np.unique(np.rint(starts))]


def _places(
    box: Box, edges: Edges, most: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int_], ...]:
    """Corners of blocks that overlap by half, within a box; some of them at random."""
    lengths = [b.stop - b.start for b in box]
    lengths = [1] * (3 - len(lengths)) + lengths
    grids = [
        np.arange(0, n - e + 1, max(1, e // 2))
        for n, e in zip(lengths, edges, strict=True)
    ]
    count = int(np.prod([len(grid) for grid in grids]))
    if count <= most:
        chosen = np.arange(count)
    else:
        chosen = np.sort(rng.choice(count, most, replace=False))
    at = np.unravel_index(chosen, [len(grid) for grid in grids])
    return tuple(grid[i] for grid, i in zip(grids, at, strict=True))


def _blocks(volume: Volume, box: Box, edges: Edges, corners: Any) -> FloatArray:
    from numpy.lib.stride_tricks import sliding_window_view

    values = np.asarray(volume.data[box])
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    return np.asarray(sliding_window_view(values, edges)[corners])


def _sorted_out(volume: Volume, blocks: Any, repeats: Any) -> NoiseSample:
    """Drop and count blocks that hold no information about noise."""
    known = np.isfinite(blocks)
    if repeats is not None:
        known &= np.isfinite(repeats)
    unknown = 1 - float(known.mean()) if known.size else 1.0
    whole = known.all((1, 2, 3))
    if not whole.any():
        raise NoiseUnknownError(
            f"{volume.title} has no block of {' × '.join(map(str, blocks.shape[1:]))} "
            "voxels without NaN or infinite values: its noise cannot be measured."
        )
    blocks = blocks[whole].astype(np.float64)
    again = None if repeats is None else repeats[whole].astype(np.float64)
    lowest, highest = float(blocks.min()), float(blocks.max())
    constant = np.ptp(blocks, (1, 2, 3)) <= _CONSTANT * (highest - lowest)
    padding = _padding(blocks, constant)
    if padding.all():
        padding[:] = False
    again = None if again is None else again[~padding]
    blocks = blocks[~padding]
    step, levels = _steps(blocks.ravel())
    ends = [end for end in (lowest, highest) if _is_clipped(blocks, end, step)]
    at_end = np.isin(blocks, ends)
    share = at_end.mean((1, 2, 3))
    flat = np.ptp(blocks, (1, 2, 3)) <= _CONSTANT * (highest - lowest)
    phases = len(np.unique(blocks[flat & (share < 1), 0, 0, 0])) > 1
    usable = (share <= _CLIPPED_SHARE) | (flat & phases)
    if not usable.any():
        usable[:] = True
    kept = blocks[usable]
    greys = kept.mean((1, 2, 3))
    if again is not None:
        pair = again[usable]
        greys = (greys + pair.mean((1, 2, 3))) / 2
        kept = (kept - pair) / np.sqrt(2)
        if not kept.any():
            raise VolumeError(
                f"The second scan holds the same values as {volume.title}: noise can "
                "be measured only from two scans that were recorded separately."
            )
    inner = kept - kept.mean((1, 2, 3), keepdims=True)
    extreme = not _SMALL <= highest - lowest <= _LARGE
    return NoiseSample(
        blocks=inner if extreme else inner.astype(np.float32),
        greys=greys,
        values=blocks,
        step=step,
        levels=levels,
        unknown=unknown,
        padded=float(padding.mean()),
        clipped=float(at_end.mean()),
    )


def _padding(blocks: Array, constant: Bools) -> Bools:
    """Which blocks touch the constant surroundings of the sample.

    Surroundings have one value, which hardly any voxel of the sample comes near at the
    ends of the grey scale. Constant blocks of several values between the ends are
    phases of a scan without noise; constant blocks at an end are saturated.
    """
    found = np.zeros(len(blocks), bool)
    lowest, highest = float(blocks.min()), float(blocks.max())
    values = np.unique(blocks[constant, 0, 0, 0])
    inner = values[(values > lowest) & (values < highest)]
    padding = list(inner) if len(inner) == 1 else []
    near = _GAP * (highest - lowest)
    for end in values[(values == lowest) | (values == highest)]:
        apart = np.abs(blocks - end)
        others = apart > 0
        if others.any() and float((apart[others] < near).mean()) < _GAP_SHARE:
            padding.append(end)
    for value in padding:
        found |= (blocks == value).mean((1, 2, 3)) > _CLIPPED_SHARE
    return found


def _steps(values: Array) -> tuple[float, int]:
    """The smallest distance between grey values, and how many there are."""
    some = values[:: max(1, len(values) // _MOST_VALUES)]
    distinct = np.unique(some)
    if len(distinct) < 2 or len(distinct) > min(_MOST_LEVELS, len(some) // 10):
        whole = bool((some == np.rint(some)).all())
        return (1.0 if whole and len(distinct) > 1 else 0.0), 0
    return float(np.diff(distinct).min()), len(distinct)


def _is_clipped(values: Array, end: float, step: float) -> bool:
    """Whether voxels are clipped at an end of the grey scale."""
    share = float((values == end).mean())
    if share < _PILE:
        return False
    if not step > 0:
        return True
    next_to_it = float(np.isclose(np.abs(values - end), step).mean())
    return share > _PILE_RATIO * next_to_it
