"""Sources of voxels for lazy arrays, and conversions of these voxels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.types import AnyArray


class VoxelSource(Protocol):
    """Interface of a decoder: indexing it with slices of step 1 returns voxels."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> AnyArray: ...


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
        self.decoding_bytes = getattr(source, "decoding_bytes", None)
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


class FixedSource:
    """A `VoxelSource` that takes one index along some axes and drops these axes.

    Parameters
    ----------
    source : VoxelSource
    indices : mapping of int to int
        Index along each dropped axis.
    decoding_bytes : int
        Bytes held while a block is decoded; the whole block is decoded even if only a
        part is used.
    """

    def __init__(
        self, source: VoxelSource, indices: Mapping[int, int], decoding_bytes: int
    ) -> None:
        self.source, self.indices = source, dict(indices)
        self.decoding_bytes = decoding_bytes
        axes = enumerate(source.shape)
        self.shape = tuple(int(n) for axis, n in axes if axis not in indices)
        self.dtype = source.dtype

    def __getitem__(self, key: Slices) -> AnyArray:
        parts, inner = iter(key), []
        for axis in range(len(self.source.shape)):
            index = self.indices.get(axis)
            inner.append(next(parts) if index is None else slice(index, index + 1))
        voxels = np.asarray(self.source[tuple(inner)])
        return voxels.reshape([part.stop - part.start for part in key])


class MappedSource:
    """A `VoxelSource` that applies `function` to voxels as they are read."""

    def __init__(
        self, source: VoxelSource, function: Callable[[Any], Any], dtype: object = None
    ) -> None:
        self.source = source
        self.decoding_bytes = getattr(source, "decoding_bytes", None)
        self.function = function
        self.shape = tuple(source.shape)
        self.dtype = source.dtype if dtype is None else dtype

    def __getitem__(self, key: Slices) -> Any:
        return self.function(np.asarray(self.source[key]))


class FlippedSource:
    """A `VoxelSource` with some axes reversed.

    Parameters
    ----------
    source : VoxelSource
    axes : sequence of int
        The reversed axes.
    """

    def __init__(self, source: VoxelSource, axes: Sequence[int]) -> None:
        self.source, self.axes = source, tuple(axes)
        self.decoding_bytes = getattr(source, "decoding_bytes", None)
        self.shape = tuple(source.shape)
        self.dtype = source.dtype

    def __getitem__(self, key: Slices) -> AnyArray:
        inner = list(key)
        for axis in self.axes:
            n, part = self.shape[axis], key[axis]
            inner[axis] = slice(n - part.stop, n - part.start)
        return flipped(np.asarray(self.source[tuple(inner)]), self.axes)


def flipped(array: AnyArray, axes: Sequence[int]) -> AnyArray:
    """Reverse some axes of a numpy array; the result is contiguous in memory."""
    return np.ascontiguousarray(np.flip(array, tuple(axes))) if axes else array


def arrange(array: Any, order: Sequence[int | None]) -> Any:
    """Reorder the axes of a numpy array as `ArrangedSource` does, without a copy."""
    kept = [i for i in order if i is not None]
    dropped = tuple(i for i in range(array.ndim) if i not in kept)
    moved = array.transpose(kept + list(dropped))
    key = [None if i is None else slice(None) for i in order]
    return moved[(..., *(0 for _ in dropped))][tuple(key)]
