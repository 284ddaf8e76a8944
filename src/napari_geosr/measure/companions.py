"""Arrays that are read along with a volume: the sample mask and the deviations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import ArrayLike, Volume

Companions: TypeAlias = Sequence[Any]


def stored_array(array: Any) -> Any:
    """Return the stored array from which a resampled or stacked view is derived."""
    return getattr(array, "stored", array)


def companion_bytes(array: Any) -> float:
    """Return the bytes for reading a mask or deviations, per voxel of the volume.

    An array in memory takes no extra bytes, except for a mask with smaller voxels than
    the volume: comparing it with 0 takes one byte per voxel of the mask.
    """
    stored, density = stored_array(array), getattr(array, "density", 1.0)
    read = 0 if isinstance(stored, np.ndarray) else np.dtype(stored.dtype).itemsize
    return float(density * (read + (1 if density > 1 else 0)))


class _FinerMask:
    """A mask on its own grid, and its number of voxels per voxel of the volume."""

    def __init__(self, data: ArrayLike, density: float) -> None:
        self.stored, self.density = data, density


def companions_of(
    volume: Volume, mask: Volume | None, deviation: Volume | None
) -> list[Any]:
    """Return the arrays that are read along with a volume."""
    found = [] if deviation is None else [deviation.data]
    if mask is None:
        return found
    density = 1.0
    if mask.has_physical_size and volume.has_physical_size:
        scale = convert_length(1.0, mask.unit, volume.unit)
        sizes = math.prod(v * scale for v in mask.voxel_size)
        density = math.prod(volume.voxel_size) / sizes
    return [_FinerMask(mask.data, density), *found]
