"""Labels and numbers the pores slab by slab; computes the porosity interval."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import astuple, fields, replace

import numpy as np

from napari_geosr.core.errors import Cancelled, WorkerError
from napari_geosr.core.steps import StageStarted, Step, WarningIssued
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.interval import (
    Deviation,
    IntervalCounter,
    PorosityInterval,
    ShiftedPores,
)
from napari_geosr.measure.porosity_run import (
    PorosityRun,
    SweepProgress,
    as_stack,
)
from napari_geosr.measure.sample.counts import SampleCounts
from napari_geosr.measure.slabs.pool import (
    IntervalWork,
    LabelWork,
    NumberWork,
    number_again,
    planes_of,
    processed,
)


def label_steps(
    run: PorosityRun,
    threshold: float,
    limits: tuple[float, float],
    progress: SweepProgress,
) -> Generator[Step, None, RawTable]:
    """Label the pores and compute their sums; resume an interrupted run."""
    yield StageStarted(progress.done, progress.total, message="Labelling the pores")
    labeller = run.labeller()
    planned = len(run.slabs)
    _resume_labelling(run, labeller, threshold, limits)
    progress.total += len(run.slabs) - planned
    progress.done += len(run.resumed_ends)
    ends = list(run.resumed_ends)

    def save() -> None:
        """Save the state of the labelling to disk."""
        if run.journal is not None and ends:
            run.journal.save(
                {
                    **labeller.state(),
                    "thresholds": np.array([threshold, *limits]),
                    "counts": np.array(astuple(run.counts)),
                    "offsets": np.array(run.offsets),
                    "ends": np.array(ends),
                }
            )

    rest = run.slabs[len(ends) :]
    work = LabelWork(run, threshold, limits, labeller.rules)
    try:
        found_in_order = processed(run, work, planes_of(rest), "labelling the pores")
        for slab, found in zip(rest, found_in_order, strict=True):
            run.offsets.append(labeller.join(found.part))
            run.counts += found.counts
            if run.overview is not None:
                run.overview.take(found.shares)
            ends.append(slab.stop)
            if found.labels is not None:
                run.target[slab] = found.labels
            else:
                run.first_stored = len(ends)
            if run.journal is not None and run.journal.is_due():
                save()
            yield progress.step()
    except (Cancelled, WorkerError):
        save()
        raise
    run.check("summing up the pores")
    return labeller.finish()


def _resume_labelling(
    run: PorosityRun,
    labeller: SlabLabeller,
    threshold: float,
    limits: tuple[float, float],
) -> None:
    """Load the state of an interrupted run, if there is one."""
    state = None if run.journal is None else run.journal.load()
    if state is None or not np.array_equal(state["thresholds"], [threshold, *limits]):
        return
    if len(state["counts"]) != len(fields(SampleCounts)):  # from an earlier version
        return
    if labeller.restore(state):
        run.counts = SampleCounts(*state["counts"].tolist())
        run.offsets = state["offsets"].tolist()
        run.resumed_ends = state["ends"].tolist()
        run.first_stored = len(run.resumed_ends)


def interval_steps(
    run: PorosityRun,
    deviation: Deviation,
    threshold: float,
    pore_count: int,
    progress: SweepProgress,
    warnings: list[str],
) -> Generator[Step, None, PorosityInterval]:
    """Compute the porosity interval; warn about voxels without a deviation."""
    yield StageStarted(progress.done, progress.total, message="Computing the interval")
    shifted = ShiftedPores(
        run.source,
        replace(deviation, data=as_stack(deviation.data)),
        threshold,
        run.config.phase,
        run.labeller().rules,
    )
    counter = IntervalCounter(shifted, run.labeller)
    work = IntervalWork(run, threshold, shifted)
    items = planes_of(run.slabs)
    for part in processed(run, work, items, "computing the interval"):
        counter.join(part)
        yield progress.step()
    porosity = run.counts.pores / run.counts.sample
    interval = counter.result(porosity, pore_count, run.config.min_voxels)
    if interval.missing_voxels:
        warnings.append(
            f"{interval.missing_voxels} voxels of {run.name!r} have no standard "
            "deviation: the interval treats them as exact."
        )
        yield WarningIssued(message=warnings[-1])
    return interval


def _is_view(block: np.ndarray, target: object) -> bool:
    return isinstance(target, np.ndarray) and np.shares_memory(block, target)


def number_steps(
    run: PorosityRun, raw: RawTable, threshold: float, progress: SweepProgress
) -> Generator[Step, None, None]:
    """Renumber the counted pores 1..n and set all others to 0."""
    yield StageStarted(progress.done, progress.total, message="Numbering the pores")
    slabs, doing = run.slabs, "numbering the pores"
    ends = [*run.offsets[1:], len(raw.lookup) - 1]
    items = [
        (planes, raw.lookup[start : end + 1])
        for planes, start, end in zip(planes_of(slabs), run.offsets, ends, strict=True)
    ]
    # Labels that an earlier run or other processes did not store are computed again.
    work = NumberWork(run, threshold)
    for planes, block in processed(run, work, items[: run.first_stored], doing):
        run.target[slice(*planes)] = block
        yield progress.step()
    for planes, numbers in items[run.first_stored :]:
        run.check(doing)
        slab = slice(*planes)
        block = np.ascontiguousarray(run.target[slab], dtype=np.uint32)
        number_again(block, numbers)
        if not _is_view(block, run.target):
            run.target[slab] = block
        yield progress.step()
