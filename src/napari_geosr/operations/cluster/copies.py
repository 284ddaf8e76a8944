"""Temporary copies of arrays that worker processes cannot open themselves."""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.selection import Selection
from napari_geosr.core.types import AnyDType
from napari_geosr.core.volume import ArrayLike
from napari_geosr.io.output import COPY_BYTES, blocks
from napari_geosr.io.shared_array import SharedArray, mark_as_copy
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.hidden import (
    is_abandoned,
    leftovers,
    temporary_sibling,
)
from napari_geosr.operations.cluster.shared_folders import (
    SHARED_FOLDER,
    is_folder_of_job,
)

_SUFFIX = ".zarr"
#: How often, and how many seconds apart, chunks that are written late are removed.
_N_CHECKS = 10
_CHECK_SECONDS = 0.03
#: Maximum shape of the chunks of a copy, along its last axes.
_CHUNK = (1, 1, 8, 512, 512)


def array_for_workers(array: ArrayLike, folder: Path | None = None) -> ArrayLike:
    """Return the array, or a copy, in a form that other processes can open.

    A process that cannot access the array or the copy raises an error. The copy is
    removed when it is no longer referenced, at the latest when the program ends.

    Parameters
    ----------
    array : array-like
    folder : Path, optional
        Folder for the copy that all workers can access; by default the cache folder.

    Raises
    ------
    FileError
        If the copy cannot be written.
    """
    if isinstance(array, Selection):
        if (inner := _opened_elsewhere(array.data)) is not None:
            return Selection(inner, array.planes, array.row_range)
    elif (found := _opened_elsewhere(array)) is not None:
        return found
    shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
    folder = folder or _cache_folder()
    copied, remove = _temporary_zarr(folder, shape, dtype)
    try:
        for key in blocks(shape, copied.chunks, copied.dtype.itemsize, COPY_BYTES):
            voxels = np.asarray(array[key])  # errors here do not concern the copy
            with _copy_explained(folder):
                copied[key] = voxels
        with _copy_explained(folder):
            return mark_as_copy(copied)
    except BaseException:
        remove()  # remove at once, because the disk may be full
        _remove_late_chunks(Path(copied.store.root))
        raise


def _remove_late_chunks(path: Path) -> None:
    """Remove chunks of a failed copy that other threads of zarr were still writing."""
    for _ in range(_N_CHECKS):
        time.sleep(_CHECK_SECONDS)
        shutil.rmtree(path, ignore_errors=True)


def _opened_elsewhere(array: Any) -> ArrayLike | None:
    """Return an array that another process can open; None if it must be copied."""
    found: ArrayLike = array
    if isinstance(array, SharedArray) or getattr(array, "reopening", None) is not None:
        return found
    root = getattr(getattr(array, "store", None), "root", None)
    return SharedArray(array) if isinstance(root, Path) else None


def _cache_folder() -> Path:
    from platformdirs import user_cache_path

    return Path(user_cache_path("napari-geosr")) / "copies"


def _temporary_zarr(
    folder: Path, shape: tuple[int, ...], dtype: AnyDType
) -> tuple[Any, Callable[[], object]]:
    """Create a zarr array that is removed when it is no longer referenced.

    Returns
    -------
    array : zarr.Array
    remove : callable
        Removes the array at once.
    """
    import zarr

    named = folder / f"copy{_SUFFIX}"
    with _copy_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in leftovers(named, _SUFFIX):
            if is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        path = temporary_sibling(named, _SUFFIX)
        chunks = tuple(map(min, shape, _CHUNK[-len(shape) :]))
        array = zarr.create_array(path, shape=shape, dtype=dtype, chunks=chunks)
    return array, weakref.finalize(array, shutil.rmtree, path, ignore_errors=True)


def _copy_explained(folder: Path) -> AbstractContextManager[None]:
    """Convert an `OSError` while writing a copy to a `FileError` with a remedy."""
    remedy = f"set {SHARED_FOLDER} to a folder on another disk"
    if is_folder_of_job(folder):
        remedy = "choose a folder for the job on another disk (--job-folder)"
    title = "The temporary copy of the input for the workers"
    return explained(folder / f"copy{_SUFFIX}", title=title, remedy=remedy)
