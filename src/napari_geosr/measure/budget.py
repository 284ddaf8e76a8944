"""Memory budget of a measurement: slab thickness, and the minimum budget."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.config import (
    format_available,
    format_bytes,
    format_enough,
    parse_bytes,
)
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.lazy import read_unit, useful_cache
from napari_geosr.measure.blocks import chunk_thickness, slab_thickness
from napari_geosr.measure.companions import (
    Companions,
    companion_bytes,
    companions_of,
    stored_array,
)
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.sample.mask import sample_mask_bytes

#: Fraction of the free memory for arrays of labels and masks.
MEMORY_SHARE = 0.5
#: Bytes per voxel of a slab, in addition to its grey values: labels, masks and, if the
#: slab is full of specks, one table row for each speck.
_BYTES_PER_VOXEL = 12
#: Bytes per voxel of a plane between two slabs, if it is full of specks.
_SEAM_BYTES_PER_VOXEL = 130
#: Bytes per voxel of a slab for a porosity interval: grey values, deviations and their
#: sum, as floating-point numbers.
_INTERVAL_BYTES_PER_VOXEL = 24
#: Bytes of a label.
_LABEL_BYTES = 4
#: Fixed memory of a run in bytes, mostly for measuring the noise.
_FIXED_BYTES = 90 * 10**6
#: Minimum thickness of a slab in planes, unless a budget requires thinner slabs, in
#: which case the seams take most of the time and memory.
_MIN_PLANES = 4
#: Maximum fraction of the budget for a block that is read once and labelled in slabs.
_READ_SHARE = 0.25
#: Maximum number of decodings per voxel, on average; a budget that would need more is
#: rejected.
_MAX_READ_FACTOR = 20.0
#: Average number of decodings per voxel above which a warning is given.
_COSTLY_FACTOR = 3.0
#: Maximum average number of decodings per voxel for the preferred ways of reading;
#: other ways are used only if none of these fits into the budget.
_ALIGNED_FACTOR = 1.1
#: Number of sweeps over the volume in one measurement.
_SWEEPS = 2
#: Number of small windows that are read to measure the noise.
_WINDOWS = 45


@dataclass(frozen=True)
class SlabPlan:
    """Division of a volume into slabs, which does not affect the result.

    Attributes
    ----------
    thickness : int
        Number of planes labelled together.
    standard : int
        Number of planes that would be labelled together if there were no budget. The
        first bins of a histogram are chosen from the range of grey values in a slab of
        this thickness.
    source : ArrayLike
        The volume; one of its chunks is cached if slabs are thinner than chunks.
    caches : tuple of (array, int)
        Arrays in files, and the bytes of decoded blocks to be cached for each.
    warnings : tuple of str
        Why the measurement takes much longer than it would with more memory.
    """

    thickness: int
    standard: int
    source: Any
    caches: tuple[tuple[object, int], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _SlabReads:
    """One way of reading slabs from arrays that are stored in blocks.

    Attributes
    ----------
    caches : tuple of (array, int)
        Each array, and the bytes of its decoded blocks that are kept for the next slab.
    held_bytes : int
        Memory of these caches and of decoding.
    factor : float
        Mean number of times that a voxel is decoded in one pass over the volume; the
        largest of the arrays' means.
    """

    caches: tuple[tuple[object, int], ...] = ()
    held_bytes: int = 0
    factor: float = 1.0

    def __add__(self, other: _SlabReads) -> _SlabReads:
        return _SlabReads(
            self.caches + other.caches,
            self.held_bytes + other.held_bytes,
            max(self.factor, other.factor),
        )


def available_bytes(config: PorosityConfig) -> int:
    """Return the available memory in bytes: the budget, or part of the free memory."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(free_host_memory() * MEMORY_SHARE)


def min_bytes(
    source: Any, *, has_interval: bool = False, companions: Companions = ()
) -> int:
    """Return the memory needed to measure with the thinnest slabs, in bytes.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
    has_interval : bool
        Whether a porosity interval is computed.
    companions : sequence of ArrayLike
        Sample mask and standard deviations, which are read along with the volume.
    """
    source = source if len(source.shape) > 2 else _PlaneAsStack(source)
    standard = slab_thickness(source)
    thinnest = min(_MIN_PLANES, standard)
    if not _is_in_blocks(source, companions):
        return _bytes_for(source, thinnest, has_interval, companions)
    return min(
        _bytes_for(source, thickness, has_interval, companions) + reads.held_bytes
        for thickness in range(thinnest, standard + 1)
        for reads in _ways_of_reading(source, thickness, companions)
        if reads.factor <= _MAX_READ_FACTOR
    )


def _is_in_blocks(source: Any, companions: Companions) -> bool:
    arrays = (source, *companions)
    return any(read_unit(stored_array(array)) is not None for array in arrays)


def _ways_of_reading(
    source: Any, thickness: int, companions: Companions
) -> list[_SlabReads]:
    """Return the ways of reading slabs, with and without caches, and their costs.

    The way that needs the least memory comes first.
    """
    choices = [_ways_for(source, thickness, source.shape[0], _WINDOWS)]
    choices += [
        _ways_for(array, thickness, source.shape[0], n_windows=0)
        for array in companions
    ]
    ways = [sum(way, _SlabReads()) for way in itertools.product(*choices)]
    return sorted(ways, key=lambda way: way.held_bytes)


