"""Measures the porosity of a volume, for the dock, the command line and Python."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.reading import reading_of
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.lazy import cache_limited
from napari_geosr.measure.blocks import RawTable
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.graph import NetworkGraph
from napari_geosr.measure.graph.steps import graph_steps
from napari_geosr.measure.groups import Group
from napari_geosr.measure.groups.missing import missing_remarks
from napari_geosr.measure.histogram import (
    GreyHistogram,
    histogram_steps,
)
from napari_geosr.measure.interval import (
    Deviation,
)
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.overview import Overview
from napari_geosr.measure.phases.findings import Morphometry
from napari_geosr.measure.porosity_run import (
    LabellingJournal,
    PorosityRun,
    SinglePlaneStack,
    SweepProgress,
    prepare,
)
from napari_geosr.measure.reliability.mask_fit import (
    SampleMaskFit,
    sample_mask_fit_steps,
    sample_mask_remarks,
)
from napari_geosr.measure.reliability.noise_check import (
    NoiseCheck,
    noise_check_steps,
    noise_remarks,
)
from napari_geosr.measure.remarks import remarks, speck_remarks
from napari_geosr.measure.reports.report import PorosityReport, build_report
from napari_geosr.measure.reports.table import column_units, pore_table
from napari_geosr.measure.sample.found import (
    FoundSample,
    SampleSearch,
    found_sample_steps,
    mean_of,
)
from napari_geosr.measure.segment import phase_mask, shifted_thresholds, threshold_of
from napari_geosr.measure.slabs.labelling import (
    interval_steps,
    label_steps,
    number_steps,
)
from napari_geosr.measure.slabs.sharing import SlabPool
from napari_geosr.measure.sums import Pores, SweepTotals
from napari_geosr.measure.thresholds.stages import (
    CoveredArray,
    band_steps,
    hysteresis_steps,
    level_grey_values,
    phase_statistics_steps,
)


def porosity_steps(
    volume: Volume,
    config: PorosityConfig | None = None,
    *,
    mask: ArrayLike | None = None,
    deviation: Deviation | None = None,
    labels_target: object = None,
    keep_labels: bool = True,
    journal: LabellingJournal | None = None,
    pool: SlabPool | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PorosityReport]:
    """Segment, label and measure the pores of `volume`.

    The volume (numpy, dask, zarr or memory-mapped) is processed in slabs of planes, so
    that a run reports progress, can be stopped, and needs limited memory. The result
    does not depend on how the volume is divided into slabs.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX (others only with length one).
    config : PorosityConfig, optional
    mask : ArrayLike of the volume's shape, optional
        Sample mask, non-zero inside; takes precedence over ``config.sample_mask``.
    deviation : Deviation, optional
        Standard deviations of the restored voxels, for an interval of the porosity.
    labels_target : writable array-like of the volume's shape, optional
        Numpy or zarr array of an integer type of 32 bits or more; filled with labels.
    keep_labels : bool
        Keep labels in memory if there is no `labels_target`; if they do not fit into
        the memory budget (by default, half of the free memory), they are omitted with a
        warning.
    journal : LabellingJournal, optional
        Receives the state of the labelling from time to time and when the run is
        stopped.
    pool : SlabPool, optional
        Processes that share the slabs. They must be able to open `volume`, `mask` and
        `deviation`.
    should_stop : callable
        Called for every slab.

    Yields
    ------
    Step
        `StageStarted`, `WarningIssued` and `BlockDone`.

    Returns
    -------
    PorosityReport

    Raises
    ------
    VolumeError
        If the volume cannot be measured because it has only one grey value or none,
        wrong axes, or an empty mask.
    Cancelled
        If `should_stop` returns True.

    Notes
    -----
    NaN and infinite voxels belong neither to pores nor to the sample; their number is
    reported. Pores smaller than ``config.min_voxels`` contribute to the porosity, but
    are not counted, labelled or listed in the table. For Euler numbers, the space
    outside the volume does not count as pore (as in scikit-image); surface areas
    exclude faces on the border. A pore is open if it has a face at the border of the
    volume or sample.
    """
    config = config or PorosityConfig()
    volume = volume.select()
    run, warnings = prepare(
        volume,
        config,
        mask,
        deviation,
        labels_target,
        keep_labels,
        should_stop,
        journal,
        pool,
    )
    yield from (WarningIssued(message=message) for message in warnings)
    with ExitStack() as caches:
        for array, nbytes in run.plan.caches:
            caches.enter_context(cache_limited(array, nbytes))
        report = yield from _measure(run, volume, config, deviation, warnings)
    is_automatic = config.sample_mask != "none" and mask is None
    kept = run.mask if is_automatic and keep_labels else None
    return report if kept is None else replace(report, sample_mask=kept)


def _measure(
    run: PorosityRun,
    volume: Volume,
    config: PorosityConfig,
    deviation: Deviation | None,
    warnings: list[str],
) -> Generator[Step, None, PorosityReport]:
    """Run all stages of a prepared measurement."""
    if config.group is not None:
        Group(config.group).check(column_units(run.geometry, config.statistics))
    sweeps = 2 + (run.target is not None) + (deviation is not None)
    progress = SweepProgress(len(run.slabs) * sweeps)
    histogram, threshold = yield from segment_steps(run, warnings, progress)
    for message in remarks(histogram, config, threshold, volume.name, searched(run)):
        yield _warned(message, warnings)
    noise = yield from noise_check_steps(
        volume,
        histogram,
        threshold,
        config.phase,
        warnings=warnings,
        should_stop=run.should_stop,
    )
    run.check("measuring the noise")
    limits = shifted_thresholds(histogram, threshold)
    if config.hysteresis is not None:
        yield from hysteresis_steps(run, histogram, threshold, limits)
    raw = yield from label_steps(run, threshold, limits, progress)
    if config.hysteresis is not None:
        run.counts.at_low, run.counts.at_high = run.cored_at_limits
    at_low, at_high = run.counts.at_limits
    pore_count, counts = len(raw.rows), run.counts
    for message in _pore_remarks(run, raw, noise):
        yield _warned(message, warnings)
    if run.target is not None:
        yield from number_steps(run, raw, threshold, progress)
    interval = None
    if deviation is not None:
        interval = yield from interval_steps(
            run, deviation, threshold, pore_count, progress, warnings
        )
    graph = (yield from _trace_graph(run, threshold)) if config.graph else None
    pores = Pores.of(raw, run.geometry)
    totals = SweepTotals(
        pores,
        raw.small,
        pore_table(pores),
        sample_voxels=counts.sample,
        pore_voxels=counts.pores,
        pore_voxels_low=at_low,
        pore_voxels_high=at_high,
        nonfinite_voxels=histogram.n_nonfinite,
        threshold=threshold,
        interval=interval,
        graph=graph,
    )
    morphometry: dict[str, Morphometry] = {}
    if config.statistics:
        morphometry = yield from _morphometry(run, totals, limits, warnings)
    report = build_report(
        totals,
        config,
        name=volume.name,
        shape=volume.spatial_shape,
        grey=histogram,
        labels=run.target.array
        if isinstance(run.target, SinglePlaneStack)
        else run.target,
        warnings=tuple(warnings),
        noise=noise,
        morphometry=morphometry,
        overview=_overview(run, threshold),
        reading=reading_of(volume.metadata),
    )
    for message in missing_remarks(report.group, flat=report.is_flat):
        yield _warned(message, warnings)
    scope = run.threshold_scope
    return replace(report, threshold_scope=scope, warnings=tuple(warnings))


def _overview(run: PorosityRun, threshold: float) -> Overview | None:
    """Return the grid for the picture of the phases; read any planes not yet read."""
    if run.overview is None:
        return None
    for slab in run.overview.missing():
        run.check("drawing the phases")
        run.overview.add(slab, *run.pores(slab, threshold)[1:])
    return run.overview.finish()


def _morphometry(
    run: PorosityRun,
    totals: SweepTotals,
    limits: tuple[float, float],
    warnings: list[str],
) -> Generator[Step, None, dict[str, Morphometry]]:
    """Measure the requested statistics of both phases, and their bands."""
    with StepIterator(phase_statistics_steps(run, totals)) as iterator:
        for step in iterator:
            if isinstance(step, WarningIssued):
                warnings.append(step.message)
            yield step
    measured, found = iterator.result
    for one in found.values():
        totals.table.update(one.columns)
    if run.config.bands:
        measured = yield from band_steps(run, totals, limits, measured)
    return measured


def _warned(message: str, warnings: list[str]) -> WarningIssued:
    """Add a warning to those of the report, and return it as a step."""
    warnings.append(message)
    return WarningIssued(message=message)


def _trace_graph(
    run: PorosityRun, threshold: float
) -> Generator[Step, None, NetworkGraph]:
    """Trace the graph of the pores."""
    return graph_steps(
        lambda slab: run.graph_pores(slab, threshold),
        run.slabs,
        run.shape,
        run.geometry,
        run.config.min_voxels,
    )


def pore_mask_steps(
    volume: Volume,
    config: PorosityConfig,
    mask: ArrayLike | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, AnyArray]:
    """Find all pores as a measurement does, before small ones are removed.

    Returns
    -------
    ndarray of bool
        True in pores; one value per voxel of the volume.

    Raises
    ------
    VolumeError, Cancelled
        As in `porosity_steps`.
    """
    run, _ = prepare(volume, config, mask, None, None, False, should_stop, None)
    histogram, threshold = yield from segment_steps(
        run, [], SweepProgress(2 * len(run.slabs))
    )
    if config.hysteresis is not None:
        limits = shifted_thresholds(histogram, threshold)
        yield from hysteresis_steps(run, histogram, threshold, limits)
    found = np.empty(run.shape, bool)
    for slab in run.slabs:
        run.check("finding the pores")
        found[slab] = run.pores(slab, threshold)[1]
        yield Step()
    return found.reshape(volume.spatial_shape)


def searched(run: PorosityRun) -> int | None:
    """Return the number of voxels of the volume, or None if a mask was given.

    Voxels without a value are counted inside a given mask, but in the whole volume if
    the sample is found.
    """
    return None if run.threshold_scope == "mask" else math.prod(run.shape)


def segment_steps(
    run: PorosityRun, warnings: list[str], progress: SweepProgress
) -> Generator[Step, None, tuple[GreyHistogram, float]]:
    """Find the threshold and, if requested, the automatic sample mask."""
    yield StageStarted(0, progress.total, message="Reading the grey values")
    histogram = yield from _histogram(run, progress)
    dtype = np.dtype(run.source.dtype)
    threshold = threshold_of(histogram, run.config, dtype, name=run.name)
    found = None
    run.threshold_scope = "volume" if run.mask is None else "mask"
    if run.config.sample_mask != "none" and run.mask is None:
        found = yield from _found_sample(run, histogram, threshold)
        histogram, threshold = found.histogram, found.threshold
        run.threshold_scope = found.scope
        for message in found.remarks(run.name):
            yield _warned(message, warnings)
        if run.config.sample_mask == "auto":
            fit = yield from _mask_fit(run, found)
            for message in sample_mask_remarks(fit, run.name):
                yield _warned(message, warnings)
    if run.config.local_window is not None:
        level_grey_values(run, mean_of(histogram) if found is None else found.level)
        yield StageStarted(message="Reading the local mean of the grey values")
        nonfinite = histogram.n_nonfinite
        histogram = yield from _histogram(run, progress)
        histogram.n_nonfinite = nonfinite
        dtype = np.dtype(run.source.dtype)
        threshold = threshold_of(histogram, run.config, dtype, name=run.name)
        if found is not None:
            run.threshold_scope = "sample" if run.inner is None else "inner"
            kept = found.levelled_threshold(histogram, threshold)
            if kept != threshold:
                threshold, run.threshold_scope = kept, "volume"
    return histogram, threshold


def _pore_remarks(
    run: PorosityRun, raw: RawTable, noise: NoiseCheck | None
) -> Iterator[str]:
    """Yield warnings if no pores are left, noise is strong, or there are many specks.

    Raises
    ------
    VolumeError
        If there is no sample.
    """
    counts = run.counts
    if counts.sample == 0:
        raise VolumeError(
            f"The sample mask of {run.name!r} is empty, so there is nothing to "
            "measure. Mark the sample with non-zero values, or use no mask."
        )
    if run.config.hysteresis is not None and not counts.pores:
        yield (
            f"No voxel of {run.name!r} is far enough beyond the threshold for a "
            f"hysteresis of {run.config.hysteresis:g}, so no pores are kept. Choose a "
            "smaller value."
        )
    yield from noise_remarks(noise, counts.pores / counts.sample, run.name)
    voxels = raw.rows[:, column.COUNT]
    yield from speck_remarks(
        voxels, counts.sample, run.config.min_voxels, run.name, raw.small
    )


def _histogram(
    run: PorosityRun, progress: SweepProgress
) -> Generator[Step, None, GreyHistogram]:
    steps = histogram_steps(
        run.source,
        thickness=run.plan.standard,
        piece=run.plan.thickness,
        name=run.name,
        should_stop=run.should_stop,
        may_be_constant=isinstance(run.config.threshold, float),
        mask=run.mask if run.inner is None else run.inner,
    )
    with StepIterator(steps) as iterator:
        for _ in iterator:
            if progress.done < len(run.slabs):  # the total excludes second sweeps
                yield progress.step()
    return iterator.result


def _found_sample(
    run: PorosityRun, histogram: GreyHistogram, threshold: float
) -> Generator[Step, None, FoundSample]:
    """Find the sample mask, and the threshold of the phases inside."""
    search = SampleSearch(
        run.source,
        run.slabs,
        run.config,
        run.name,
        (run.plan.standard, run.plan.thickness),
        run.should_stop,
    )
    found = yield from found_sample_steps(search, histogram, threshold)
    run.mask, run.inner = found.mask, found.inner
    if found.covered is not None:
        source = CoveredArray(run.source, found.covered, found.solid_level)
        run.plan = replace(run.plan, source=source)
    return found


def _mask_fit(
    run: PorosityRun, found: FoundSample
) -> Generator[Step, None, SampleMaskFit]:
    """Check how well the automatic mask fits the material at the sample's threshold."""
    yield StageStarted(message="Checking the sample mask")

    def porosity_in(mask: np.ndarray) -> float:
        inside = 0
        for slab in run.slabs:
            run.check("checking the sample mask")
            block = np.asarray(run.source[slab])
            part = mask[slab] & ~phase_mask(block, found.threshold, run.config.phase)
            if block.dtype.kind == "f":
                part &= np.isfinite(block)
            inside += int(np.count_nonzero(part))
        return 1 - inside / max(1, int(np.count_nonzero(mask)))

    fit = yield from sample_mask_fit_steps(
        found.solid,
        found.mask,
        run.config.mask_closing,
        name=run.name,
        thickness=run.plan.thickness,
        porosity_in=porosity_in,
        should_stop=run.should_stop,
    )
    return fit
