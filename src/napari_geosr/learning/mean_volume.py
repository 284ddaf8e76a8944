"""Average several volumes of the same object lazily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume


def mean_volume(volumes: Sequence[Volume], name: str) -> Volume:
    """Return the lazy mean (float32) of `volumes`, with the origin of the first.

    Raises
    ------
    VolumeError
        If their shapes or axes differ.
    """
    first = volumes[0]
    for other in volumes[1:]:
        if other.shape != first.shape or other.axes != first.axes:
            raise VolumeError(
                f"{other.title} has shape {_times(other)} ({other.axes}) but "
                f"{first.title} has {_times(first)} ({first.axes}): they must have "
                "the same shape and axes."
            )
    data = _Mean([volume.data for volume in volumes])
    return first.replace(data=data, name=name, source=None, provenance=())


def _times(volume: Volume) -> str:
    return " × ".join(map(str, volume.shape))


class _Mean:
    """Lazy array: indexing reads the same part of every array and returns the mean."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays
        self.shape = tuple(int(n) for n in arrays[0].shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: Any) -> AnyArray:
        total = np.asarray(self._arrays[0][key], np.float64)
        for array in self._arrays[1:]:
            total = total + np.asarray(array[key], np.float64)
        mean: AnyArray = (total / len(self._arrays)).astype(np.float32)
        return mean
