"""Lazy arrays: voxels stay in their file and are decoded and cached on demand."""

from __future__ import annotations

import itertools
import math
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from napari_geosr.core.errors import FileError, GeoSRError, describe_system_error
from napari_geosr.core.indexing import Slices, as_slices
from napari_geosr.core.types import AnyArray, AnyDType

if TYPE_CHECKING:
    import numpy.typing as npt

#: A function and its arguments that open an array again.
Reopening: TypeAlias = tuple[Callable[..., object], tuple[object, ...]]

#: Default maximum size of an array's cache of decoded blocks, in bytes.
DEFAULT_CACHE_BYTES = 128 * 1024**2


class VoxelSource(Protocol):
    """Decodes voxels: takes a tuple of slices (step 1), returns an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> AnyArray: ...


@contextmanager
def decoding(path: Path, content: str = "its voxels") -> Iterator[None]:
    """Turn whatever a decoder raises into a `FileError` that names `path`.

    Decoders raise errors of all classes on damaged files (index, zero division, codec
    errors …), so all are caught except memory errors and our own.
    """
    try:
        yield
    except (GeoSRError, MemoryError):
        raise
    except Exception as error:
        if text := describe_system_error(error):  # the file may be intact
            raise FileError(f"{path.name} cannot be read now. {text}") from error
        reason = str(error).strip().splitlines()
        detail = reason[0].rstrip(".")[:120] if reason else type(error).__name__
        raise FileError(
            f"{path.name} is damaged or incomplete: {content} cannot be read "
            f"({detail}). Copy or export the file again."
        ) from error


class LazyArray:
    """An array-like over a `VoxelSource`, with a small cache of decoded blocks.

    Reading a box decodes all its uncached blocks, and those between them, in one call,
    so that neighbouring tiles with halos do not decode a block twice. Safe to read
    from several threads.

    Parameters
    ----------
    source : VoxelSource
        Decodes a box of voxels.
    path : Path
        File that errors name.
    chunks : sequence of int
        Shape of the blocks that the source decodes as a whole.
    cache_bytes : int
        Upper bound of the cache; larger requests bypass it.
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
        #: How another process opens the same array; None if it cannot.
        self.reopening: Reopening | None = None
        # Caches of dask's results outlive arrays, so the name must never be reused.
        self.token = uuid.uuid4().hex
        self._limit = int(cache_bytes)
        self._cache: OrderedDict[tuple[int, ...], AnyArray] = OrderedDict()
        self._cached_bytes = 0
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
        """Upper bound of the cache in bytes; can be set, e.g. from a memory budget."""
        return self._limit

    @cache_bytes.setter
    def cache_bytes(self, nbytes: int) -> None:
        with self._lock:
            self._limit = int(nbytes)
            self._evict()

    @property
    def held_bytes(self) -> int:
        """Maximum memory besides results: the cache and blocks just read."""
        return 2 * self._limit

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> Reopening:
        """Pickle how to open the file, not its voxels."""
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

    def clear_cache(self) -> None:
        """Release the memory of cached blocks."""
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0

    def to_dask(self) -> Any:
        """A dask array over the same voxels, one task per block."""
        import dask.array as da

        name = f"geosr-{self.path.name}-{self.token}"
        meta = np.empty((0,) * self.ndim, dtype=self.dtype)
        return da.from_array(
            self, chunks=self.chunks, name=name, meta=meta, inline_array=True
        )

    def _decode(self, key: Slices) -> AnyArray:
        with decoding(self.path):
            block = np.asarray(self.source[key])
        native: AnyArray = block.astype(self.dtype, copy=False)
        return native

    def _read(self, key: Slices) -> AnyArray:
        shape = tuple(s.stop - s.start for s in key)
        grid = [
            range(s.start // c, -(-s.stop // c)) if s.stop > s.start else range(0)
            for s, c in zip(key, self.chunks, strict=True)
        ]
        n_blocks = math.prod(len(g) for g in grid)
        block_bytes = math.prod(self.chunks) * self.dtype.itemsize
        if n_blocks == 0:
            return np.empty(shape, dtype=self.dtype)
        if n_blocks * block_bytes > self.cache_bytes:
            return self._decode(key)
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

    def _blocks(self, grid: list[range]) -> dict[tuple[int, ...], AnyArray]:
        indices = list(itertools.product(*grid))
        missing = [index for index in indices if index not in self._cache]
        found = {}
        for index in indices:
            if index in self._cache:
                self._cache.move_to_end(index)
                found[index] = self._cache[index]
        if missing:
            first = [min(column) for column in zip(*missing, strict=True)]
            last = [max(column) + 1 for column in zip(*missing, strict=True)]
            hull = tuple(
                slice(a * c, min(b * c, n))
                for a, b, c, n in zip(first, last, self.chunks, self.shape, strict=True)
            )
            voxels = self._decode(hull)
            for index in missing:
                part = tuple(
                    slice((i - a) * c, (i - a + 1) * c)
                    for i, a, c in zip(index, first, self.chunks, strict=True)
                )
                # Keep a copy: a view would keep all voxels just decoded in memory.
                found[index] = np.ascontiguousarray(voxels[part])
                self._keep(index, found[index])
        return found

    def _keep(self, index: tuple[int, ...], block: AnyArray) -> None:
        self._cache[index] = block
        self._cached_bytes += block.nbytes
        self._evict()

    def _evict(self) -> None:
        while self._cached_bytes > self._limit and self._cache:
            _, old = self._cache.popitem(last=False)
            self._cached_bytes -= old.nbytes


class ArrangedSource:
    """A `VoxelSource` with axes reordered, and axes of length one dropped or added.

    Parameters
    ----------
    source : VoxelSource
        Source of the voxels.
    order : sequence of int or None
        The axis of `source` for each axis of the result; None for a new axis of length
        one. Axes of `source` that are not listed must have length one.
    """

    def __init__(self, source: VoxelSource, order: Sequence[int | None]) -> None:
        self.source = source
        self.order = tuple(order)
        self.shape = tuple(1 if i is None else source.shape[i] for i in self.order)
        self.dtype = source.dtype

    def __getitem__(self, key: Slices) -> AnyArray:
        inner = [slice(0, 1)] * len(self.source.shape)
        for axis, part in zip(self.order, key, strict=True):
            if axis is not None:
                inner[axis] = part
        voxels = np.asarray(self.source[tuple(inner)])
        arranged: AnyArray = arrange(voxels, self.order)
        return arranged


class MappedSource:
    """A `VoxelSource` that applies `function` to voxels as they are read."""

    def __init__(
        self, source: VoxelSource, function: Callable[[Any], Any], dtype: object = None
    ) -> None:
        self.source = source
        self.function = function
        self.shape = tuple(source.shape)
        self.dtype = source.dtype if dtype is None else dtype

    def __getitem__(self, key: Slices) -> Any:
        return self.function(np.asarray(self.source[key]))


def arrange(array: Any, order: Sequence[int | None]) -> Any:
    """Reorder the axes of a numpy array like `ArrangedSource`, without a copy."""
    kept = [i for i in order if i is not None]
    dropped = tuple(i for i in range(array.ndim) if i not in kept)
    moved = array.transpose(kept + list(dropped))
    key = [None if i is None else slice(None) for i in order]
    return moved[(..., *(0 for _ in dropped))][tuple(key)]
