"""Lazy arrays: voxels stay in their file and are decoded and cached on demand."""

from __future__ import annotations

import itertools
import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices, as_slices
from napari_geosr.core.errors import FileError, GeoSRError, describe_system_error
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.io.voxel_sources import FixedSource, VoxelSource

if TYPE_CHECKING:
    import numpy.typing as npt

#: A function and its arguments, which reopen an array.
Reopening: TypeAlias = tuple[Callable[..., object], tuple[object, ...]]

#: Default maximum size of an array's cache of decoded blocks, in bytes.
DEFAULT_CACHE_BYTES = 128 * 1024**2
#: Blocks are decoded in groups of up to this total size, in bytes, so that small blocks
#: are read fast.
_MIN_GROUP_BYTES = 4 * 1024**2
#: Maximum size of a group as a fraction of the size of the cache, if this is larger
#: than `_MIN_GROUP_BYTES`.
_GROUP_SHARE = 1 / 8
#: Minimum number of decoded bytes for an estimate of the decoding time.
_TIMED_BYTES = 16 * 1024**2


@dataclass(frozen=True)
class ReadUnit:
    """The block of a file that is decoded as a whole, even if few voxels are read.

    Attributes
    ----------
    shape : tuple of int
        A chunk, strip or page, along the axes of the array.
    nbytes : int
        Bytes of its decoded voxels.
    decoding_bytes : int
        Bytes that the library holds while it decodes a block, such as the stored bytes
        and its own copy of the voxels.
    seconds : float or None
        Mean time to decode a block, so far; None if too few blocks have been decoded.
    """

    shape: tuple[int, ...]
    nbytes: int
    decoding_bytes: int
    seconds: float | None = None

    def held_bytes(self, cache_bytes: int) -> int:
        """Return the memory needed with this cache size, in bytes, without results."""
        group = _group_bytes(self.nbytes, cache_bytes)
        if group < 2 * self.nbytes:
            return cache_bytes + self.decoding_bytes
        # Blocks decoded together are copied into the cache one by one.
        return cache_bytes + group + self.decoding_bytes * group // self.nbytes


def read_unit(array: object) -> ReadUnit | None:
    """Return the unit in which the voxels of an array are read from its file.

    None if voxels can be read individually, or if the array is of an unknown kind.
    """
    unit = getattr(array, "read_unit", None)
    return unit if isinstance(unit, ReadUnit) else None


@contextmanager
def cache_limited(array: object, nbytes: int | None) -> Iterator[None]:
    """Set the cache size of a lazy array within a context.

    Parameters
    ----------
    array : array-like
        An array of any kind; nothing is changed if it has no `ReadUnit`.
    nbytes : int or None
        Size of the cache; None leaves it unchanged.
    """
    if nbytes is None or not isinstance(array, LazyArray) or array.read_unit is None:
        yield
        return
    before = array.cache_bytes
    array.cache_bytes = nbytes
    try:
        yield
    finally:
        array.cache_bytes = before


