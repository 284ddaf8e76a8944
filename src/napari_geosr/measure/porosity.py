"""Measure the porosity of a volume: the engine behind dock, command and function."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    Warned,
    never_stop,
    run_to_end,
)
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.band import Band, BandCounter, Deviation
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.budget import (
    SlabPlan,
    available_bytes,
    least_bytes,
    plan_slabs,
)
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.envelope import (
    check_envelope_memory,
    envelope_bytes,
    envelope_steps,
)
from napari_geosr.measure.histogram import (
    GreyHistogram,
    blocks_along_z,
    check_real,
    histogram_steps,
)
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.reliability.noise_check import (
    noise_check_steps,
    noise_remarks,
)
from napari_geosr.measure.reliability.sample_envelope import (
    EnvelopeFit,
    envelope_fit_steps,
    envelope_remarks,
)
from napari_geosr.measure.remarks import has_one_phase, remarks, speck_remarks
from napari_geosr.measure.report import PorosityReport, build_report
from napari_geosr.measure.segment import phase_mask, shifted_thresholds, threshold_of
from napari_geosr.measure.sums import Geometry, Pores, Totals
from napari_geosr.measure.table import pore_table


@dataclass
class SampleCounts:
    """Voxel counts besides pores."""

    sample: int = 0
    pores: int = 0
    at_low: int = 0
    at_high: int = 0


@dataclass
class _SweepProgress:
    total: int
    done: int = 0

    def step(self) -> BlockDone:
        """Count one block as done."""
        self.done += 1
        return BlockDone(self.done, self.total)


@dataclass
class _PorosityRun:
    """State shared by the stages of one measurement."""

    plan: SlabPlan
    name: str
    config: PorosityConfig
    geometry: Geometry
    mask: Any
    target: Any
    should_stop: ShouldStop
    counts: SampleCounts = field(default_factory=SampleCounts)
    offsets: list[int] = field(default_factory=list)

    @property
    def source(self) -> Any:
        """The grey values."""
        return self.plan.source

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, Y and X."""
        z, y, x = (int(n) for n in self.source.shape)
        return z, y, x

    @property
    def slabs(self) -> list[slice]:
        """The slabs along Z, in order."""
        return blocks_along_z(self.shape, self.plan.thickness)

    def check(self, doing: str) -> None:
        """Raise `Cancelled` if the measurement is to stop, naming the stage."""
        if self.should_stop():
            raise Cancelled(f"Measuring {self.name!r} was cancelled while {doing}.")

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


