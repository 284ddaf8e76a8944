"""Voxels stored contiguously in a file, read with ordinary reads, never memory-mapped.

If a mapped file shrinks, the next access kills the process without any message. An
ordinary read simply reports the end of the file.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.config import (
    format_available,
    format_enough,
)
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import VoxelSource

if TYPE_CHECKING:
    import numpy.typing as npt

#: Maximum gap, in bytes, between two contiguous runs that are read together: reading
#: the gap is as fast as another system call.
_GAP = 16 * 1024
#: Maximum size, in bytes, of a single read of which only parts are needed.
_SCRATCH = 2**20
#: Approximate number of samples compared to find out whether a file has changed.
_N_SAMPLES = 32
#: Size of a sample, in bytes.
_SAMPLE_BYTES = 4096
#: Size of a block of a dask array, in bytes.
_DASK_BYTES = 64 * 2**20
#: Size of a read, in bytes, above which it is shared by several threads.
_SINGLE_THREAD_BYTES = 16 * 2**20
#: Maximum number of threads that share a read.
_MAX_THREADS = 8
_READS_INTO = hasattr(os, "preadv")


class _RowCache:
    """Cache of the most recently read rows: a single band of rows, shared by all files.

    Attributes
    ----------
    nbytes : int
        Maximum size of the cached band.
    unwanted : list
        One item per active run that has switched the cache off.
    key : tuple of slice
        The part of the file's voxels that is cached.
    """

    def __init__(self) -> None:
        self.nbytes = 64 * 2**20
        self.unwanted: list[None] = []
        self.lock = threading.Lock()
        self.key: Slices = ()
        self._place: object = None
        self._voxels: AnyArray | None = None
        self._owner: weakref.ref[_OpenFile] | None = None

    def find(self, place: object, key: Slices) -> AnyArray | None:
        """Return the cached band if it contains `key`, else None."""
        if self._voxels is None or place != self._place:
            return None
        inside = all(
            b.start <= k.start and k.stop <= b.stop
            for b, k in zip(self.key, key, strict=True)
        )
        return self._voxels if inside else None

    def keep(
        self, owner: _OpenFile, place: object, key: Slices, voxels: AnyArray
    ) -> None:
        """Replace the cached band; the new one is kept as long as the file is open."""
        self._place, self.key, self._voxels = place, key, voxels
        self._owner = weakref.ref(owner, self._forget)

    def _forget(self, _owner: object) -> None:
        if self._owner is _owner:
            self.clear()

    def clear(self) -> None:
        """Release the memory."""
        self._place, self._voxels, self._owner = None, None, None


_ROW_CACHE = _RowCache()


@contextmanager
def row_cache_disabled() -> Iterator[None]:
    """Switch the row cache off, for long runs that must keep to a memory budget."""
    _ROW_CACHE.unwanted.append(None)  # one item per run, as runs may overlap
    _ROW_CACHE.clear()
    try:
        yield
    finally:
        _ROW_CACHE.unwanted.pop()


class FileVoxels:
    """A `VoxelSource` of contiguous voxels that start at a given byte of a file.

    The file stays open, so it can still be read after it has been replaced or deleted.
    Safe to read from several threads.

    Parameters
    ----------
    path : Path
    dtype : dtype
        Data type, including the byte order of the file.
    offset : int
        Position of the first voxel in the file, in bytes.
    shape : sequence of int

    Raises
    ------
    FileError
        When voxels are read, if the file was truncated or changed after it was opened.
    """

    def __init__(
        self, path: Path, dtype: npt.DTypeLike, offset: int, shape: Sequence[int]
    ) -> None:
        self.path, self.offset = path, offset
        self.dtype = np.dtype(dtype)
        self.shape = tuple(int(n) for n in shape)
        self._open = _OpenFile(path)

    def reshape(self, shape: Sequence[int]) -> FileVoxels:
        """Return the same voxels with another shape; the file is not read."""
        other = object.__new__(FileVoxels)
        other.__dict__.update(self.__dict__)
        other.shape = tuple(int(n) for n in shape)
        return other

    @property
    def place(self) -> tuple[int, int, tuple[int, ...]]:
        """Identifier of these voxels and of the open file that contains them."""
        return id(self._open), self.offset, self.shape

    @property
    def nbytes(self) -> int:
        """Size of all voxels in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Slices) -> AnyArray:
        lengths = [part.stop - part.start for part in key]
        out = np.empty(lengths, self.dtype)
        if out.size:
            self._open.check(self.offset + self.nbytes)
            if not self._fill_from_cache(out, key):
                self._fill(out, key)
        return out

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[tuple(slice(0, n) for n in self.shape)], dtype=dtype)

    def _fill_from_cache(self, out: AnyArray, key: Slices) -> bool:
        """Fill the result from a cached band of rows; return whether this was possible.

        Where gaps are small, whole rows are read: neighbouring tiles, or consecutive
        slices along X, would otherwise read the same rows repeatedly.
        """
        # If another thread is reading a band, read these voxels directly instead of
        # waiting.
        if not _ROW_CACHE.lock.acquire(blocking=False):
            return False
        try:
            rows = self._rows_to_cache(key)
            band = _ROW_CACHE.find(self.place, key)
            if band is None and rows is not None:
                band = np.empty([p.stop - p.start for p in rows], self.dtype)
                self._fill(band, rows)
                _ROW_CACHE.keep(self._open, self.place, rows, band)
            if band is None:
                return False
            starts = [part.start for part in _ROW_CACHE.key]
            out[...] = band[
                tuple(
                    slice(p.start - s, p.stop - s)
                    for p, s in zip(key, starts, strict=True)
                )
            ]
            return True
        finally:
            _ROW_CACHE.lock.release()

    def _rows_to_cache(self, key: Slices) -> Slices | None:
        """Return the box of rows to read for `key` and its neighbours along X, or None.

        None means that a band would not pay off, and the voxels are read directly.
        """
        if len(key) < 2:
            return None
        n_rows = math.prod(part.stop - part.start for part in key[:-1])
        width = key[-1].stop - key[-1].start
        row = self.shape[-1] * self.dtype.itemsize
        if row > _SCRATCH or row - width * self.dtype.itemsize > _GAP:
            return None  # the gaps are too large to be read as well
        room = 0 if _ROW_CACHE.unwanted else _ROW_CACHE.nbytes
        max_width = min(room // max(1, n_rows * self.dtype.itemsize), self.shape[-1])
        if max_width < self.shape[-1] and n_rows < math.prod(self.shape[:-1]):
            # If only a tile is read, the band would be replaced before it is reused.
            return None
        start = key[-1].start // max(1, max_width) * max_width
        stop = min(start + max_width, self.shape[-1])
        if max_width < 2 * width or stop < key[-1].stop:
            return None
        return (*key[:-1], slice(start, stop))

    def _fill(self, out: AnyArray, key: Slices) -> None:
        """Read contiguous runs of bytes, or whole rows where the gaps are small."""
        whole = [
            part.stop - part.start == n for part, n in zip(key, self.shape, strict=True)
        ]
        axis = len(key) - 1  # the axis along which a run extends
        while axis > 0 and whole[axis]:
            axis -= 1
        step = math.prod(self.shape[axis + 1 :]) * self.dtype.itemsize
        run = out.shape[axis] * step
        row = self.shape[axis] * step
        small = row - run <= _GAP and row <= _SCRATCH
        if axis and out.shape[axis - 1] > 1 and small:
            self._fill_with_gaps(out, key, axis - 1)
            return
        target = _bytes_of(out)
        first = key[axis].start * step
        for i, place in enumerate(self._places(key, axis)):
            self._open.read_into(target[i * run : (i + 1) * run], place + first)

    def _fill_with_gaps(self, out: AnyArray, key: Slices, axis: int) -> None:
        """Read several rows along `axis` at once; copy the required part of each.

        Large reads, such as a slice across all planes, are divided among threads.
        """
        row = math.prod(self.shape[axis + 1 :]) * self.dtype.itemsize
        places = self._places(key, axis)
        parts = out.reshape(-1, *out.shape[axis:])
        inner = key[axis + 1 :]
        together = max(1, min(out.shape[axis], _SCRATCH // row))

        def fill(numbers: range) -> None:
            """Read some of the rows into a scratch buffer of this thread."""
            scratch = np.empty((together, *self.shape[axis + 1 :]), self.dtype)
            view = _bytes_of(scratch)
            for i in numbers:
                for start in range(0, out.shape[axis], together):
                    n = min(together, out.shape[axis] - start)
                    at = places[i] + (key[axis].start + start) * row
                    self._open.read_into(view[: n * row], at)
                    parts[i, start : start + n] = scratch[(slice(0, n), *inner)]

        n_threads = 1
        if len(places) * out.shape[axis] * row > _SINGLE_THREAD_BYTES:
            n_threads = min(_MAX_THREADS, os.cpu_count() or 1, len(places))
        if n_threads == 1:
            fill(range(len(places)))
            return
        shares = [range(i, len(places), n_threads) for i in range(n_threads)]
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(fill, shares))

    def _places(self, key: Slices, axis: int) -> list[int]:
        """Return the byte offset of each selected index on the axes before `axis`."""
        places = np.array([self.offset])
        for part, stride in zip(key[:axis], self._strides(), strict=False):
            along = np.arange(part.start, part.stop) * stride
            places = (places[:, None] + along).reshape(-1)
        offsets: list[int] = places.tolist()
        return offsets

    def _strides(self) -> list[int]:
        """Return the distance in bytes from one voxel to the next along each axis."""
        strides, step = list[int](), self.dtype.itemsize
        for n in reversed(self.shape):
            strides.append(step)
            step *= n
        return strides[::-1]


def _bytes_of(array: AnyArray) -> memoryview:
    """Return a writable view of the bytes of a contiguous array."""
    voxels: Any = array.reshape(-1).view(np.uint8)
    return memoryview(voxels)


class _OpenFile:
    """A file that any thread can read; closed when the last reference is gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._number)
        self._lock = threading.Lock()
        self._before = self._state()
        self._sample = self._sampled(self._before[0])

    def _state(self) -> tuple[int, int, int]:
        status = os.fstat(self._number)
        # The modification time (mtime) can be reset, but the change time (ctime)
        # cannot.
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _sampled(self, size: int) -> bytes:
        """Return a checksum of evenly spaced samples of the file and its two ends."""
        checksum = hashlib.blake2b(digest_size=16)
        last = max(0, size - _SAMPLE_BYTES)
        step = max(1, last // _N_SAMPLES)
        scratch = memoryview(bytearray(_SAMPLE_BYTES))
        for place in (*range(0, last, step), last):
            n = self._read(scratch, place)
            checksum.update(scratch[:n])
        return checksum.digest()

    def check(self, needed: int) -> None:
        """Raise `FileError` if the file has changed since it was opened."""
        now = self._state()
        if now == self._before:
            return
        if now[0] < needed:
            raise FileError(
                f"{self.path.name} was truncated while it was in use: it should "
                f"have {format_enough(needed)} but has only "
                f"{format_available(now[0])}. Copy it again, then open it again."
            )
        if now[0] == self._before[0] and self._sampled(now[0]) == self._sample:
            # The file was touched, or copied over itself. If voxels between the samples
            # have changed, the file check of the run (`core.machine.file_state`) warns.
            self._before = now
            return
        raise FileError(
            f"{self.path.name} was changed while it was in use, so its voxels no "
            "longer match those already read. Open it again."
        )

    def read_into(self, target: memoryview, at: int) -> None:
        """Fill `target` with the bytes of the file from position `at`."""
        done = self._read(target, at)
        while done < len(target):
            n = self._read(target[done:], at + done)
            if n == 0:
                raise FileError(
                    f"{self.path.name} was truncated while it was being read: it now "
                    f"ends at byte {at + done}. Copy it again, then open it again."
                )
            done += n

    def _read(self, target: memoryview, at: int) -> int:
        if _READS_INTO:
            return os.preadv(self._number, [target], at)
        with self._lock:  # Windows has no positional read
            os.lseek(self._number, at, os.SEEK_SET)
            content = os.read(self._number, len(target))
        target[: len(content)] = content
        return len(content)


class FileArray(LazyArray):
    """A `LazyArray` over `FileVoxels` without a cache: the system caches the file."""

    def __init__(self, source: VoxelSource, path: Path, chunks: Sequence[int]) -> None:
        super().__init__(source, path, chunks, cache_bytes=0)
        self._decoding_bytes = 0  # 0: voxels are read individually

    def _over(self, source: VoxelSource, chunks: Sequence[int]) -> FileArray:
        """Return an array of the same kind for other voxels of the same file."""
        return FileArray(source, self.path, chunks)

    @property
    def read_unit(self) -> None:
        """Always None, because any voxel can be read individually."""
        return None

    @property
    def held_bytes(self) -> int:
        """Maximum memory, in bytes, that a request uses in addition to its result."""
        return _SCRATCH * min(_MAX_THREADS, os.cpu_count() or 1)

    def to_dask(self) -> Any:
        """Return a dask array over the same voxels, in blocks of many planes.

        Slicing it along any axis reads only the voxels of that slice.
        """
        import dask.array as da

        blocks, room = [1] * self.ndim, _DASK_BYTES // self.dtype.itemsize
        for axis in reversed(range(self.ndim)):
            blocks[axis] = max(1, min(self.shape[axis], room))
            room //= blocks[axis]
        return da.from_array(
            self,
            chunks=tuple(blocks),
            name=f"geosr-{self.path.name}-{self.token}",
            meta=np.empty((0,) * self.ndim, dtype=self.dtype),
            inline_array=True,
        )
