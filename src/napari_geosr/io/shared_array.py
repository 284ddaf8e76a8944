"""A zarr array that processes on several computers read from the same folder."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray, AnyDType, ZarrNode

if TYPE_CHECKING:
    import numpy.typing as npt

#: Attribute of a copy that distinguishes it from all other arrays.
_MARK = "napari_geosr_copy"
#: Names of the metadata file in the folder of a zarr array, in version 3 and version 2.
_METADATA_FILES = ("zarr.json", ".zarray")


class SharedArray:
    """A zarr array in a folder, which reopens the folder when it is unpickled.

    For missing chunks, zarr returns the fill value, so a process that cannot access the
    folder would compute with zeros. This class raises an error instead.

    Parameters
    ----------
    array : zarr.Array
        Array in a folder.
    """

    def __init__(self, array: ZarrNode) -> None:
        self._array = array
        self.path = folder_of(array)
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype: AnyDType = np.dtype(array.dtype)
        self.chunks = tuple(int(n) for n in array.chunks)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path of the folder, and what identifies the array."""
        mark = str(self._array.attrs.get(_MARK, ""))
        return _opened, (self.path, self.shape, _kind(self.dtype), mark)

    def __repr__(self) -> str:
        name = self.path.name
        return f"SharedArray({name!r}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, key: Any) -> AnyArray:
        voxels = np.asarray(self._array[key])
        check_still_there(self.path, str(self.path))
        return voxels

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)


def mark_as_copy(array: ZarrNode) -> SharedArray:
    """Mark a zarr array as a temporary copy that workers can recognise."""
    array.attrs[_MARK] = uuid.uuid4().hex
    return SharedArray(array)


def folder_of(array: ZarrNode) -> Path:
    """Return the folder of a zarr array that is stored in a folder."""
    return Path(array.store.root).absolute() / str(array.path)


def check_still_there(folder: Path, title: str) -> None:
    """Raise `FileError` if a zarr array no longer exists; zarr would return zeros."""
    if not any((folder / name).exists() for name in _METADATA_FILES):
        raise FileError(
            f"{title} can no longer be read: it was removed or renamed, or its "
            "drive is not connected."
        )


def _opened(path: Path, shape: tuple[int, ...], dtype: str, mark: str) -> SharedArray:
    """Open an array in a worker process."""
    import zarr

    try:
        array: Any = zarr.open_array(path, mode="r")
        found = (tuple(array.shape), _kind(np.dtype(array.dtype)))
        is_same = (*found, str(array.attrs.get(_MARK, ""))) == (shape, dtype, mark)
    except (OSError, ValueError, KeyError, TypeError):
        is_same = False
    if not is_same:
        raise FileError(_not_visible(path, is_copy=bool(mark)))
    return SharedArray(array)


def _kind(dtype: AnyDType) -> str:
    """Return the name of a type without its byte order.

    A new zarr array reports the byte order of its file; reopened, it reports that of
    the values that it returns.
    """
    return str(dtype.newbyteorder("=").str)


def _not_visible(path: Path, *, is_copy: bool) -> str:
    start = f"The worker on {socket.gethostname()} cannot access"
    if is_copy:
        return (
            f"{start} the temporary copy of the input in {path.parent}. All workers "
            "must be able to read this folder at the same path. For a job, choose a "
            "folder that all nodes can access (--job-folder); for a Dask client, set "
            "NAPARI_GEOSR_SHARED_FOLDER to such a folder."
        )
    return (
        f"{start} {path}, or finds another array there. All workers must be able to "
        "read this folder at the same path."
    )
