"""State of a porosity measurement, and the checks before it starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.config import (
    format_available,
    format_enough,
)
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.blocks import (
    SlabLabeller,
    blocks_along_z,
    check_real,
    inside_mask,
)
from napari_geosr.measure.budget import (
    SlabPlan,
    available_bytes,
    min_bytes,
    plan_slabs,
)
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.graph.steps import check_graph_memory
from napari_geosr.measure.interval import Deviation
from napari_geosr.measure.overview import OverviewBuilder, PlaneShares
from napari_geosr.measure.phases import (
    GreyPlanes,
    PhasePlanes,
    Phases,
    phases_of,
)
from napari_geosr.measure.phases.cubic import not_cubic_text
from napari_geosr.measure.phases.gaps import GapFiller, filled_remark
from napari_geosr.measure.sample.counts import SampleCounts
from napari_geosr.measure.sample.mask import check_sample_mask_memory, sample_mask_bytes
from napari_geosr.measure.segment import ThresholdScope, phase_mask
from napari_geosr.measure.slabs.part import SlabPart, SlabRules, label_slab
from napari_geosr.measure.slabs.sharing import SlabPool
from napari_geosr.measure.sums import Geometry


@dataclass(frozen=True, eq=False)
class LabelledSlab:
    """Result of labelling a slab.

    Attributes
    ----------
    labels : ndarray of shape (z, Y, X), uint32, or None
        Labels 1..n, if they are kept.
    part : SlabPart
    counts : SampleCounts
    shares : list of PlaneShares
        Fractions of the phases, for the picture in the report.
    """

    labels: np.ndarray | None
    part: SlabPart
    counts: SampleCounts
    shares: list[PlaneShares]


@dataclass
class SweepProgress:
    """Counts finished slabs, out of the slabs of all sweeps."""

    total: int
    done: int = 0

    def step(self) -> BlockDone:
        """Count one slab as done."""
        self.done += 1
        return BlockDone(self.done, self.total)


@dataclass
class PorosityRun:
    """State shared by the stages of one measurement."""

    plan: SlabPlan
    name: str
    config: PorosityConfig
    geometry: Geometry
    mask: Any
    target: Any
    should_stop: ShouldStop
    journal: LabellingJournal | None = None
    counts: SampleCounts = field(default_factory=SampleCounts)
    offsets: list[int] = field(default_factory=list)
    #: Ends along Z of the slabs that an interrupted run has already labelled.
    resumed_ends: list[int] = field(default_factory=list)
    #: Number of the first slab with labels stored in `target`; the labels of all later
    #: slabs are also stored.
    first_stored: int = 0
    #: Builds the grid for the picture in the report; None for an image.
    overview: OverviewBuilder | None = None
    #: Processes that share the slabs; None if this process handles all of them.
    pool: SlabPool | None = None
    #: With hysteresis: the pores that have a core.
    cored: PackedMask | None = None
    #: With hysteresis: number of voxels of pores that have a core, at both shifted
    #: thresholds.
    cored_at_limits: tuple[int, int] = (0, 0)
    #: The sample below its blurred surface; None for the whole sample.
    inner: Any = None
    #: Where the sample mask comes from; see `Phases.sample_from`.
    sample_from: str = "none"
    #: Voxels from which the threshold was computed.
    threshold_scope: ThresholdScope = "volume"
    #: With a local threshold: the grey values without any correction.
    uncorrected: Any = None

    @property
    def source(self) -> Any:
        """The grey values; with a local threshold, relative to their local mean."""
        return self.plan.source

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, Y and X."""
        z, y, x = (int(n) for n in self.source.shape)
        return z, y, x

    @property
    def slabs(self) -> list[slice]:
        """The slabs along Z, in order."""
        ends = [0, *self.resumed_ends]
        done = [slice(a, b) for a, b in itertools.pairwise(ends)]
        rest = (self.shape[0] - ends[-1], *self.shape[1:])
        return done + [
            slice(ends[-1] + slab.start, ends[-1] + slab.stop)
            for slab in blocks_along_z(rest, self.plan.thickness)
        ]

    def check(self, doing: str) -> None:
        """Raise `Cancelled`, which names the stage, if the measurement is to stop."""
        if self.should_stop():
            raise Cancelled(f"Measuring {self.name!r} was cancelled while {doing}.")

    def sample(self, slab: slice, block: np.ndarray) -> np.ndarray | None:
        """Return the sample mask of a slab of values; None if all voxels are inside."""
        sample: np.ndarray | None = None
        if self.mask is not None:
            sample = inside_mask(np.asarray(self.mask[slab]))
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            if not finite.all():
                sample = finite if sample is None else sample & finite
        return sample

    def below_surface(self, slab: slice, sample: np.ndarray | None) -> Any:
        """Return the part of a slab's sample that lies below its blurred surface."""
        if self.inner is None or sample is None:
            return sample
        return sample & np.asarray(self.inner[slab])

    def labeller(self) -> SlabLabeller:
        """Create a labeller that labels the pores of the volume slab by slab."""
        return SlabLabeller(
            self.shape,
            self.geometry.voxel_size,
            self.config.connectivity,
            flat=self.geometry.flat,
            min_voxels=self.config.min_voxels,
        )

    def pores(
        self, slab: slice, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the grey values, pore mask and sample mask of a slab.

        The sample mask is None if all voxels belong to the sample.
        """
        block, pores, sample = self.pores_at(slab, threshold)
        if self.cored is not None:
            pores = self.cored[slab, slice(None), slice(None)]
        return block, pores, sample

    def pores_at(
        self, slab: slice, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return grey values, pores and sample mask of a slab, without hysteresis."""
        block = np.asarray(self.source[slab])
        sample = self.sample(slab, block)
        pores = phase_mask(block, threshold, self.config.phase)
        if sample is not None:
            pores &= sample
        return block, pores, sample

    def grey_planes(
        self, slab: slice, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the result of `pores`, but with the original grey values."""
        block, pores, sample = self.pores(slab, threshold)
        if self.uncorrected is not None:
            block = np.asarray(self.uncorrected[slab])
        return block, pores, sample

    def graph_pores(self, slab: slice, threshold: float) -> np.ndarray:
        """Return the pore mask of a slab; raise `Cancelled` if the run is to stop."""
        self.check("tracing the graph")
        return self.pores(slab, threshold)[1]

    def phases(
        self,
        threshold: float,
        n_nonfinite: int = 0,
        *,
        purpose: Literal["morphometry", "the plan"] = "morphometry",
    ) -> Phases:
        """Store both phases with one bit per voxel, for statistics that read voxels.

        Parameters
        ----------
        threshold : float
        n_nonfinite : int
            Number of NaN and infinite voxels of the sample.
        purpose : {"morphometry", "the plan"}
            What the phases are used for, for messages.
        """
        geometry = self.geometry
        gaps = None
        if n_nonfinite:
            gaps = GapFiller(self.shape, flat=geometry.flat)
            for slab in self.slabs:
                self.check("measuring morphometry")
                gaps.add(slab.start, *self._parts(slab, threshold))

        def read(slab: slice) -> PhasePlanes:
            if gaps is not None:
                return gaps.planes(slab)
            pores, inside, missing = self._parts(slab, threshold)
            if inside is None:
                return PhasePlanes(pores)
            sample = inside & ~missing
            return PhasePlanes(pores & sample, sample, pores, missing)

        phases = phases_of(
            read,
            self.slabs,
            self.shape,
            geometry.voxel_size,
            geometry.unit,
            flat=geometry.flat,
            origin=geometry.origin,
            check=lambda: self.check("measuring morphometry"),
        )
        notes = phases.notes
        if purpose == "the plan" and phases.original is not None:
            sizes = geometry.voxel_size
            notes = (
                f"{not_cubic_text(sizes, geometry.unit, geometry.flat)}: the porosity "
                "of the spots was computed from these voxels; voxels cut by a face of "
                "a spot count in proportion to their volume inside it.",
            )
        if gaps is not None and gaps.n_filled:
            notes = (filled_remark(gaps.n_filled, purpose), *notes)
        grey = GreyPlanes(self.slabs, lambda slab: self.grey_planes(slab, threshold))
        return self._with_settings(replace(phases, grey=grey, notes=notes))

    def _with_settings(self, phases: Phases) -> Phases:
        """Add the settings of this run, also to the phases on the grid of the scan."""
        config = self.config
        return replace(
            phases,
            scan_grid=phases.scan_grid and self._with_settings(phases.scan_grid),
            sample_from=self.sample_from,
            min_voxels=config.min_voxels,
            connectivity=config.connectivity,
            budget=None if config.memory is None else available_bytes(config),
        )

    def _parts(
        self, slab: slice, threshold: float
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return pores (inside and outside the sample), sample mask, missing voxels.

        The sample mask includes missing voxels; it is None if no mask is used.
        """
        block, pores, _ = self.pores(slab, threshold)
        missing = np.zeros(block.shape, bool)
        if block.dtype.kind == "f":
            missing = ~np.isfinite(block)
        if self.mask is None:
            return pores, None, missing
        inside = inside_mask(np.asarray(self.mask[slab]))
        outside = phase_mask(block, threshold, self.config.phase)
        return np.where(inside, pores, outside & ~missing), inside, missing

    def labelled(
        self,
        slab: slice,
        threshold: float,
        limits: tuple[float, float],
        rules: SlabRules,
    ) -> LabelledSlab:
        """Label the pores of a slab, without changing the state of this run."""
        block, pores, sample = self.pores(slab, threshold)
        n_sample = block.size if sample is None else int(np.count_nonzero(sample))
        n_pores = int(np.count_nonzero(pores))
        n_inner, n_inner_pores, inner = n_sample, n_pores, sample
        if self.inner is not None:
            inner = self.below_surface(slab, sample)
            n_inner = int(np.count_nonzero(inner))
            n_inner_pores = int(np.count_nonzero(pores & inner))
        shifted = []
        for value in limits if self.cored is None else ():
            mask = phase_mask(block, value, self.config.phase)
            if inner is not None:
                mask &= inner
            shifted.append(int(np.count_nonzero(mask)))
        # With hysteresis, these voxels were counted with the cores.
        low, high = shifted or (0, 0)
        counts = SampleCounts(n_sample, n_pores, low, high, n_inner, n_inner_pores)
        shares = []
        if self.overview is not None:
            shares = self.overview.shares(slab, pores, sample)
        labels, part = label_slab(pores, sample, slab.start, rules)
        return LabelledSlab(labels, part, counts, shares)


class LabellingJournal(Protocol):
    """Stores the state of the labelling, so that the measurement can be resumed."""

    def load(self) -> Mapping[str, np.ndarray] | None:
        """Return the state of a run with the same input and settings, or None."""

    def is_due(self) -> bool:
        """Whether it is time to save."""

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace the stored state."""


class SinglePlaneStack:
    """View of a (Y, X) array as a (1, Y, X) stack of one plane."""

    def __init__(self, array: Any) -> None:
        self.array = self.stored = array
        self.shape = (1, *array.shape)
        self.dtype = array.dtype
        self.ndim = 3

    def __getitem__(self, key: slice) -> np.ndarray:
        return np.asarray(self.array[:])[None]

    def __setitem__(self, key: slice, value: np.ndarray) -> None:
        self.array[:] = value[0]


def as_stack(array: Any) -> Any:
    """Return an image as a stack of one plane; volumes and None are unchanged."""
    return SinglePlaneStack(array) if array is not None and array.ndim == 2 else array


def prepare(
    volume: Volume,
    config: PorosityConfig,
    mask: ArrayLike | None,
    deviation: Deviation | None,
    target: Any,
    keep_labels: bool,
    should_stop: ShouldStop,
    journal: LabellingJournal | None,
    pool: SlabPool | None = None,
) -> tuple[PorosityRun, list[str]]:
    """Check the arguments and plan the slabs, before any voxel is read."""
    _check_arrays(volume, config, mask, deviation, target)
    warnings = []
    flat = is_flat(volume)
    if flat and len(volume.shape) == 3:
        warnings.append(
            "There is only one slice, so it is measured as an image (areas, pores per "
            "mm²)."
        )
    source = as_stack(volume.data)
    if config.hysteresis is not None and pool is not None:
        pool = None
        warnings.append("With hysteresis, a single process labels the pores.")
    has_interval = deviation is not None
    deviations = None if deviation is None else deviation.data
    companions = [each for each in (mask, deviations) if each is not None]
    free, held = available_bytes(config), 0
    processes = 1 if pool is None else pool.per_host + 1
    if config.memory is not None:
        least = min_bytes(source, has_interval=has_interval, companions=companions)
        free = max(0, free - processes * least)
    if config.sample_mask != "none" and mask is None:
        held += sample_mask_bytes(volume.shape)
        if config.memory is None:
            check_sample_mask_memory(volume.shape, free, volume.name)
    if config.graph:
        budget = None if config.memory is None else available_bytes(config)
        check_graph_memory(volume.shape, free, volume.name, budget)
    if target is None and keep_labels:
        needed = 4 * math.prod(volume.shape)
        if needed + held <= free:
            target = np.zeros(volume.shape, np.uint32)
        else:
            warnings.append(
                f"No label image was made: it needs {format_enough(needed + held)} of "
                f"memory, but {format_available(free)} is free. Give a file to which "
                "the labels can be written."
            )
    if isinstance(target, np.ndarray):
        held += target.nbytes
    plan = plan_slabs(
        config,
        source,
        as_stack(target),
        held=held,
        has_interval=has_interval,
        name=volume.name,
        companions=companions,
        processes=processes,
    )
    warnings += plan.warnings
    run = PorosityRun(
        plan,
        volume.name,
        config,
        geometry_of(volume),
        as_stack(mask),
        as_stack(target),
        should_stop,
        journal,
        sample_from=config.sample_mask if mask is None else "own",
    )
    if not flat:
        geometry = run.geometry
        run.overview = OverviewBuilder(run.shape, geometry.voxel_size, geometry.unit)
        run.pool = pool
    return run, warnings


def _check_arrays(
    volume: Volume,
    config: PorosityConfig,
    mask: ArrayLike | None,
    deviation: Deviation | None,
    target: Any,
) -> None:
    """Raise `VolumeError` for arrays that do not fit the volume or the settings."""
    if config.hysteresis is not None and deviation is not None:
        raise VolumeError(
            "The porosity interval cannot be measured with hysteresis. Turn off "
            "hysteresis, or omit the standard deviations.",
            fields=["hysteresis"],
        )
    check_real(volume.dtype, volume.name)
    if 0 in volume.shape:
        raise VolumeError(f"{volume.name!r} is empty (shape {volume.shape}).")
    deviations = None if deviation is None else deviation.data
    for word, array in (
        ("mask", mask),
        ("deviation", deviations),
        ("label image", target),
    ):
        if array is not None and tuple(array.shape) != volume.shape:
            raise VolumeError(
                f"The {word} of {volume.name!r} has shape {tuple(array.shape)}, but "
                f"the volume has {volume.shape}. Use one of the same shape."
            )
    if target is not None and (
        np.dtype(target.dtype).kind not in "iu" or np.dtype(target.dtype).itemsize < 4
    ):
        raise VolumeError(
            f"Labels do not fit into type {target.dtype}; use uint32 or int32."
        )


def is_flat(volume: Volume) -> bool:
    """Whether a volume is one image, with or without an axis Z."""
    return volume.spatial_shape[:-2] in ((), (1,))


def geometry_of(volume: Volume) -> Geometry:
    """Return voxel size and origin along Z, Y and X; an image is one voxel thick."""
    flat = is_flat(volume)
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