def _ways_for(
    array: Any, thickness: int, n_planes: int, n_windows: int
) -> list[_SlabReads]:
    """Find ways of reading an array in the slabs of a volume of `n_planes` planes."""
    stored = stored_array(array)
    unit = read_unit(stored)
    if unit is None:
        return [_SlabReads()]
    shape = (1,) * (3 - len(stored.shape)) + tuple(stored.shape)
    blocks = (1,) * (3 - len(unit.shape)) + tuple(unit.shape)
    n, depth = shape[0], blocks[0]
    layer = math.prod(-(-a // b) for a, b in zip(shape[1:], blocks[1:], strict=True))
    ratio = n / n_planes  # a mask may have more or fewer planes
    edges = [
        (math.floor(z * ratio), min(n, math.ceil((z + thickness) * ratio)))
        for z in range(0, n_planes, thickness)
    ]
    counts = [-(-stop // depth) - start // depth for start, stop in edges]
    cache = max(counts) * layer * unit.nbytes
    n_layers = -(-n // depth)
    factor = sum(counts) / n_layers + n_windows / (_SWEEPS * n_layers * layer)
    return [
        _SlabReads(((stored, 0),), unit.held_bytes(0), factor),
        _SlabReads(((stored, cache),), unit.held_bytes(cache)),
    ]


def _bytes_for(
    source: Any, thickness: int, has_interval: bool, companions: Companions
) -> int:
    per_voxel: float = _BYTES_PER_VOXEL + np.dtype(source.dtype).itemsize
    per_voxel += sum(map(companion_bytes, companions))
    if has_interval:
        per_voxel += _INTERVAL_BYTES_PER_VOXEL
    seam: int = _SEAM_BYTES_PER_VOXEL if thickness < source.shape[0] else 0
    plane: int = math.prod(source.shape[1:])
    return _FIXED_BYTES + math.ceil(plane * (seam + thickness * per_voxel))


def least_bytes(
    volume: Volume,
    config: PorosityConfig,
    *,
    mask: Volume | None = None,
    deviation: Volume | None = None,
    processes: int = 1,
) -> int:
    """Return the memory for the thinnest slabs, without the labels, in bytes.

    Parameters
    ----------
    volume, config, mask, deviation, processes
        As for `check_memory`.
    """
    needed = processes * min_bytes(
        volume.data,
        has_interval=deviation is not None,
        companions=companions_of(volume, mask, deviation),
    )
    if config.sample_mask != "none" and mask is None:
        needed += sample_mask_bytes(volume.shape)
    return needed


def most_bytes(
    volume: Volume,
    config: PorosityConfig,
    *,
    mask: Volume | None = None,
    deviation: Volume | None = None,
    processes: int = 1,
) -> int:
    """Return the memory that the labelling uses if the budget is large, in bytes.

    The slabs are those of a run without a budget, and all labels are in memory.

    Parameters
    ----------
    volume, config, mask, deviation, processes
        As for `check_memory`.
    """
    source: Any = volume.data
    if len(volume.shape) < 3:
        source = _PlaneAsStack(source)
    companions = companions_of(volume, mask, deviation)
    standard = slab_thickness(source)
    slab = _bytes_for(source, standard, deviation is not None, companions)
    if _is_in_blocks(source, companions):
        slab += _ways_of_reading(source, standard, companions)[-1].held_bytes
    needed = processes * slab + _LABEL_BYTES * math.prod(volume.shape)
    if config.sample_mask != "none" and mask is None:
        needed += sample_mask_bytes(volume.shape)
    return needed


def check_memory(
    volume: Volume,
    config: PorosityConfig,
    *,
    mask: Volume | None = None,
    deviation: Volume | None = None,
    processes: int = 1,
) -> None:
    """Raise if the budget or the free memory is too small, before any voxel is read.

    Parameters
    ----------
    volume : Volume
    config : PorosityConfig
    mask, deviation : Volume, optional
        Sample mask, and standard deviations for a porosity interval.
    processes : int
        Number of processes that share the memory.

    Raises
    ------
    VolumeError
        If even the thinnest slabs do not fit.
    """
    needed = least_bytes(
        volume, config, mask=mask, deviation=deviation, processes=processes
    )
    _refuse_if_less(config, needed, volume.name)


def _refuse_if_less(config: PorosityConfig, needed: int, name: str) -> int:
    """Return the budget or the free memory in bytes; raise if less than `needed`."""
    is_free = config.memory is None
    budget = free_host_memory() if is_free else parse_bytes(config.memory or "")
    if needed > budget:
        raise VolumeError(_budget_message(name, needed, budget, is_free))
    return budget


def cache_bytes(source: ArrayLike, config: PorosityConfig) -> int | None:
    """Return how many bytes of a volume may be cached before slabs are planned."""
    return useful_cache(source, max(0, available_bytes(config) - _FIXED_BYTES))


def plan_slabs(
    config: PorosityConfig,
    source: Any,
    target: Any,
    *,
    held: int,
    has_interval: bool,
    name: str,
    companions: Companions = (),
    processes: int = 1,
) -> SlabPlan:
    """Choose slabs that fit into the budget, or into the free memory.

    Parameters
    ----------
    source, target : ArrayLike of shape (Z, Y, X)
        `target` may be None.
    held : int
        Bytes of full-size arrays that the run keeps in memory.
    has_interval : bool
        Whether a porosity interval is computed.
    name : str
        Name of the volume in messages.
    companions : sequence of ArrayLike
        Sample mask and standard deviations, which are read along with the volume.
    processes : int
        Number of processes that share the memory, each with a slab.

    Raises
    ------
    VolumeError
        If even the thinnest slabs do not fit.
    """
    standard = slab_thickness(source, target)
    least = min_bytes(source, has_interval=has_interval, companions=companions)
    budget = _refuse_if_less(config, held + processes * least, name)
    needed, budget = least, (budget - held) // processes
    if _is_in_blocks(source, companions):
        return _plan_reads(
            source, standard, budget, held, has_interval, companions, processes
        )
    costs = has_interval, companions
    thickness = _max_thickness(source, standard, budget, *costs)
    if thickness < min(standard, chunk_thickness(source)):
        # Reading a chunk again for each of its slabs would multiply the reading time.
        kept = standard * math.prod(source.shape[1:]) * np.dtype(source.dtype).itemsize
        if kept <= _READ_SHARE * budget and kept <= budget - needed:
            source = _ChunkCache(source, standard)
            thickness = _max_thickness(source, standard, budget - kept, *costs)
    return SlabPlan(thickness, standard, source)


def _plan_reads(
    source: Any,
    standard: int,
    budget: int,
    held: int,
    has_interval: bool,
    companions: Companions,
    processes: int,
) -> SlabPlan:
    """Plan slabs of arrays that are stored in blocks, which are decoded as a whole.

    A block is decoded once for all its slabs if it can be kept, and otherwise as rarely
    as possible.
    """
    thinnest = min(_MIN_PLANES, slab_thickness(source))

    def thickest(max_factor: float) -> tuple[int, _SlabReads] | None:
        """Find the thickest slabs that fit, and how they are read; None if none fit."""
        for thickness in range(standard, thinnest - 1, -1):
            room = budget - _bytes_for(source, thickness, has_interval, companions)
            for reads in _ways_of_reading(source, thickness, companions):
                if reads.held_bytes <= room and reads.factor <= max_factor:
                    return thickness, reads
        return None

    found = thickest(_ALIGNED_FACTOR) or thickest(_MAX_READ_FACTOR)
    assert found is not None  # the thinnest slabs fit
    thickness, reads = found
    warnings = []
    if reads.factor > _COSTLY_FACTOR:
        enough = _bytes_for(source, thinnest, has_interval, companions)
        enough += min(
            reads.held_bytes
            for reads in _ways_of_reading(source, thinnest, companions)
            if reads.factor <= _ALIGNED_FACTOR
        )
        warnings.append(_costly_message(reads, held + processes * enough))
    return SlabPlan(thickness, standard, source, reads.caches, tuple(warnings))


def _costly_message(reads: _SlabReads, enough: int) -> str:
    units = [read_unit(array) for array, _ in reads.caches]
    unit = max((unit for unit in units if unit), key=lambda unit: unit.nbytes)
    shape = " × ".join(map(str, unit.shape))
    return (
        f"The volume is stored in blocks of {shape} voxels "
        f"({format_bytes(unit.nbytes)}), which can only be decoded as a whole. With "
        f"this memory, each block is decoded about {reads.factor:.0f} times in each "
        f"pass over the volume. {format_enough(enough)} would suffice: increase the "
        "Memory setting (--memory), or save the volume in blocks of about 64 × 64 × 64 "
        "voxels."
    )


def _max_thickness(
    source: Any, limit: int, budget: int, has_interval: bool, companions: Companions
) -> int:
    """Find the thickness of the thickest slab that fits; the thinnest one must fit."""

    def needed(thickness: int) -> int:
        return _bytes_for(source, thickness, has_interval, companions)

    if needed(limit) <= budget:
        return limit
    one = needed(1)
    per_plane = (needed(2) - one) if source.shape[0] > 2 else one
    fitting = 1 + (budget - one) // per_plane
    return int(np.clip(fitting, min(_MIN_PLANES, limit), limit))


def _budget_message(name: str, needed: int, budget: int, is_free: bool) -> str:
    need = f"Measuring {name!r} needs at least {format_enough(needed)} of memory, but "
    if is_free:
        return (
            f"{need}{format_available(budget)} is free. Close other programs, or "
            "measure a part of the volume."
        )
    return f"{need}the budget is {format_available(budget)}. Increase it (--memory)."


class _PlaneAsStack:
    """A 2D image with the shape of a volume."""

    def __init__(self, image: Any) -> None:
        self.shape, self.dtype = (1, *image.shape), image.dtype
        self.stored = image


class _ChunkCache:
    """A chunked volume with a cache of the most recently read chunks."""

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
