"""Memory budget of a measurement: slab thickness, and the minimum budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes, format_enough, parse_bytes
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.memory import free_host_memory
from napari_geosr.measure.blocks import chunk_thickness, slab_thickness
from napari_geosr.measure.config import PorosityConfig

#: Fraction of the free memory for arrays of labels and masks.
MEMORY_SHARE = 0.5
#: Bytes per voxel of a slab, in addition to its grey values: labels, masks and, if it
#: is full of specks, one row for each.
_BYTES_PER_VOXEL = 12
#: Bytes per voxel of a plane between two slabs, if it is full of specks.
_SEAM_BYTES_PER_VOXEL = 130
#: Bytes per voxel of a slab for a porosity interval: grey values, deviations and their
#: sum as floating point.
_INTERVAL_BYTES_PER_VOXEL = 24
#: Fixed memory of a run in bytes, mostly for measuring the noise.
_FIXED_BYTES = 90 * 10**6
#: Minimum thickness of a slab in planes, if possible without a budget: with thinner
#: slabs, most of the work and memory would go into the seams.
_MIN_PLANES = 4
#: Maximum fraction of the budget for a block that is read once and labelled in slabs.
_READ_SHARE = 0.25


@dataclass(frozen=True)
class SlabPlan:
    """Division of a volume into slabs; the result does not depend on it.

    Attributes
    ----------
    thickness : int
        Number of planes labelled together.
    standard : int
        Number of planes that would be labelled together if there were no budget. The
        first bins of a histogram are chosen from the range of grey values in that many
        planes.
    source : ArrayLike
        The volume, with a chunk of it cached if slabs are thinner than chunks.
    """

    thickness: int
    standard: int
    source: Any


def available_bytes(config: PorosityConfig) -> int:
    """Bytes for arrays of labels and masks: budget, or fraction of the free memory."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(free_host_memory() * MEMORY_SHARE)


def min_bytes(source: Any, *, has_interval: bool = False) -> int:
    """Memory of a measurement with the thinnest slabs, in bytes."""
    source = source if len(source.shape) > 2 else _PlaneAsStack(source)
    thickness = min(_MIN_PLANES, slab_thickness(source))
    return _bytes_for(source, thickness, has_interval)


def _bytes_for(source: Any, thickness: int, has_interval: bool) -> int:
    per_voxel: int = _BYTES_PER_VOXEL + np.dtype(source.dtype).itemsize
    if has_interval:
        per_voxel += _INTERVAL_BYTES_PER_VOXEL
    seam: int = _SEAM_BYTES_PER_VOXEL if thickness < source.shape[0] else 0
    plane: int = math.prod(source.shape[1:])
    return _FIXED_BYTES + plane * (seam + thickness * per_voxel)


def plan_slabs(
    config: PorosityConfig,
    source: Any,
    target: Any,
    *,
    held: int,
    has_interval: bool,
    name: str,
) -> SlabPlan:
    """Choose slabs that fit into the budget, or into the free memory.

    Parameters
    ----------
    source, target : ArrayLike of shape (Z, Y, X)
        `target` may be None.
    held : int
        Bytes of full-size arrays that the run keeps in memory.

    Raises
    ------
    VolumeError
        If even the thinnest slabs do not fit.
    """
    standard = slab_thickness(source, target)
    is_free = config.memory is None
    budget = free_host_memory() if is_free else parse_bytes(config.memory or "")
    needed = min_bytes(source, has_interval=has_interval) + held
    if needed > budget:
        raise VolumeError(_budget_message(name, needed, budget, is_free))
    thickness = _max_thickness(source, standard, budget - held, has_interval)
    if thickness < min(standard, chunk_thickness(source)):
        # Reading a chunk again for each of its slabs would multiply the reading time.
        kept = standard * math.prod(source.shape[1:]) * np.dtype(source.dtype).itemsize
        if kept <= _READ_SHARE * (budget - held) and kept <= budget - needed:
            source = _ChunkCache(source, standard)
            thickness = _max_thickness(
                source, standard, budget - held - kept, has_interval
            )
    return SlabPlan(thickness, standard, source)


def _max_thickness(source: Any, limit: int, budget: int, has_interval: bool) -> int:
    """Thickness of the thickest slab that fits; the thinnest is known to fit."""
    if _bytes_for(source, limit, has_interval) <= budget:
        return limit
    one = _bytes_for(source, 1, has_interval)
    per_plane = (
        (_bytes_for(source, 2, has_interval) - one) if source.shape[0] > 2 else one
    )
    fitting = 1 + (budget - one) // per_plane
    return int(np.clip(fitting, min(_MIN_PLANES, limit), limit))


def _budget_message(name: str, needed: int, budget: int, is_free: bool) -> str:
    need = f"Measuring {name!r} needs at least {format_enough(needed)} of memory, but "
    if is_free:
        return (
            f"{need}{format_bytes(budget)} are free. Close other programs, or measure "
            "a part of it."
        )
    return f"{need}the budget is {format_bytes(budget)}. Raise it (--memory)."


class _PlaneAsStack:
    """A 2D image with the shape of a volume."""

    def __init__(self, image: Any) -> None:
        self.shape, self.dtype = (1, *image.shape), image.dtype


class _ChunkCache:
    """A chunked volume that caches the chunks read last."""

    def __init__(self, array: Any, thickness: int) -> None:
        self._array, self._thickness = array, thickness
        self._start, self._block = 0, np.empty(0)
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, slab: slice) -> np.ndarray:
        parts = []
        z = slab.start
        while z < slab.stop:
            start = z // self._thickness * self._thickness
            if not len(self._block) or self._start != start:
                self._block = np.empty(0)  # free the old block before reading
                stop = min(start + self._thickness, self.shape[0])
                self._block = np.asarray(self._array[start:stop])
                self._start = start
            end = min(slab.stop, start + len(self._block))
            parts.append(self._block[z - start : end - start])
            z = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
