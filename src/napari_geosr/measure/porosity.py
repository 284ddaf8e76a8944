"""Measure the porosity of a volume: the engine behind dock, command and function."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.core.errors import VolumeError
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
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.envelope import envelope_steps
from napari_geosr.measure.histogram import (
    GreyHistogram,
    histogram_steps,
)
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.preparation import (
    PlaneAsStack,
    PorosityRun,
    as_stack,
    prepare_run,
)
from napari_geosr.measure.reliability.noise_check import (
    NoiseCheck,
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
from napari_geosr.measure.sums import Pores, Totals
from napari_geosr.measure.table import pore_table


@dataclass
class _SweepProgress:
    total: int
    done: int = 0

    def step(self) -> BlockDone:
        """Count one block as done."""
        self.done += 1
        return BlockDone(self.done, self.total)


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
    run = prepare_run(
        volume, config, mask, deviation, labels_target, keep_labels, should_stop
    )
    for message in run.warnings:
        yield Warned(message=message)
    sweeps = 2 + (run.target is not None) + (deviation is not None)
    progress = _SweepProgress(len(run.slabs) * sweeps)
    histogram, threshold = yield from _segment(run, progress)
    for message in remarks(histogram, config, threshold, volume.name):
        yield run.warned(message)
    noise = yield from noise_check_steps(
        volume,
        histogram,
        threshold,
        config.phase,
        warnings=run.warnings,
        should_stop=should_stop,
    )
    run.check("measuring the noise")
    around = shifted_thresholds(histogram, threshold)
    raw = yield from _label(run, threshold, around, progress)
    pore_count, counts = len(raw.rows), run.counts
    for message in _pore_remarks(run, raw, noise):
        yield run.warned(message)
    if run.target is not None:
        yield from _renumber(run, raw, progress)
    band = None
    if deviation is not None:
        band = yield from _find_band(run, deviation, threshold, pore_count, progress)
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
        band=band,
    )
    return build_report(
        totals,
        config,
        name=volume.name,
        shape=volume.spatial_shape,
        grey=histogram,
        labels=run.target.array if isinstance(run.target, PlaneAsStack) else run.target,
        warnings=tuple(run.warnings),
        noise=noise,
    )


def _segment(
    run: PorosityRun, progress: _SweepProgress
) -> Generator[Step, None, tuple[GreyHistogram, float]]:
    """Histogram and threshold; finds the automatic sample mask on the way."""
    yield StageStarted(0, progress.total, message="Reading the grey values")
    histogram = yield from _histogram(run, progress)
    dtype = np.dtype(run.source.dtype)
    threshold = threshold_of(histogram, run.config, dtype, name=run.name)
    if run.config.sample_mask == "auto" and run.mask is None:
        run.mask, fit = yield from _envelope(run, threshold)
        for message in envelope_remarks(fit, run.name):
            yield run.warned(message)
        histogram, threshold = yield from _threshold_inside(run, histogram, threshold)
    return histogram, threshold


def _histogram(
    run: PorosityRun, progress: _SweepProgress
) -> Generator[Step, None, GreyHistogram]:
    steps = histogram_steps(
        run.source,
        thickness=run.thickness,
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
    run: PorosityRun, whole: GreyHistogram, threshold: float
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
        thickness=run.thickness,
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
    run: PorosityRun, threshold: float
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
    closing, stop = run.config.mask_closing, run.should_stop
    steps = envelope_steps(solid, closing, name=run.name, should_stop=stop)
    mask = yield from steps
    yield StageStarted(message="Checking the sample mask")
    fit = yield from envelope_fit_steps(
        solid, mask, closing, name=run.name, should_stop=stop
    )
    return mask, fit


def _labeller(run: PorosityRun) -> SlabLabeller:
    return SlabLabeller(
        run.shape,
        run.geometry.voxel_size,
        run.config.connectivity,
        flat=run.geometry.flat,
        smallest=run.config.min_voxels,
    )


def _label(
    run: PorosityRun,
    threshold: float,
    band: tuple[float, float],
    progress: _SweepProgress,
) -> Generator[Step, None, RawTable]:
    yield StageStarted(progress.done, progress.total, message="Labelling the pores")
    labeller = _labeller(run)
    for slab in run.slabs:
        run.check("labelling the pores")
        pores, sample = run.pores_and_sample(slab, threshold, band)
        labels, offset = labeller.add(pores, sample)
        run.offsets.append(offset)
        if run.target is not None:
            run.target[slab] = labels
        yield progress.step()
    run.check("summing up the pores")
    raw = labeller.finish()
    if run.counts.sample == 0:
        raise VolumeError(
            f"The sample mask of {run.name!r} is empty, so there is nothing to "
            "measure. Mark the sample with non-zero values, or use no mask."
        )
    return raw


def _pore_remarks(
    run: PorosityRun, raw: RawTable, noise: NoiseCheck | None
) -> list[str]:
    """What people should know of the pores that were found: noise, specks."""
    voxels, counts = raw.rows[:, column.COUNT], run.counts
    least = run.config.min_voxels
    return [
        *noise_remarks(noise, counts.pores / counts.sample, run.name),
        *speck_remarks(voxels, counts.sample, least, run.name, raw.small),
    ]


def _find_band(
    run: PorosityRun,
    deviation: Deviation,
    threshold: float,
    pore_count: int,
    progress: _SweepProgress,
) -> Generator[Step, None, Band]:
    yield StageStarted(progress.done, progress.total, message="Finding the band")
    counter = BandCounter(
        run.source,
        replace(deviation, data=as_stack(deviation.data)),
        threshold,
        run.config.phase,
        lambda: _labeller(run),
    )
    for slab in run.slabs:
        run.check("finding the band")
        counter.add(slab, run.sample(slab, np.asarray(run.source[slab])))
        yield progress.step()
    porosity = run.counts.pores / run.counts.sample
    band = counter.result(porosity, pore_count, run.config.min_voxels)
    if band.missing_voxels:
        yield run.warned(
            f"{band.missing_voxels} voxels of {run.name!r} have no standard "
            "deviation: the band treats them as exact."
        )
    return band


def _is_view(block: np.ndarray, target: object) -> bool:
    return isinstance(target, np.ndarray) and np.shares_memory(block, target)


def _renumber(
    run: PorosityRun, raw: RawTable, progress: _SweepProgress
) -> Generator[Step, None, None]:
    """Renumber the counted pores 1..n; all others become 0."""
    from napari_geosr.measure.kernels import joining

    yield StageStarted(progress.done, progress.total, message="Numbering the pores")
    for slab, offset in zip(run.slabs, run.offsets, strict=True):
        run.check("numbering the pores")
        block = np.ascontiguousarray(run.target[slab], dtype=np.uint32)
        joining.relabel(block.reshape(-1), raw.lookup[offset:])
        if not _is_view(block, run.target):
            run.target[slab] = block
        yield progress.step()