def porosity_steps(
    volume: Volume,
    config: PorosityConfig | None = None,
    *,
    mask: ArrayLike | None = None,
    deviation: Deviation | None = None,
    labels_target: object = None,
    keep_labels: bool = True,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PorosityReport]:
    """Segment, label and measure the pores of `volume`.

    Works by slabs of planes whatever the array is (numpy, dask, zarr, memory map), so
    that a run can be watched and stopped, and memory stays bounded; the result does
    not depend on the slabs.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX (others only with length one).
    config : PorosityConfig, optional
    mask : ArrayLike of the volume's shape, optional
        Non-zero where the sample is; goes before ``config.sample_mask``.
    deviation : Deviation, optional
        How sure the restoration that made the volume was: gives the porosity a band.
    labels_target : writable array-like of the volume's shape, optional
        Numpy or zarr array of an integer type of 32 bits or more; filled with labels.
    keep_labels : bool
        Make labels in memory if there is no `labels_target`; given up with a warning
        if they would take more than half of the free memory.
    should_stop : callable
        Checked at every slab.

    Yields
    ------
    Step
        `StageStarted`, `Warned` and `BlockDone`.

    Returns
    -------
    PorosityReport

    Raises
    ------
    VolumeError
        If the volume cannot be measured: no or one grey value, wrong axes, empty mask.
    Cancelled
        If `should_stop` says so.

    Notes
    -----
    NaN and infinite voxels belong neither to pores nor to the sample; they are counted.
    Pores smaller than ``config.min_voxels`` are in the porosity, but not in counts,
    table and labels. Euler numbers are those of the pores with nothing around the
    volume (as scikit-image's); surface areas leave out what the border cuts. A pore is
    open if it has a face at the border of the volume or of the sample.
    """
    config = config or PorosityConfig()
    volume = volume.select()
    run, warnings = _prepare(
        volume, config, mask, deviation, labels_target, keep_labels, should_stop
    )
    for message in warnings:
        yield Warned(message=message)
    keeps = run.target is not None
    sweeps = 2 + keeps + (deviation is not None)
    progress = _SweepProgress(len(run.slabs) * sweeps)
    yield StageStarted(0, progress.total, message="Reading the grey values")
    histogram = yield from _histogram(run, progress)
    dtype = np.dtype(run.source.dtype)
    threshold = threshold_of(histogram, config, dtype, name=volume.name)
    if config.sample_mask == "auto" and mask is None:
        run.mask, fit = yield from _envelope(run, threshold)
        for message in envelope_remarks(fit, volume.name):
            warnings.append(message)
            yield Warned(message=message)
        histogram, threshold = yield from _threshold_inside(run, histogram, threshold)
    for message in remarks(histogram, config, threshold, volume.name):
        warnings.append(message)
        yield Warned(message=message)
    noise = yield from noise_check_steps(
        volume, histogram, threshold, config.phase, should_stop=should_stop
    )
    run.check("measuring the noise")
    band = shifted_thresholds(histogram, threshold)
    yield StageStarted(progress.done, progress.total, message="Labelling the pores")
    raw = yield from _label(run, threshold, band, progress)
    if run.counts.sample == 0:
        raise VolumeError(
            f"The sample mask of {volume.name!r} is empty, so there is nothing to "
            "measure. Mark the sample with non-zero values, or use no mask."
        )
    voxels, counts = raw.rows[:, column.COUNT], run.counts
    for message in (
        *noise_remarks(noise, counts.pores / counts.sample, volume.name),
        *speck_remarks(
            voxels, counts.sample, config.min_voxels, volume.name, raw.small
        ),
    ):
        warnings.append(message)
        yield Warned(message=message)
    if keeps:
        yield StageStarted(progress.done, progress.total, message="Numbering the pores")
        yield from _renumber(run, raw, progress)
    found = None
    if deviation is not None:
        yield StageStarted(progress.done, progress.total, message="Finding the band")
        found = yield from _find_band(run, deviation, threshold, len(voxels), progress)
        if found.missing_voxels:
            warnings.append(
                f"{found.missing_voxels} voxels of {volume.name!r} have no standard "
                "deviation: the band treats them as exact."
            )
            yield Warned(message=warnings[-1])
    labels = run.target.array if isinstance(run.target, _AsStack) else run.target
    pores = Pores.of(raw, run.geometry)
    totals = Totals(
        pores,
        raw.small,
        pore_table(pores),
        sample_voxels=counts.sample,
        pore_voxels=counts.pores,
        pore_voxels_low=counts.at_low,
        pore_voxels_high=counts.at_high,
        nonfinite_voxels=histogram.n_nonfinite,
        threshold=threshold,
        band=found,
    )
    return build_report(
        totals,
        config,
        name=volume.name,
        shape=volume.spatial_shape,
        grey=histogram,
        labels=labels,
        warnings=tuple(warnings),
        noise=noise,
    )


class _AsStack:
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


def _as_stack(array: Any) -> Any:
    return _AsStack(array) if array is not None and array.ndim == 2 else array


def _prepare(
    volume: Volume,
    config: PorosityConfig,
    mask: Any,
    deviation: Deviation | None,
    target: Any,
    keep_labels: bool,
    should_stop: ShouldStop,
) -> tuple[_PorosityRun, list[str]]:
    """Check everything that can be checked before a voxel is read."""
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
    warnings = []
    flat = volume.spatial_shape[:-2] in ((), (1,))
    if flat and len(volume.shape) == 3:
        warnings.append("One slice only: measured as an image (areas, pores per mm²).")
    source = _as_stack(volume.data)
    has_band = deviation is not None
    free, held = available_bytes(config), 0
    if config.memory is not None:
        free = max(0, free - least_bytes(source, has_band=has_band))
    if config.sample_mask == "auto" and mask is None:
        held += envelope_bytes(volume.shape)
        if config.memory is None:
            check_envelope_memory(volume.shape, free, volume.name)
    if target is None and keep_labels:
        needed = 4 * math.prod(volume.shape)
        if needed + held <= free:
            target = np.zeros(volume.shape, np.uint32)
        else:
            warnings.append(
                f"No label image was made: it needs {format_bytes(needed)} of memory, "
                f"but {format_bytes(free)} are free. Give a file to write it to."
            )
    size, origin = volume.voxel_size, volume.origin
    if len(size) == 2:
        size, origin = (1.0, *size), (0.0, *origin)
    if flat:
        size = (1.0, *size[1:])
    geometry = Geometry(
        (size[0], size[1], size[2]),
        (origin[0], origin[1], origin[2]),
        volume.unit,
        flat,
    )
    if isinstance(target, np.ndarray):
        held += target.nbytes
    plan = plan_slabs(
        config,
        source,
        _as_stack(target),
        held=held,
        has_band=has_band,
        name=volume.name,
    )
    run = _PorosityRun(
        plan,
        volume.name,
        config,
        geometry,
        _as_stack(mask),
        _as_stack(target),
        should_stop,
    )
    return run, warnings


