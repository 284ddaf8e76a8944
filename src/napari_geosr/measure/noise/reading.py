"""Reads small blocks from all parts of a scan."""

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
from napari_geosr.measure.noise.basis import Array, Edges, FloatArray

Box = tuple[slice, ...]

#: Edge of a block in volumes, in voxels.
EDGE = 6
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
#: Approximate maximum number of blocks in which the noise is measured.
_MAX_BLOCKS = 10_000
#: Number of voxels that are averaged along an axis.
_PAIR = 2


@dataclass(frozen=True, eq=False)
class ScanBlocks:
    """Blocks of a scan and their positions.

    Attributes
    ----------
    values : ndarray of shape (blocks, Z, Y, X)
        Grey values.
    repeats : ndarray or None
        Grey values of a second scan at the same positions.
    centres : ndarray of shape (blocks, 3)
        Centres of the blocks along Z, Y and X, as fractions of the scan's extent.
    """

    values: FloatArray
    repeats: FloatArray | None
    centres: Array

    def cropped(self, edge: int) -> ScanBlocks:
        """Crop each block to a smaller one at its first corner."""
        key = (slice(None), *[slice(0, edge)] * 3)
        repeats = None if self.repeats is None else self.repeats[key]
        return ScanBlocks(self.values[key], repeats, self.centres)

    def limited(self, count: int) -> ScanBlocks:
        """Return at most `count` of the blocks, from all parts of the scan."""
        n = len(self.values)
        if n <= count:
            return self
        kept = np.linspace(0, n - 1, count).round().astype(int)
        repeats = None if self.repeats is None else self.repeats[kept]
        return ScanBlocks(self.values[kept], repeats, self.centres[kept])


def sample_steps(
    volume: Volume,
    second: Volume | None = None,
    should_stop: ShouldStop = never_stop,
    edge: int = EDGE,
) -> Generator[Step, None, ScanBlocks | None]:
    """Read blocks of a scan, window by window.

    `edge` is the edge length of the blocks of a volume, in voxels; the blocks of an
    image have a fixed size.

    Returns
    -------
    ScanBlocks or None
        None if `should_stop` returned True.
    """
    edges = block_edges(volume, edge)
    boxes = _boxes(volume.shape)
    rng = np.random.default_rng(0)
    share = -(-_MAX_BLOCKS // len(boxes))
    found: list[ScanBlocks] = []
    for done, box in enumerate(boxes, 1):
        if should_stop():
            return None
        keys = _places(box, edges, share, rng)
        first = _blocks(volume, box, edges, keys)
        repeat = None if second is None else _blocks(second, box, edges, keys)
        found.append(ScanBlocks(first, repeat, _centres(volume, box, edges, keys)))
        yield BlockDone(done, len(boxes))
    values: Any = np.concatenate([one.values for one in found])
    parts = [one.repeats for one in found if one.repeats is not None]
    repeats = np.concatenate(parts) if parts else None
    return ScanBlocks(values, repeats, np.concatenate([one.centres for one in found]))


def averaged(volume: Volume) -> Volume | None:
    """Average neighbouring voxels of the scan in pairs along every axis.

    Only the sampled parts of the scan are read. If there are few slices, each is
    averaged only within its plane.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.

    Returns
    -------
    Volume or None
        None if the averaged scan would be too small for a block.
    """
    factors = [_PAIR] * len(volume.shape)
    if len(factors) == 3 and volume.shape[0] < _PAIR * EDGE:  # too few slices
        factors[0] = 1
    edges = (_EDGE_2D,) * 2 if 1 in volume.shape or volume.ndim == 2 else (EDGE,) * 3
    shape = [n // factor for n, factor in zip(volume.shape, factors, strict=True)]
    if min(shape[-2:]) < edges[0] or (len(edges) == 3 and shape[0] < edges[0]):
        return None
    return replace(volume, data=_Averaged(volume.data, factors), provenance=())


class _Averaged:
    """Means over boxes of an array, computed only in the parts that are read."""

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


def block_edges(volume: Volume, edge: int = EDGE) -> Edges:
    """Return the edge lengths of a block (Z, Y, X); `edge` applies to volumes."""
    if volume.axes not in ("ZYX", "YX"):
        raise VolumeError(
            f"{volume.title} has the axes {volume.axes}; noise is measured in a "
            "single volume or image. Choose a time point and a channel."
        )
    deep = volume.axes == "ZYX" and volume.shape[0] > 1
    edge = edge if deep else _EDGE_2D
    z = min(edge, volume.shape[0]) if deep else 1
    y, x = (min(edge, n) for n in volume.shape[-2:])
    return z, y, x


def _boxes(shape: Sequence[int]) -> list[Box]:
    """Return evenly spaced windows, or the whole volume if it is small."""
    if np.prod(shape) <= _MAX_WHOLE_VOXELS:
        return [tuple(slice(0, n) for n in shape)]
    if len(shape) == 2 or shape[0] == 1:
        plane = [_evenly_spaced(n, _WINDOW_2D, _WINDOWS_IN_PLANE) for n in shape[-2:]]
        boxes: list[Box] = list(itertools.product(*plane))
        return boxes if len(shape) == 2 else [(slice(0, 1), *box) for box in boxes]
    along = [
        _evenly_spaced(shape[0], _WINDOW_DEPTH, _WINDOWS_ALONG_Z),
        *(_evenly_spaced(n, _WINDOW_EDGE, _WINDOWS_IN_PLANE) for n in shape[1:]),
    ]
    return list(itertools.product(*along))


def _evenly_spaced(length: int, size: int, limit: int) -> list[slice]:
    """Return up to `limit` windows of `size`, centred in equal parts of `length`.

    Windows that do not cover the whole length leave out its ends, because corners are
    outside a round field of view.
    """
    size = min(size, length)
    count = min(limit, -(-length // size))
    starts = (np.arange(count) + 0.5) * length / count - size / 2
    if count * size >= length:
        starts = np.linspace(0, length - size, count)
    return [slice(int(s), int(s) + size) for s in np.unique(np.rint(starts))]


def _places(
    box: Box, edges: Edges, limit: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int_], ...]:
    """Choose corners of blocks that overlap by half: at most `limit`, at random."""
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


def _centres(volume: Volume, box: Box, edges: Edges, corners: Any) -> Array:
    """Return the centres of the blocks, as fractions of the volume."""
    starts = [0] * (3 - len(box)) + [one.start for one in box]
    lengths = [1] * (3 - volume.ndim) + list(volume.shape)
    return np.stack(
        [
            (corner + start + edge / 2) / length
            for corner, start, edge, length in zip(
                corners, starts, edges, lengths, strict=True
            )
        ],
        axis=1,
    )
