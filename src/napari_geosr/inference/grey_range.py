"""Grey values that a model is told to take for 0 and 1. numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyDType
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.intensity import IntensityStatistics

#: Above this many voxels every so-manieth is looked at.
_MOST = 2**22


def unit_range(dtype: AnyDType, statistics: IntensityStatistics) -> tuple[float, float]:
    """Grey values for 0 and 1, as programs for pictures have them.

    Bytes are divided by 255, values between 0 and 1 are left as they are; of all others
    the lowest and the highest stand for 0 and 1.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind in "bf" and statistics.minimum >= 0.0 and statistics.maximum <= 1.0:
        return 0.0, 1.0
    return statistics.minimum, statistics.maximum


def percentiles(source: ArrayLike, levels: Sequence[float]) -> tuple[float, ...]:
    """Percentiles of the finite voxels of an array.

    Of all of them up to 4 million; of larger arrays, of every so-manieth voxel of some
    planes, the same at every run.

    Raises
    ------
    VolumeError
        If no voxel is finite, or lowest and highest are the same.
    """
    n = math.prod(source.shape)
    every = max(1, math.ceil((n / _MOST) ** (1 / len(source.shape))))
    planes = [
        np.asarray(source[i])[(slice(None, None, every),) * (len(source.shape) - 1)]
        for i in range(0, source.shape[0], every)
    ]
    values = np.concatenate([plane.reshape(-1) for plane in planes])
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not values.size:
        raise VolumeError("None of the voxels is a finite number.")
    found = tuple(float(v) for v in np.percentile(values.astype(np.float64), levels))
    if not found[0] < found[-1]:
        raise VolumeError(
            f"The percentiles {levels[0]:g} and {levels[-1]:g} of the grey values are "
            f"the same ({found[0]:g}): there is nothing that this model could restore."
        )
    return found
