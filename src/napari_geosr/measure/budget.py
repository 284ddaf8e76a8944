"""Memory budget of a measurement: the slabs that keep it, and the least that does."""

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

#: Part of the free memory that label and mask arrays of ours may take.
MEMORY_SHARE = 0.5
#: Bytes for each voxel of a slab beside its grey values: labels, masks and, where it is
#: full of specks, a row for each of them.
_BYTES_PER_VOXEL = 12
#: Bytes for each voxel of a plane at which two slabs meet, full of specks.
_BYTES_OF_SEAM = 130
#: Bytes for each voxel of a slab that a band of the porosity takes: the grey values,
#: their deviations and the sum of both as floats.
_BYTES_FOR_BAND = 24
#: What a run takes whatever the volume, most of it to measure the noise.
_FIXED_BYTES = 90 * 10**6
#: Planes of a slab at least, if a slab is that thick without a budget: with fewer, most
#: of the work and memory is for the seams.
_FEWEST_PLANES = 4
#: Part of the budget that a block may take which is read once and labelled by slabs.
_READ_SHARE = 0.25


@dataclass(frozen=True)
class SlabPlan:
    """How a volume is cut; no figure depends on it.

    Attributes
    ----------
    thickness : int
        Planes that are labelled together.
    standard : int
        Planes that would be without a budget. The range of grey values in as many is
        what the first bins of a histogram are made for.
    source : ArrayLike
        The volume, with a chunk of it kept in memory where slabs are thinner.
    """

    thickness: int
    standard: int
    source: Any


def available_bytes(config: PorosityConfig) -> int:
    """Bytes that arrays of labels and masks may take: the budget, or a share of all."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(free_host_memory() * MEMORY_SHARE)


def least_bytes(source: Any, *, has_band: bool = False) -> int:
    """Bytes that a measurement takes with the thinnest slabs."""
    source = source if len(source.shape) > 2 else _OnePlane(source)
    fewest = min(_FEWEST_PLANES, slab_thickness(source))
    return _bytes_with(source, fewest, has_band)


def _bytes_with(source: Any, thickness: int, has_band: bool) -> int:
    per_voxel: int = _BYTES_PER_VOXEL + np.dtype(source.dtype).itemsize
    if has_band:
        per_voxel += _BYTES_FOR_BAND
    seam: int = _BYTES_OF_SEAM if thickness < source.shape[0] else 0
    plane: int = math.prod(source.shape[1:])
    return _FIXED_BYTES + plane * (seam + thickness * per_voxel)


def plan_slabs(
    config: PorosityConfig,
    source: Any,
    target: Any,
    *,
    held: int,
    has_band: bool,
    name: str,
) -> SlabPlan:
    """Choose slabs that fit into the budget, or into the free memory.

    Parameters
    ----------
    source, target : ArrayLike of shape (Z, Y, X)
        `target` may be None.
    held : int
        Bytes of arrays as large as the volume that the run keeps in memory.

    Raises
    ------
    VolumeError
        If not even the thinnest slabs fit.
    """
    standard = slab_thickness(source, target)
    is_free = config.memory is None
    budget = free_host_memory() if is_free else parse_bytes(config.memory or "")
    needed = least_bytes(source, has_band=has_band) + held
    if needed > budget:
        raise VolumeError(_too_small(name, needed, budget, is_free))
    thickness = _thickest(source, standard, budget - held, has_band)
    if thickness < min(standard, chunk_thickness(source)):
        # A chunk that is read for each of its slabs takes that many times as long.
        kept = standard * math.prod(source.shape[1:]) * np.dtype(source.dtype).itemsize
        if kept <= _READ_SHARE * (budget - held) and kept <= budget - needed:
            source = _KeptBlock(source, standard)
            thickness = _thickest(source, standard, budget - held - kept, has_band)
    return SlabPlan(thickness, standard, source)


def _thickest(source: Any, most: int, budget: int, has_band: bool) -> int:
    """Planes of the thickest slab that fits; the thinnest one is known to fit."""
    if _bytes_with(source, most, has_band) <= budget:
        return most
    one = _bytes_with(source, 1, has_band)
    per_plane = (_bytes_with(source, 2, has_band) - one) if source.shape[0] > 2 else one
    fitting = 1 + (budget - one) // per_plane
    return int(np.clip(fitting, min(_FEWEST_PLANES, most), most))


def _too_small(name: str, needed: int, budget: int, is_free: bool) -> str:
    said = f"Measuring {name!r} needs at least {format_enough(needed)} of memory, but "
    if is_free:
        return (
            f"{said}{format_bytes(budget)} are free. Close other programs, or measure "
            "a part of it."
        )
    return f"{said}the budget is {format_bytes(budget)}. Raise it (--memory)."


class _OnePlane:
    """The shape of a 2D image as a volume."""

    def __init__(self, image: Any) -> None:
        self.shape, self.dtype = (1, *image.shape), image.dtype


class _KeptBlock:
    """A volume in chunks, of which the last ones that were read are kept."""

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
                self._block = np.empty(0)  # never two of them
                stop = min(start + self._thickness, self.shape[0])
                self._block = np.asarray(self._array[start:stop])
                self._start = start
            end = min(slab.stop, start + len(self._block))
            parts.append(self._block[z - start : end - start])
            z = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
