"""The difference between a result and its source, computed lazily, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.volume import ArrayLike


def difference_steps(
    before: ArrayLike, after: ArrayLike, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Any, float]]:
    """Return the lazy difference, result minus source, and its contrast limit.

    Parameters
    ----------
    before, after : array of shape (…, Z, Y, X)
        Along each axis, `after` may be larger than `before` by an integer factor; each
        voxel of `before` then corresponds to a block of voxels in `after`.

    Returns
    -------
    difference : dask array of float32
    limit : float
        Contrast limit: 99.5th percentile of the magnitude in the middle plane.
    """
    yield StageStarted(message="Difference")
    import dask.array as da

    pairs = list(zip(after.shape, before.shape, strict=False))
    factors = [m // n for m, n in pairs]
    if before.ndim != after.ndim or any(m % n for m, n in pairs):
        raise VolumeError(
            f"Arrays of shape {tuple(before.shape)} and {tuple(after.shape)} cannot be "
            "subtracted. Compare a layer with its own restored version."
        )
    chunks = (1,) * (after.ndim - 2) + tuple(after.shape[-2:])
    result = _as_dask(da, after, chunks)
    coarse = tuple(max(1, c // f) for c, f in zip(chunks, factors, strict=True))
    source = _as_dask(da, before, coarse)
    for axis, factor in enumerate(factors):
        if factor > 1:
            source = da.repeat(source, factor, axis=axis)
    difference = result.astype(np.float32) - source.rechunk(chunks).astype(np.float32)
    if should_stop():
        raise Cancelled("Cancelled.")
    middle = difference[tuple(n // 2 for n in after.shape[:-2])].compute()
    limit = float(np.nanpercentile(np.abs(middle), 99.5)) or 1.0
    return difference, limit


def _as_dask(da: Any, data: Any, chunks: tuple[int, ...]) -> Any:
    if type(data).__module__.startswith("dask."):
        return data.rechunk(chunks)
    return da.from_array(data, chunks=chunks, name=False)