def _histogram(
    run: _PorosityRun, progress: _SweepProgress
) -> Generator[Step, None, GreyHistogram]:
    steps = histogram_steps(
        run.source,
        thickness=run.plan.standard,
        piece=run.plan.thickness,
        name=run.name,
        should_stop=run.should_stop,
        may_be_constant=isinstance(run.config.threshold, float),
        mask=run.mask,
    )
    with StepIterator(steps) as iterator:
        for _ in iterator:
            if progress.done < len(run.slabs):  # a second sweep is seldom, not planned
                yield progress.step()
    return iterator.result


def _threshold_inside(
    run: _PorosityRun, whole: GreyHistogram, threshold: float
) -> Generator[Step, None, tuple[GreyHistogram, float]]:
    """Histogram and threshold from the voxels of the automatic sample mask alone.

    What lies around the sample (padding, a holder) says nothing of its pores. Only
    where the inside shows one phase, the threshold that found the sample stays: a
    dense body in air has no pores, however its noise is split.
    """
    if isinstance(run.config.threshold, float):
        return whole, threshold
    yield StageStarted(message="Reading the grey values of the sample")
    steps = histogram_steps(
        run.source,
        thickness=run.plan.standard,
        piece=run.plan.thickness,
        name=run.name,
        should_stop=run.should_stop,
        mask=run.mask,
    )
    dtype = np.dtype(run.source.dtype)
    try:
        inside = run_to_end(steps)
        found = threshold_of(inside, run.config, dtype, name=run.name)
    except VolumeError:  # too few grey values inside
        return whole, threshold
    if has_one_phase(inside, found):
        return whole, threshold
    inside.n_nonfinite = whole.n_nonfinite
    return inside, found


def _envelope(
    run: _PorosityRun, threshold: float
) -> Generator[Step, None, tuple[np.ndarray, EnvelopeFit]]:
    """The automatic sample mask, and how well it outlines the material."""
    yield StageStarted(message="Finding the sample")
    solid = np.zeros(run.shape, bool)
    for slab in run.slabs:
        run.check("finding the sample")
        block = np.asarray(run.source[slab])
        solid[slab] = ~phase_mask(block, threshold, run.config.phase)
        if block.dtype.kind == "f":
            solid[slab] &= np.isfinite(block)
    closing = run.config.mask_closing
    how: Any = {"name": run.name, "should_stop": run.should_stop}
    how["thickness"] = run.plan.thickness
    mask = yield from envelope_steps(solid, closing, **how)
    yield StageStarted(message="Checking the sample mask")
    fit = yield from envelope_fit_steps(solid, mask, closing, **how)
    return mask, fit


def _label(
    run: _PorosityRun,
    threshold: float,
    band: tuple[float, float],
    progress: _SweepProgress,
) -> Generator[Step, None, RawTable]:
    labeller = SlabLabeller(
        run.shape,
        run.geometry.voxel_size,
        run.config.connectivity,
        flat=run.geometry.flat,
        smallest=run.config.min_voxels,
    )
    for slab in run.slabs:
        run.check("labelling the pores")
        pores, sample = run.pores_and_sample(slab, threshold, band)
        labels, offset = labeller.add(pores, sample)
        run.offsets.append(offset)
        if run.target is not None:
            run.target[slab] = labels
        yield progress.step()
    run.check("summing up the pores")
    return labeller.finish()


def _find_band(
    run: _PorosityRun,
    deviation: Deviation,
    threshold: float,
    pore_count: int,
    progress: _SweepProgress,
) -> Generator[Step, None, Band]:
    counter = BandCounter(
        run.source,
        replace(deviation, data=_as_stack(deviation.data)),
        threshold,
        run.config.phase,
        lambda: SlabLabeller(
            run.shape,
            run.geometry.voxel_size,
            run.config.connectivity,
            flat=run.geometry.flat,
            smallest=run.config.min_voxels,
        ),
    )
    for slab in run.slabs:
        run.check("finding the band")
        counter.add(slab, run.sample(slab, np.asarray(run.source[slab])))
        yield progress.step()
    porosity = run.counts.pores / run.counts.sample
    return counter.result(porosity, pore_count, run.config.min_voxels)


def _is_view(block: np.ndarray, target: object) -> bool:
    return isinstance(target, np.ndarray) and np.shares_memory(block, target)


def _renumber(
    run: _PorosityRun, raw: RawTable, progress: _SweepProgress
) -> Generator[Step, None, None]:
    """Renumber the counted pores 1..n; all others become 0."""
    from napari_geosr.measure.kernels import joining

    for slab, offset in zip(run.slabs, run.offsets, strict=True):
        run.check("numbering the pores")
        block = np.ascontiguousarray(run.target[slab], dtype=np.uint32)
        joining.relabel(block.reshape(-1), raw.lookup[offset:])
        if not _is_view(block, run.target):
            run.target[slab] = block
        yield progress.step()
