"""Chunks and shards of an OME-Zarr: their shapes, and buffers for whole shards.

A single process buffers incomplete shards; if there are several processes, each writes
its own part.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.array_parts.indexing import Slices, as_slices
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.types import AnyArray
from napari_geosr.io.unfinished_files.atomic import explained, sync_file, sync_folder
from napari_geosr.io.unfinished_files.hidden import with_user_names

if TYPE_CHECKING:
    import numpy.typing as npt

Shape = tuple[int, ...]

#: Edge length of a chunk along Y and X, in voxels: a compromise between whole slices
#: (for scrolling) and cubes (for tiles with halos, which decode every chunk that they
#: touch).
_EDGE = 256
_CHUNK_BYTES = 1 << 20
SHARD_BYTES = 16 << 20
#: Number of planes per chunk.
_CHUNK_DEPTH = 8
#: Number of planes per shard.
_SHARD_DEPTH = 32
#: Minimum edge of a chunk, in voxels; a tile edge without a divisor of at least this
#: size is not divided.
_MIN_EDGE = 32
#: Default limit for incomplete shards held in memory, in bytes.
BUFFER_BYTES = 128 << 20
#: Memory needed to pack a shard, as a multiple of its size: its chunks, their
#: compressed copies and the joined result.
PACKING = 3


def chunk_shapes(
    shape: Sequence[int], itemsize: int, shard_bytes: int = SHARD_BYTES
) -> tuple[Shape, Shape]:
    """Return the shapes of a chunk (about 1 MB, flat) and of a shard (about 16 MB).

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
    # Tiles arrive in Z-Y-X order: shards that are short in Z and Y are completed early.
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
    """Return chunk and shard shapes that fit tiles, so that each shard is written once.

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
    """Return the largest divisor of `n` up to `limit`."""
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


class ShardBuffer:
    """A writable array-like over a zarr array that writes each shard once, in full.

    Tiles may have any size and alignment; a shard is written to disk when all its
    voxels have arrived (or when too many shards are incomplete).

    Parameters
    ----------
    array : zarr.Array
    block_shape : tuple of int
        Shape of a shard.
    buffer_bytes : int
        Maximum memory for incomplete shards.
    fill : float
        Value of voxels that were never written.
    path : Path
        File named in error messages.
    """

    def __init__(
        self,
        array: Any,
        block_shape: tuple[int, ...],
        buffer_bytes: int = BUFFER_BYTES,
        fill: float = 0,
        path: Path = Path("result.ome.zarr"),
    ) -> None:
        self.path = path
        self.array = array
        self.fill = fill
        self.block_shape = block_shape
        self.buffer_bytes = buffer_bytes
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        self.n_rewrites = 0
        self._pending: OrderedDict[tuple[int, ...], AnyArray]
        self._pending = OrderedDict()
        self._given: dict[tuple[int, ...], int] = {}
        self._written: set[tuple[int, ...]] = set()
        self._unsynced: set[tuple[int, ...]] = set()
        # Tiles are written by one thread while another thread may flush the file to
        # disk.
        self._lock = threading.RLock()

    @property
    def held_bytes(self) -> int:
        """Maximum bytes for incomplete shards and for packing, excluding the tiles."""
        n_voxels = math.prod(self.block_shape)
        return self.buffer_bytes + PACKING * n_voxels * int(self.dtype.itemsize)

    @property
    def is_whole(self) -> bool:
        """Whether all shards were written."""
        pairs = zip(self.shape, self.block_shape, strict=True)
        return len(self._written) == math.prod(-(-n // b) for n, b in pairs)

    def _region(self, index: tuple[int, ...]) -> Slices:
        return tuple(
            slice(i * b, min((i + 1) * b, n))
            for i, b, n in zip(index, self.block_shape, self.shape, strict=True)
        )

    def __setitem__(self, key: Any, value: Any) -> None:
        region, after = as_slices(key, self.shape)
        if any(a != slice(None) and a != 0 for a in after):
            raise IndexError("write with slices of step 1")
        lengths = tuple(s.stop - s.start for s in region)
        given = np.asarray(value)
        dropped = tuple(i for i, a in enumerate(after) if a == 0)
        if dropped and given.ndim:
            # Integers in the key remove axes: add these again, with a length of one.
            kept = tuple(n for i, n in enumerate(lengths) if i not in dropped)
            given = np.expand_dims(np.broadcast_to(given, kept), dropped)
        voxels = np.broadcast_to(given, lengths)
        for index in self._grid(region):
            with self._lock:
                self._put(index, region, voxels)

    def _grid(self, region: Slices) -> Iterator[tuple[int, ...]]:
        """Return the indices of the shards that a region touches."""
        ranges = [
            range(s.start // b, -(-s.stop // b)) if s.stop > s.start else range(0)
            for s, b in zip(region, self.block_shape, strict=True)
        ]
        return itertools.product(*ranges)

    def adopt(self, finished: Sequence[Slices]) -> None:
        """Mark the shards of `finished` boxes as written, completely or in part."""
        for box in finished:
            for index in self._grid(box):
                shared = [
                    min(w.stop, b.stop) - max(w.start, b.start)
                    for w, b in zip(self._region(index), box, strict=True)
                ]
                given = self._given.get(index, 0)
                self._given[index] = given + math.prod(shared)
                self._written.add(index)

    def unwritten(self) -> Iterator[str]:
        """Yield the names of the shards that contain no written or adopted voxels."""
        everything = tuple(slice(0, n) for n in self.shape)
        for index in self._grid(everything):
            if index not in self._written:
                yield self.array.metadata.encode_chunk_key(index)

    def _put(self, index: tuple[int, ...], region: Slices, voxels: Any) -> None:
        whole = self._region(index)
        source, target = [], []
        for w, r in zip(whole, region, strict=True):
            low, high = max(w.start, r.start), min(w.stop, r.stop)
            source.append(slice(low - r.start, high - r.start))
            target.append(slice(low - w.start, high - w.start))
        part = voxels[tuple(source)]
        if index not in self._pending:
            lengths = tuple(w.stop - w.start for w in whole)
            if index in self._written:  # the shard was flushed while incomplete
                self.n_rewrites += 1
                with self._explained(index):
                    self._pending[index] = np.asarray(self.array[whole])
            elif part.shape == lengths:
                self._write(index, part.astype(self.dtype, copy=False))
                return
            else:
                self._pending[index] = np.full(lengths, self.fill, dtype=self.dtype)
        block = self._pending[index]
        block[tuple(target)] = part
        self._given[index] = self._given.get(index, 0) + part.size
        if self._given[index] >= block.size:
            self._flush_one(index)
        while self._pending and self._pending_bytes() > self.buffer_bytes:
            self._flush_one(next(iter(self._pending)))

    def _pending_bytes(self) -> int:
        return sum(block.nbytes for block in self._pending.values())

    def _flush_one(self, index: tuple[int, ...]) -> None:
        self._write(index, self._pending[index])
        # If writing failed, for example on a full disk, the shard is kept in memory.
        del self._pending[index]

    def _write(self, index: tuple[int, ...], block: AnyArray) -> None:
        with explained(self.path), self._explained(index):
            self.array[self._region(index)] = block
        self._written.add(index)
        self._unsynced.add(index)

    @contextmanager
    def _explained(self, index: tuple[int, ...]) -> Iterator[None]:
        """Explain a decoding error: zarr reads a shard before it changes part of it."""
        try:
            yield
        except (OSError, MemoryError, GeoSRError):
            raise
        except Exception as error:
            name = self.array.metadata.encode_chunk_key(index)
            raise FileError(
                f"{with_user_names(self.path.name)} cannot be completed, because its "
                f"shard {self.array.path}/{name} is damaged: {error}. Restore it again "
                "from the beginning (--overwrite)."
            ) from error

    def flush(self) -> None:
        """Write all buffered shards."""
        with self._lock:
            for index in list(self._pending):
                self._flush_one(index)

    def written(self, boxes: Sequence[Slices]) -> list[Slices]:
        """Write the buffered shards if possible; return the `boxes` now in the file."""
        with self._lock:
            for index in list(self._pending):
                with suppress(FileError):
                    self._flush_one(index)
            return [
                box for box in boxes if self._pending.keys().isdisjoint(self._grid(box))
            ]

    def flush_to_disk(self, folder: Path) -> None:
        """Write all buffered shards and flush the new ones to disk.

        Parameters
        ----------
        folder : Path
            Folder of the array.
        """
        self.flush()
        with self._lock:
            new, self._unsynced = self._unsynced, set()
        names = (self.array.metadata.encode_chunk_key(index) for index in new)
        try:
            # A shard that contains only fill values may not have been written.
            shards = [path for name in names if (path := folder / name).exists()]
            for shard in shards:
                sync_file(shard)
            for inner in {each for shard in shards for each in shard.parents}:
                if inner.is_relative_to(folder):
                    sync_folder(inner)
        except BaseException:
            with self._lock:
                self._unsynced |= new  # the next attempt includes these shards
            raise

    def __getitem__(self, key: Any) -> AnyArray:
        with self._lock:
            self.flush()
            return np.asarray(self.array[key])

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)


@dataclass(frozen=True)
class SharedZarr:
    """A zarr array that several processes fill, each with whole shards.

    A shard is written under a temporary name and renamed, so neither a killed process
    nor two processes that write the same shard leave a damaged shard.

    Attributes
    ----------
    folder : Path
        Folder of the array.
    path : Path
        File named in error messages.
    """

    folder: Path
    path: Path

    def part(self, place: Box, memory: int) -> SharedPart:
        """Return a part to fill; its edges are edges of shards or of the array.

        Parameters
        ----------
        place : tuple of slice
            Position of the part in the array.
        memory : int
            Bytes for incomplete shards and for packing.
        """
        with explained(self.path):
            array = open_level(self.folder)
        shards = array.shards or array.chunks
        packing = PACKING * math.prod(shards) * int(array.dtype.itemsize)
        buffer = ShardBuffer(
            array, shards, max(0, memory - packing), array.fill_value, self.path
        )
        return SharedPart(buffer, place, self.folder)


class SharedPart:
    """A part of a shared zarr, indexed from its own first voxel.

    Parameters
    ----------
    buffer : ShardBuffer
        Buffer of the whole array.
    place : tuple of slice
        Position of the part in the array.
    folder : Path
        Folder of the array.
    """

    def __init__(self, buffer: ShardBuffer, place: Box, folder: Path) -> None:
        for part, edge, n in zip(place, buffer.block_shape, buffer.shape, strict=True):
            if part.start % edge or (part.stop % edge and part.stop != n):
                raise ValueError(
                    f"{place} does not consist of whole shards of shape "
                    f"{buffer.block_shape}"
                )
        self._buffer, self._place, self._folder = buffer, place, folder
        self.shape = tuple(part.stop - part.start for part in place)
        self.dtype, self.ndim = buffer.dtype, buffer.ndim

    @property
    def held_bytes(self) -> int:
        """Maximum memory, in bytes, in addition to that of the tiles."""
        return self._buffer.held_bytes

    def __setitem__(self, key: Slices, value: AnyArray) -> None:
        region, after = as_slices(key, self.shape)
        if any(a != slice(None) for a in after):
            raise IndexError("write with slices of step 1")
        shifted = tuple(
            slice(r.start + p.start, r.stop + p.start)
            for r, p in zip(region, self._place, strict=True)
        )
        self._buffer[shifted] = value

    def finish(self) -> None:
        """Flush all shards to disk."""
        with explained(self._buffer.path):
            self._buffer.flush_to_disk(self._folder)


def open_level(folder: Path) -> Any:
    """Open an array to be filled, so that a file is written for every shard.

    The setting that ensures this is not stored in the array. Without it, shards of fill
    values would have no file and look like lost data.

    Parameters
    ----------
    folder : Path
        Folder of the array.
    """
    import zarr

    own = {"write_empty_chunks": True}
    array: Any = zarr.open_array(folder, mode="r+")
    if hasattr(array, "with_config"):
        return array.with_config(own)
    # In earlier versions of zarr, the setting applies to the whole process.
    with zarr.config.set({f"array.{key}": value for key, value in own.items()}):
        return zarr.open_array(folder, mode="r+")
