"""Memory-mapped files of any size, with few resident pages."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.machine.disk_space import fill_space
from napari_geosr.core.types import AnyArray
from napari_geosr.io.unfinished_files.hidden import with_user_names

if TYPE_CHECKING:
    import numpy.typing as npt

#: Number of accessed bytes after which the pages of a mapping are released.
RELEASE_BYTES = 4 * 1024**2
#: Number of bytes that the operating system maps around a page fault.
_FAULT_AROUND = 64 * 1024
#: Modes of `numpy.memmap` in which all writes go to the file.
_SHARED_MODES = ("r", "r+", "w+")


class MappedFile(np.memmap[Any, Any]):
    """A `numpy.memmap` that releases its pages while it is read or written.

    An ordinary mapping keeps every accessed page resident until the system is short of
    memory, so the full size of a file that is read once would count against a memory
    budget. The voxels stay in the system's file cache: reading a released page again
    needs no disk access.
    """

    _touched = 0
    #: Maximum resident bytes, in addition to what a caller reads at once.
    held_bytes = 2 * RELEASE_BYTES

    def __getitem__(self, key: Any) -> Any:
        if self._touched > RELEASE_BYTES:
            self._touched = 0
            release_pages(self)
        found = super().__getitem__(key)
        if isinstance(found, MappedFile):
            if (
                getattr(found, "_mmap", None) is None
            ):  # a copy, made by indexing with integers or masks
                return found.view(np.ndarray)
            self._touched += _pages_of(found)
        return found

    def check_intact(self) -> None:
        """Raise `FileError` if the file was truncated: writing would kill the process.

        Nothing can be done about a file that is truncated during a write.
        """
        mapped = getattr(self, "_mmap", None)
        if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
            name = with_user_names(Path(str(self.filename)).name)
            raise FileError(
                f"{name} was truncated by another program while it was being written, "
                "so its voxels are lost. Repeat the run."
            )

    def __setitem__(self, key: Any, value: Any) -> None:
        self.check_intact()
        region = super().__getitem__(key)
        is_view = isinstance(region, MappedFile) and region.base is not None
        touched = _pages_of(region) if is_view else int(np.size(value)) * self.itemsize
        if is_view and region.ndim > 1 and touched > RELEASE_BYTES:
            # Write in parts, because each short row of a large block touches whole
            # pages.
            voxels = np.broadcast_to(np.asarray(value), region.shape)
            step = max(1, region.shape[0] * RELEASE_BYTES // touched)
            for first in range(0, region.shape[0], step):
                np.asarray(region)[first : first + step] = voxels[first : first + step]
                release_pages(self)
            self._touched = 0
            return
        super().__setitem__(key, value)
        self._touched += touched
        if self._touched > RELEASE_BYTES:
            self._touched = 0
            release_pages(self)

    def __array_wrap__(
        self, array: Any, context: Any = None, return_scalar: bool = False
    ) -> Any:
        if array is self:
            return array
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain


def _pages_of(view: AnyArray) -> int:
    """Return the approximate number of bytes made resident by reading `view`."""
    if view.ndim < 2 or not view.size:
        return int(view.nbytes)
    n_rows = view.size // view.shape[-1]
    row = view.shape[-1] * view.itemsize
    return int(n_rows * max(row, min(abs(view.strides[-2]), row + _FAULT_AROUND)))


def map_file(
    path: Path,
    dtype: npt.DTypeLike,
    mode: Any,
    offset: int,
    shape: Sequence[int],
) -> MappedFile:
    """Memory-map an array of the given shape, from byte `offset` of a file.

    Parameters
    ----------
    path : Path
    dtype : dtype
        Data type as stored, with byte order.
    mode : str
        Mode of `numpy.memmap`, such as ``"r"``.
    offset : int
        Bytes before the first voxel.
    shape : sequence of int
    """
    return MappedFile(path, dtype, mode, offset, tuple(shape))


def create_npy(
    path: Path, dtype: npt.DTypeLike, shape: Sequence[int]
) -> np.memmap[Any, Any]:
    """Create a memory-mapped ``.npy`` file of zeros; its disk space is reserved.

    Raises
    ------
    OSError
        If the disk has too little space, for example.
    """
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), tuple(shape))
    try:
        with path.open("r+b") as stream:
            fill_space(stream, path.stat().st_size, array.offset)
    except OSError:
        del array
        path.unlink()
        raise
    return array


def release_pages(array: object) -> None:
    """Release the resident pages of a memory-mapped array to the system.

    The voxels stay in the file. Does nothing on systems without `madvise`, for other
    arrays, and for copy-on-write maps, because their changes are not in the file.
    """
    base = array
    while base is not None:
        mapped = getattr(base, "_mmap", None)
        if isinstance(base, np.memmap) and isinstance(mapped, mmap.mmap):
            if base.mode in _SHARED_MODES and hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)
            return
        base = getattr(base, "base", None)
