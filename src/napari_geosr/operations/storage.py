"""Where results live that nobody asked to save: in memory, or on disk if too large."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.memory import free_host_memory
from napari_geosr.core.types import AnyDType

#: A result above this share of the free memory goes to disk instead.
_RESULT_SHARE = 0.4
#: Results left behind by a program that was killed are removed after this many days.
_DAYS = 7


def array_for(
    shape: tuple[int, ...],
    dtype: AnyDType,
    fill: float = 0,
    *,
    budget: int | None = None,
    depth: int = 8,
) -> Any:
    """An array to fill: numpy if it fits into memory, else a zarr in the cache.

    Parameters
    ----------
    fill : float
        What voxels hold that nobody has written yet.
    budget : int, optional
        Bytes that a run may take; by default what is free.
    depth : int
        Planes of a chunk of a zarr.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    available = free_host_memory() if budget is None else budget
    if nbytes <= available * _RESULT_SHARE:
        # Not np.zeros: pages that nobody has touched would count as free, and a run
        # would plan with the memory of its own result.
        return np.full(shape, fill, dtype)
    return cached_zarr(shape, dtype, fill, depth)


def cached_zarr(
    shape: tuple[int, ...], dtype: AnyDType, fill: float = 0, depth: int = 8
) -> Any:
    """Create a zarr in the cache folder for a result too large for memory.

    It is removed when nobody holds the array any more, at the latest when the program
    ends: a result that is to stay is saved to a file.
    """
    import zarr
    from platformdirs import user_cache_path

    folder = user_cache_path("napari-geosr", ensure_exists=True) / "results"
    folder.mkdir(exist_ok=True)
    _remove_leftovers(folder)
    path = tempfile.mkdtemp(suffix=".zarr", dir=folder)
    chunks = tuple(
        min(n, c)
        for n, c in zip(shape, (1, 1, depth, 512, 512)[-len(shape) :], strict=True)
    )
    array = zarr.create_array(
        path, shape=shape, dtype=dtype, chunks=chunks, fill_value=fill, overwrite=True
    )
    weakref.finalize(array, shutil.rmtree, path, ignore_errors=True)
    return array


def _remove_leftovers(folder: Path) -> None:
    oldest = time.time() - _DAYS * 86400
    for left in folder.glob("*.zarr"):
        if left.stat().st_mtime < oldest:
            shutil.rmtree(left, ignore_errors=True)
