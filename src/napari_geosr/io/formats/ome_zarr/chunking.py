"""Shapes of the chunks and shards of an OME-Zarr, for display and for writing."""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]

#: Edge of a chunk along Y and X, in voxels: a compromise between whole slices (for
#: scrolling) and cubes (for tiles with halos, which decode every chunk that they
#: touch).
_EDGE = 256
_CHUNK_BYTES = 1 << 20
SHARD_BYTES = 16 << 20
#: Number of planes per chunk.
_CHUNK_DEPTH = 8
#: Number of planes per shard.
_SHARD_DEPTH = 32
#: Minimum edge of a chunk: a tile edge without a divisor this large is not divided.
_MIN_EDGE = 32


def chunk_shapes(
    shape: Sequence[int], itemsize: int, shard_bytes: int = SHARD_BYTES
) -> tuple[Shape, Shape]:
    """Shapes of a chunk (about 1 MB, flat) and of a shard (about 16 MB).

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    itemsize : int
        Bytes per voxel.
    shard_bytes : int
        Approximate maximum size of a shard.
    """
    chunk = [1] * len(shape)
    chunk[-2:] = [min(_EDGE, n) for n in shape[-2:]]
    flat = math.prod(chunk) * itemsize
    if len(shape) > 2:
        chunk[-3] = max(1, min(shape[-3], _CHUNK_BYTES // flat, _CHUNK_DEPTH))
    shard = list(chunk)
    # Tiles arrive in Z-Y-X order: shards that are short in Z and Y are complete early.
    for axis in _axes(shape):
        room = shard_bytes // (math.prod(shard) * itemsize)
        if axis == -3:
            room = min(room, max(1, _SHARD_DEPTH // shard[axis]))
        whole = -(-shape[axis] // shard[axis])
        shard[axis] *= max(1, min(room, whole))
    return tuple(chunk), tuple(shard)


def fitted_shapes(
    shape: Sequence[int],
    itemsize: int,
    tile: Sequence[int],
    shard_bytes: int,
    buffer_bytes: int,
) -> tuple[Shape, Shape]:
    """Shapes of a chunk and of a shard such that every tile contains whole shards.

    Parameters
    ----------
    tile : sequence of int
        Shape of the blocks that are written side by side from the first voxel, in the
        order of the axes, last axis fastest.
    shard_bytes : int
        Approximate maximum size of a shard.
    buffer_bytes : int
        Memory for incomplete shards; if it suffices, thin tiles share a shard.
    """
    n_axes = len(shape)
    tile = [min(int(t), n) for t, n in zip(tile, shape, strict=True)]
    whole = [t == n for t, n in zip(tile, shape, strict=True)]
    chunk = [1] * n_axes
    for axis in (-1, -2):
        edge = min(_EDGE, tile[axis])
        chunk[axis] = edge if whole[axis] else _divisor(tile[axis], edge)
        if chunk[axis] < min(_MIN_EDGE, tile[axis]):
            chunk[axis] = tile[axis]
    if n_axes > 2:
        flat = math.prod(chunk) * itemsize
        depth = max(1, min(_CHUNK_BYTES // flat, _CHUNK_DEPTH))
        chunk[-3] = _divisor(tile[-3], depth)
    shard = list(chunk)
    for axis in _axes(shape):
        room = max(1, shard_bytes // (math.prod(shard) * itemsize))
        n_chunks = -(-tile[axis] // chunk[axis])
        shard[axis] *= min(room, n_chunks) if whole[axis] else _divisor(n_chunks, room)
    if n_axes > 2 and shard[-3] == tile[-3]:
        layer = math.prod((*tile[:-2], *shape[-2:])) * itemsize
        times = min(
            shard_bytes // (math.prod(shard) * itemsize),
            buffer_bytes // layer,
            _SHARD_DEPTH // tile[-3],
            -(-shape[-3] // tile[-3]),
        )
        shard[-3] *= max(1, times)
    return tuple(chunk), tuple(shard)


def _axes(shape: Sequence[int]) -> tuple[int, ...]:
    return (-3, -1, -2) if len(shape) > 2 else (-1, -2)


def _divisor(n: int, limit: int) -> int:
    """The largest divisor of `n` up to `limit`."""
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)
