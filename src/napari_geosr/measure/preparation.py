"""What comes before a measurement: checks, its budget of memory, slabs and targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes, format_enough, parse_bytes
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.memory import free_host_memory
from napari_geosr.core.steps import ShouldStop, Warned
from napari_geosr.core.volume import Volume
from napari_geosr.measure.band import Deviation
from napari_geosr.measure.blocks import slab_thickness
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.envelope import check_envelope_memory
from napari_geosr.measure.graph.steps import check_graph_memory
from napari_geosr.measure.histogram import blocks_along_z, check_real
from napari_geosr.measure.segment import phase_mask
from napari_geosr.measure.sums import Geometry

#: Part of the free memory that label and mask arrays of ours may take.
MEMORY_SHARE = 0.5
#: Bytes for each voxel of a slab beside its grey values, and what a run takes anyway.
_BYTES_PER_VOXEL, _FIXED_BYTES = 24, 60 * 10**6


@dataclass
class SampleCounts:
    """Voxel counts besides pores."""

    sample: int = 0
    pores: int = 0
    at_low: int = 0
    at_high: int = 0


@dataclass
class PorosityRun:
    """State shared by the stages of one measurement."""

    source: Any
    name: str
    config: PorosityConfig
    geometry: Geometry
    thickness: int
    mask: Any
    target: Any
    should_stop: ShouldStop
    warnings: list[str]
    counts: SampleCounts = field(default_factory=SampleCounts)
    offsets: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, Y and X."""
        z, y, x = (int(n) for n in self.source.shape)
        return z, y, x

    @property
    def slabs(self) -> list[slice]:
        """The slabs along Z, in order."""
        return blocks_along_z(self.shape, self.thickness)

    def check(self, doing: str) -> None:
        """Raise `Cancelled` if the measurement is to stop, naming the stage."""
        if self.should_stop():
            raise Cancelled(f"Measuring {self.name!r} was cancelled while {doing}.")

    def warned(self, message: str) -> Warned:
        """Keep a warning for the report; the step that tells it at once."""
        self.warnings.append(message)
        return Warned(message=message)

    def sample(self, slab: slice, block: np.ndarray) -> np.ndarray | None:
        """Where the sample is in a slab that holds `block`; None: everywhere."""
        sample: np.ndarray | None = None
        if self.mask is not None:
            sample = np.asarray(self.mask[slab]) != 0
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                sample = finite if sample is None else sample & finite
        return sample

    def pores(self, slab: slice, threshold: float) -> np.ndarray:
        """Pore mask of a slab, counted nowhere."""
        self.check("tracing the graph")
        block = np.asarray(self.source[slab])
        sample = self.sample(slab, block)
        pores = phase_mask(block, threshold, self.config.phase)
        return pores if sample is None else pores & sample

    def pores_and_sample(
        self, slab: slice, threshold: float, band: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Pore mask and sample mask (None: everywhere) of a slab; counts both."""
        block = np.asarray(self.source[slab])
        sample = self.sample(slab, block)
        counts, phase = self.counts, self.config.phase
        pores = phase_mask(block, threshold, phase)
        if sample is not None:
            pores &= sample
        counts.sample += block.size if sample is None else int(np.count_nonzero(sample))
        counts.pores += int(np.count_nonzero(pores))
        for attribute, value in zip(("at_low", "at_high"), band, strict=True):
            moved = phase_mask(block, value, phase)
            if sample is not None:
                moved &= sample
            n = getattr(counts, attribute) + int(np.count_nonzero(moved))
            setattr(counts, attribute, n)
        return pores, sample


class PlaneAsStack:
    """A (Y, X) array seen as one plane of a (1, Y, X) stack."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = (1, *array.shape)
        self.dtype = array.dtype
        self.ndim = 3

    def __getitem__(self, key: slice) -> np.ndarray:
        return np.asarray(self.array[:])[None]

    def __setitem__(self, key: slice, value: np.ndarray) -> None:
        self.array[:] = value[0]


def as_stack(array: Any) -> Any:
    """Return a 2D array as a stack of one plane; 3D arrays and None as they are."""
    return PlaneAsStack(array) if array is not None and array.ndim == 2 else array


def prepare_run(
    volume: Volume,
    config: PorosityConfig,
    mask: Any,
    deviation: Deviation | None,
    target: Any,
    keep_labels: bool,
    should_stop: ShouldStop,
) -> PorosityRun:
    """Check everything that can be checked before a voxel is read.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.
    mask, deviation, target : as in `napari_geosr.measure.porosity.porosity_steps`
    keep_labels : bool
        Make a target in memory where none is given.

    Raises
    ------
    VolumeError
        If voxels, shapes or types do not suit, or memory is too short.
    """
    _check_arrays(volume, mask, deviation, target)
    warnings = []
    flat = volume.spatial_shape[:-2] in ((), (1,))
    if flat and len(volume.shape) == 3:
        warnings.append("One slice only: measured as an image (areas, pores per mm²).")
    free = available_bytes(config)
    if config.sample_mask == "auto" and mask is None:
        check_envelope_memory(volume.shape, int(free * MEMORY_SHARE), volume.name)
    if config.graph:
        check_graph_memory(volume.shape, int(free * MEMORY_SHARE), volume.name)
    if target is None and keep_labels:
        needed = 4 * math.prod(volume.shape)
        if needed <= free * MEMORY_SHARE:
            target = np.zeros(volume.shape, np.uint32)
        else:
            warnings.append(
                f"No label image was made: it needs {format_bytes(needed)} of memory, "
                f"but {format_bytes(free)} are free. Give a file to write it to."
            )
    source = as_stack(volume.data)
    thickness = slab_thickness(source, as_stack(target))
    check_budget(config, source, thickness, volume.name)
    return PorosityRun(
        source,
        volume.name,
        config,
        _geometry(volume, flat=flat),
        thickness,
        as_stack(mask),
        as_stack(target),
        should_stop,
        warnings,
    )


def _check_arrays(
    volume: Volume, mask: Any, deviation: Deviation | None, target: Any
) -> None:
    check_real(volume.dtype, volume.name)
    if 0 in volume.shape:
        raise VolumeError(f"{volume.name!r} is empty (shape {volume.shape}).")
    certainty = None if deviation is None else deviation.data
    for word, array in (
        ("mask", mask),
        ("uncertainty", certainty),
        ("labels target", target),
    ):
        if array is not None and tuple(array.shape) != volume.shape:
            raise VolumeError(
                f"The {word} of {volume.name!r} has shape {tuple(array.shape)}, but "
                f"the volume has {volume.shape}. Give one of the same shape."
            )
    if target is not None and (
        np.dtype(target.dtype).kind not in "iu" or np.dtype(target.dtype).itemsize < 4
    ):
        raise VolumeError(
            f"Labels do not fit into type {target.dtype}; use uint32 or int32."
        )


def _geometry(volume: Volume, *, flat: bool) -> Geometry:
    size, origin = volume.voxel_size, volume.origin
    if len(size) == 2:
        size, origin = (1.0, *size), (0.0, *origin)
    if flat:
        size = (1.0, *size[1:])
    return Geometry(
        (size[0], size[1], size[2]),
        (origin[0], origin[1], origin[2]),
        volume.unit,
        flat,
    )


def available_bytes(config: PorosityConfig) -> int:
    """Bytes that a run may use: its budget, or a share of the free memory."""
    if config.memory is not None:
        return int(parse_bytes(config.memory) / MEMORY_SHARE)
    return free_host_memory()


def check_budget(
    config: PorosityConfig, source: Any, thickness: int, name: str
) -> None:
    """Raise `VolumeError` if even the slabs do not fit into the budget.

    Parameters
    ----------
    config : PorosityConfig
    source : array-like
        The volume as a stack.
    thickness : int
        Planes of a slab.
    name : str
        Of the volume, for the message.
    """
    if config.memory is None:
        return
    budget = parse_bytes(config.memory)
    voxels = thickness * math.prod(source.shape[1:])
    slab = voxels * (_BYTES_PER_VOXEL + np.dtype(source.dtype).itemsize)
    needed = slab + _FIXED_BYTES
    if needed > budget:
        raise VolumeError(
            f"Measuring {name!r} needs at least {format_enough(needed)} of memory, but "
            f"the budget is {format_bytes(budget)}. Raise it (--memory)."
        )
