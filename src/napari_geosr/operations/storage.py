"""Where results live that nobody asked to save: in memory, or on disk if too large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

#: A result above this share of the free memory goes to disk instead.
_RESULT_SHARE = 0.4


def array_for(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Zeros to fill: a numpy array if it fits into memory, else a zarr in the cache."""
    import psutil

    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes <= psutil.virtual_memory().available * _RESULT_SHARE:
        return np.zeros(shape, dtype)
    return cached_zarr(shape, dtype)


def cached_zarr(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Create a zarr in the cache folder for a result too large for memory."""
    import tempfile

    import zarr
    from platformdirs import user_cache_path

    folder = user_cache_path("napari-geosr", ensure_exists=True) / "results"
    folder.mkdir(exist_ok=True)
    chunks = tuple(
        min(n, c) for n, c in zip(shape, (8, 512, 512)[-len(shape) :], strict=True)
    )
    return zarr.create_array(
        tempfile.mkdtemp(suffix=".zarr", dir=folder),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        fill_value=0,
        overwrite=True,
    )