def useful_cache(array: object, room: int) -> int | None:
    """Return a cache size, within `room` bytes, for reading an array in any order.

    The cache holds all blocks of several adjacent planes if they fit, otherwise fewer
    blocks; 0 if not even one block fits, None for arrays without a `ReadUnit`.
    """
    unit = read_unit(array)
    if unit is None:
        return None
    shape: tuple[int, ...] = getattr(array, "shape", ())
    n_blocks = math.prod(
        -(-n // b) for n, b in zip(shape[-2:], unit.shape[-2:], strict=True)
    )
    layer = n_blocks * unit.nbytes
    most = max(layer, DEFAULT_CACHE_BYTES)
    for nbytes in (most, layer, room // 2, unit.nbytes):
        if unit.nbytes <= nbytes <= most and unit.held_bytes(nbytes) <= room:
            return nbytes
    return 0


def _group_bytes(block: int, cache: int) -> int:
    """Return the total size, in bytes, up to which blocks are decoded together."""
    return max(block, _MIN_GROUP_BYTES, int(cache * _GROUP_SHARE))


@contextmanager
def decoding(path: Path, content: str = "its voxels") -> Iterator[None]:
    """Convert any error that a decoder raises to a `FileError` that names `path`.

    Decoders may raise errors of any class on damaged files (index, zero division, codec
    errors …), so all are caught except memory errors and those of
    napari-geosr.
    """
    try:
        yield
    except (GeoSRError, MemoryError):
        raise
    except Exception as error:
        if text := describe_system_error(error):  # the file itself may be intact
            message = f"{path.name} cannot be read at the moment. {text}"
            raise FileError(message) from error
        reason = str(error).strip().splitlines()
        detail = reason[0].rstrip(".")[:120] if reason else type(error).__name__
        raise FileError(
            f"{path.name} is damaged or incomplete: {content} cannot be read "
            f"({detail}). Copy or export the file again."
        ) from error


class LazyArray:
    """An array-like over a `VoxelSource`, with a small cache of decoded blocks.

    Reading a box decodes only the blocks that are not cached, several in one call, so
    that neighbouring tiles with halos do not decode a block twice. Safe to read from
    several threads.

    Parameters
    ----------
    source : VoxelSource
        Decodes a box of voxels.
    path : Path
        File named in error messages.
    chunks : sequence of int
        Shape of the blocks that the source decodes as a whole.
    cache_bytes : int
        Maximum size of the cache in bytes; larger requests bypass the cache.
    """

    def __init__(
        self,
        source: VoxelSource,
        path: Path,
        chunks: Sequence[int],
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.source = source
        self.path = path
        self.shape = tuple(int(n) for n in source.shape)
        self.dtype: AnyDType = np.dtype(source.dtype).newbyteorder("=")
        pairs = zip(chunks, self.shape, strict=True)
        self.chunks = tuple(max(1, min(int(c), n)) for c, n in pairs)
        #: Whether the voxels are on another computer, so that `path` is only a name.
        self.is_remote = False
        #: Function and arguments with which another process can open the same array;
        #: None if this is impossible.
        self.reopening: Reopening | None = None
        # Caches of dask's results outlive arrays, so every array has its own token.
        self.token = uuid.uuid4().hex
        self._decoding_bytes: int | None = getattr(source, "decoding_bytes", None)
        self._limit = int(cache_bytes)
        self._cache: OrderedDict[tuple[int, ...], AnyArray] = OrderedDict()
        self._cached_bytes = 0
        #: Number of decoded blocks, and the total time for decoding, in seconds.
        self._n_decoded, self._seconds = 0, 0.0
        self._lock = threading.RLock()

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all voxels would occupy in memory."""
        return self.size * self.dtype.itemsize

    @property
    def cache_bytes(self) -> int:
        """Maximum size of the cache in bytes; can be set, e.g. from a memory budget."""
        return self._limit

    @cache_bytes.setter
    def cache_bytes(self, nbytes: int) -> None:
        with self._lock:
            self._limit = int(nbytes)
            self._evict()

    @property
    def block_bytes(self) -> int:
        """Bytes of the voxels of a block."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def read_unit(self) -> ReadUnit | None:
        """The block decoded as a whole; None if voxels are read individually."""
        if self._decoding_bytes == 0:
            return None
        known = self._decoding_bytes
        decoding = 2 * self.block_bytes if known is None else known
        seconds = None
        if self._n_decoded * self.block_bytes >= _TIMED_BYTES:
            seconds = self._seconds / self._n_decoded
        return ReadUnit(self.chunks, self.block_bytes, decoding, seconds)

    @property
    def held_bytes(self) -> int:
        """Maximum memory apart from results, in bytes: cache and blocks just read."""
        unit = self.read_unit
        return 2 * self._limit if unit is None else unit.held_bytes(self._limit)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> Reopening:
        """Pickle the arguments for opening the file, not its voxels."""
        if self.reopening is None:
            raise TypeError(f"{self!r} cannot be opened in another process")
        return self.reopening

    def __repr__(self) -> str:
        return f"LazyArray({self.path.name!r}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, key: Any) -> AnyArray:
        read, after = as_slices(key, self.shape)
        voxels: AnyArray = self._read(read)[after]
        return voxels

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)

    def at_indices(self, indices: Mapping[int, int]) -> LazyArray:
        """Take one index along some axes, and drop these axes.

        Parameters
        ----------
        indices : mapping of int to int
            Index along each dropped axis, such as a channel or time point.
        """
        kept = [axis for axis in range(self.ndim) if axis not in indices]
        unit = self.read_unit
        held = 0 if unit is None else unit.decoding_bytes
        source = FixedSource(self.source, indices, held)
        part = self._over(source, [self.chunks[axis] for axis in kept])
        part.is_remote = self.is_remote
        if self.reopening is not None:
            part.reopening = (_reopened_at, (self.reopening, dict(indices)))
        return part

    def _over(self, source: VoxelSource, chunks: Sequence[int]) -> LazyArray:
        """Return an array of the same kind for other voxels of the same file."""
        return LazyArray(source, self.path, chunks, self._limit)

    def clear_cache(self) -> None:
        """Release the memory of cached blocks."""
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0

    def to_dask(self) -> Any:
        """Return a dask array over the same voxels, one task per block."""
        import dask.array as da

        name = f"geosr-{self.path.name}-{self.token}"
        meta = np.empty((0,) * self.ndim, dtype=self.dtype)
        return da.from_array(
            self, chunks=self.chunks, name=name, meta=meta, inline_array=True
        )

    def _decode(self, key: Slices) -> AnyArray:
        start = time.perf_counter()
        with decoding(self.path):
            block = np.asarray(self.source[key])
        self._seconds += time.perf_counter() - start
        self._n_decoded += math.prod(
            -(-s.stop // c) - s.start // c
            for s, c in zip(key, self.chunks, strict=True)
        )
        native: AnyArray = block.astype(self.dtype, copy=False)
        return native

    def _read(self, key: Slices) -> AnyArray:
        shape = tuple(s.stop - s.start for s in key)
        grid = [
            range(s.start // c, -(-s.stop // c)) if s.stop > s.start else range(0)
            for s, c in zip(key, self.chunks, strict=True)
        ]
        n_blocks = math.prod(len(g) for g in grid)
        if n_blocks == 0:
            return np.empty(shape, dtype=self.dtype)
        if n_blocks * self.block_bytes > self.cache_bytes:
            return self._read_uncached(key, grid)
        with self._lock:
            blocks = self._blocks(grid)
        out = np.empty(shape, dtype=self.dtype)
        for index, block in blocks.items():
            place, part = [], []
            for i, c, s in zip(index, self.chunks, key, strict=True):
                low, high = max(i * c, s.start), min((i + 1) * c, s.stop)
                place.append(slice(low - s.start, high - s.start))
                part.append(slice(low - i * c, high - i * c))
            out[tuple(place)] = block[tuple(part)]
        return out

    def _read_uncached(self, key: Slices, grid: Sequence[range]) -> AnyArray:
        """Decode a box straight into the result, a few blocks at a time."""
        if self._decoding_bytes == 0:
            return self._decode(key)
        groups = list(self._groups(grid))
        if len(groups) == 1:
            return self._decode(key)
        out = np.empty([s.stop - s.start for s in key], dtype=self.dtype)
        for group in groups:
            part = tuple(
                slice(max(g.start * c, s.start), min(g.stop * c, s.stop))
                for g, c, s in zip(group, self.chunks, key, strict=True)
            )
            place = tuple(
                slice(p.start - s.start, p.stop - s.start)
                for p, s in zip(part, key, strict=True)
            )
            out[place] = self._decode(part)
        return out

    def _groups(self, grid: Sequence[range]) -> Iterator[tuple[range, ...]]:
        """Split a box of blocks into boxes that are each decoded in one call."""
        room = _group_bytes(self.block_bytes, self._limit) // self.block_bytes
        lengths = []
        for indices in reversed(grid):
            lengths.append(max(1, min(len(indices), room)))
            room //= lengths[-1]
        steps = [
            range(g.start, g.stop, n) for g, n in zip(grid, lengths[::-1], strict=True)
        ]
        for starts in itertools.product(*steps):
            yield tuple(
                range(start, min(start + n, g.stop))
                for start, n, g in zip(starts, lengths[::-1], grid, strict=True)
            )

    def _blocks(self, grid: list[range]) -> dict[tuple[int, ...], AnyArray]:
        indices = list(itertools.product(*grid))
        found = {}
        for index in indices:
            if index in self._cache:
                self._cache.move_to_end(index)
                found[index] = self._cache[index]
        missing = [index for index in indices if index not in found]
        if missing:
            hull = [
                range(min(column), max(column) + 1)
                for column in zip(*missing, strict=True)
            ]
            for group in self._groups(hull):
                self._decode_group(group, found)
        return found

    def _decode_group(
        self, group: tuple[range, ...], found: dict[tuple[int, ...], AnyArray]
    ) -> None:
        """Decode those blocks of a box that are not yet in `found`, and cache them."""
        missing = [i for i in itertools.product(*group) if i not in found]
        if not missing:
            return
        # Free memory first, so that old and new blocks are never in memory at the same
        # time.
        self._evict(len(missing) * self.block_bytes)
        hull = tuple(
            slice(g.start * c, min(g.stop * c, n))
            for g, c, n in zip(group, self.chunks, self.shape, strict=True)
        )
        voxels = self._decode(hull)
        for index in missing:
            part = tuple(
                slice((i - g.start) * c, (i - g.start + 1) * c)
                for i, g, c in zip(index, group, self.chunks, strict=True)
            )
            # Keep a copy: a view would keep all voxels just decoded in memory.
            found[index] = np.ascontiguousarray(voxels[part])
            self._keep(index, found[index])

    def _keep(self, index: tuple[int, ...], block: AnyArray) -> None:
        self._cache[index] = block
        self._cached_bytes += block.nbytes
        self._evict()

    def _evict(self, coming: int = 0) -> None:
        while self._cached_bytes + coming > self._limit and self._cache:
            _, old = self._cache.popitem(last=False)
            self._cached_bytes -= old.nbytes


def _reopened_at(reopening: Reopening, indices: Mapping[int, int]) -> LazyArray:
    """Reopen an array in another process, and take the given indices of its axes."""
    opened, arguments = reopening
    array = opened(*arguments)
    assert isinstance(array, LazyArray)
    return array.at_indices(indices)
