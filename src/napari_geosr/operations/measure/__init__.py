"""Measure the pores of a volume, and compare the pores of several volumes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_geosr.core import provenance
from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.lazy import cache_limited
from napari_geosr.measure.budget import cache_bytes, check_memory, min_bytes
from napari_geosr.measure.companions import companions_of
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import Group
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.number_text import number_text, percent_text
from napari_geosr.measure.overview.curves import profile_of
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.remarks import looks_like_labels
from napari_geosr.measure.reports import rows
from napari_geosr.measure.reports.named import named_warning, named_warnings
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.statistics import pore_statistics
from napari_geosr.operations.cluster import Workers
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.slabs import SlabWorkers
from napari_geosr.operations.inputs.scan import input_warnings
from napari_geosr.operations.measure.deviation import (
    align_deviation,
    is_deviation,
    refuse_factor_alone,
)
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.group import check_group, unit_remarks
from napari_geosr.operations.measure.mask import align_mask, placement_remark
from napari_geosr.operations.measure.pore_size import same_smallest_pore
from napari_geosr.operations.measure.remarks import (
    background_steps,
    different_regions,
    generated,
    kept_hot_voxels,
    lost_voxels,
    sampled_porosity,
    verdict_before_restoration,
)
from napari_geosr.operations.measure.sampled import with_sample_interval
from napari_geosr.operations.measure.workers import (
    deviation_for_workers,
    for_workers,
    n_processes,
    slab_workers,
)
from napari_geosr.operations.storage import array_for

if TYPE_CHECKING:
    from napari_geosr.measure.porosity_run import LabellingJournal
    from napari_geosr.measure.reports.rows import StatisticRow

__all__ = [
    "Group",
    "MeasureConfig",
    "PorosityReport",
    "colour_columns",
    "figure_rows",
    "measure_record",
    "measure_several_steps",
    "measure_steps",
    "message_titles",
    "morphometry_choices",
    "named_warning",
    "named_warnings",
    "number_text",
    "percent_text",
    "profile_of",
    "reference_first",
    "reference_key",
]

MeasureConfig = PorosityConfig

T = TypeVar("T")


def measure_steps(
    volume: Volume,
    config: MeasureConfig,
    mask: Volume | None = None,
    *,
    deviation: Volume | None = None,
    labels_target: object = None,
    keep_labels: bool = True,
    journal: LabellingJournal | None = None,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PorosityReport]:
    """Segment the pores of a volume, label them and measure each, block by block.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X); other axes must have length one. Any real dtype.
    config : MeasureConfig
        Threshold, phase, minimum pore size, connectivity, automatic sample mask.
    mask : Volume, optional
        Sample mask; non-zero voxels are sample. If its grid differs from that of
        `volume`, it is resampled by position.
    deviation : Volume, optional
        Standard deviations from the restoration that produced `volume`; adds an
        interval to the porosity.
    labels_target : array-like, optional
        Integer array of the volume's shape to fill with the labels. By default they are
        kept in memory, or in a zarr array in the cache folder if they do not fit.
    keep_labels : bool
        Whether to keep labels. Set it to False if only the measured values are needed.
    journal : LabellingJournal, optional
        Stores the progress of the labelling, so that an interrupted run can be resumed.
    workers : int or distributed.Client, optional
        Processes that label the slabs; the result does not depend on their number.

    Returns
    -------
    PorosityReport

    Raises
    ------
    ConfigError
        If `workers` is invalid, or the extra ``cluster`` is not installed.
    VolumeError
        If the volume is complex, has other axes, is constant or has no finite voxel,
        the mask does not cover it, or `deviation` belongs to another volume. The error
        is also raised for an unfinished restoration of integer type if no mask selects
        the part to measure.
    Cancelled
        If `should_stop` returns True.
    """
    volume = one_volume(volume)
    with ExitStack() as stack:
        pool = stack.enter_context(slab_workers(workers, config))
        check_memory(
            volume, config, mask=mask, deviation=deviation, processes=n_processes(pool)
        )
        if pool is not None:
            volume = for_workers(volume, pool)
        nbytes = cache_bytes(volume.data, config)
        stack.enter_context(cache_limited(volume.data, nbytes))
        return (
            yield from _measure_steps(
                volume,
                config,
                mask,
                deviation,
                labels_target,
                keep_labels,
                journal,
                pool,
                should_stop,
            )
        )


def _measure_steps(
    volume: Volume,
    config: MeasureConfig,
    mask: Volume | None,
    deviation: Volume | None,
    labels_target: object,
    keep_labels: bool,
    journal: LabellingJournal | None,
    pool: SlabWorkers | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, PorosityReport]:
    """Measure a volume, and add remarks about it to the report."""
    config, remarks = _settings_for_kind(volume, config)
    if mask is None:
        _refuse_unfinished_integers(volume)
    elif placed := placement_remark(mask, volume):
        remarks.append(placed)
    aligned_deviation = None
    if deviation is None:
        refuse_factor_alone(config)
    else:
        aligned_deviation, deviation_remarks = align_deviation(
            deviation, volume, config
        )
        remarks += deviation_remarks
    for remark in remarks:
        yield WarningIssued(message=remark)
    sample = None if mask is None else align_mask(mask, volume)
    if pool is not None and sample is not None:
        sample = array_for_workers(sample, pool.folder)
    if pool is not None and aligned_deviation is not None:
        aligned_deviation = deviation_for_workers(aligned_deviation, pool)
    if keep_labels and labels_target is None:
        budget = None
        if config.memory is not None:
            # The labels may use the memory that slabs of minimum thickness leave free.
            least = min_bytes(
                volume.data,
                has_interval=deviation is not None,
                companions=companions_of(volume, mask, deviation),
            )
            budget = max(0, parse_bytes(config.memory) - n_processes(pool) * least)
        labels_target = array_for(
            volume.shape, np.dtype(np.uint32), budget=budget, depth=1
        )
    report = yield from porosity_steps(
        volume,
        config,
        mask=sample,
        deviation=aligned_deviation,
        labels_target=labels_target if keep_labels else None,
        keep_labels=keep_labels,
        journal=journal,
        pool=pool,
        should_stop=should_stop,
    )
    lost = around = ""
    if mask is None:
        lost = lost_voxels(volume, report)
        around = yield from background_steps(volume, config, report, should_stop)
    report = with_sample_interval(volume, report)
    for sentence in (
        lost,
        around,
        kept_hot_voxels(volume, report),
        generated(volume),
        *sampled_porosity(volume, report),
        verdict_before_restoration(volume, report),
    ):
        if sentence:
            remarks.append(sentence)
            yield WarningIssued(message=sentence)
    if remarks:
        report = replace(report, warnings=(*remarks, *report.warnings))
    if generated(volume) and "generated" not in report.name.lower():
        report = replace(report, name=f"generated: {report.name}")
    return report


def _settings_for_kind(
    volume: Volume, config: MeasureConfig
) -> tuple[MeasureConfig, list[str]]:
    """Return the settings, adapted to label volumes, and remarks on the input."""
    remarks = [*input_warnings(volume), *unit_remarks(volume, config)]
    if volume.metadata.get("kind") == "labels":
        config = config.model_copy(update={"threshold": 0.0, "phase": "bright"})
        remarks.append(
            f"{volume.name!r} contains labels: every labelled voxel counts as a pore "
            "voxel, and the threshold is not used."
        )
    elif config.phase == "dark" and looks_like_labels(volume.data):
        remarks.append(
            f"{volume.title} looks like a label image: each region has a single "
            "value, with 0 between them. It is measured as a grey-value image in "
            "which dark voxels are pores. If the labels are pores, choose bright "
            "pores and the threshold 0."
        )
    if _is_unfinished(volume):
        remarks.append(
            f"{volume.name!r} is an unfinished restoration: only its finished part is "
            "measured."
        )
    if is_deviation(volume.provenance):
        remarks.append(
            f"{volume.name!r} contains standard deviations, not grey values: the "
            "results do not describe pores. Measure the restored volume instead."
        )
    return config, remarks


def _is_unfinished(volume: Volume) -> bool:
    return any(entry.get("complete") is False for entry in volume.provenance)


def _refuse_unfinished_integers(volume: Volume) -> None:
    """Refuse unfinished volumes of integer type.

    Because integers have no NaN, unfinished voxels are 0, a value that pores may also
    have.
    """
    if _is_unfinished(volume) and volume.dtype.kind in "iu":
        raise VolumeError(
            f"{volume.title} is an unfinished restoration in {volume.dtype}: its "
            "unprocessed voxels are 0, a value that pores can also have. Finish the "
            "restoration, restore to float32, or use a sample mask of the finished "
            "part."
        )


def measure_several_steps(
    volumes: Mapping[str, Volume],
    config: MeasureConfig,
    mask: Volume | None = None,
    *,
    deviation: Volume | None = None,
    keep_labels: bool = True,
    journal: Callable[[str], LabellingJournal | None] = lambda _: None,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, dict[str, PorosityReport]]:
    """Measure several volumes by the same rules, so that their results are comparable.

    Each volume gets its own threshold by the same method (or the same manual value),
    and the smallest counted pore has the same physical size in all: see
    `same_smallest_pore`.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Volumes by the key of their report.
    deviation : Volume, optional
        Per-voxel standard deviations of the first volume, used for its porosity
        interval.
    journal : callable
        Returns the journal of a volume, given its key; None to keep no journal.
    workers : int or distributed.Client, optional
        Processes that label the slabs; the results do not depend on their number.

    Yields
    ------
    Step
        `done` and `total` are counted over all volumes. Warnings begin with the title
        of their volume if there are several.

    Returns
    -------
    dict of PorosityReport
        Reports in the order of `volumes`.

    Raises
    ------
    VolumeError
        As for `measure_steps`, and if some volumes are single images and others are
        stacks.
    """
    volumes = {name: one_volume(volume) for name, volume in volumes.items()}
    titles = message_titles(volumes)
    _refuse_mixed_axes(volumes, titles)
    check_group({titles[name]: volume for name, volume in volumes.items()}, config)
    configs = same_smallest_pore(volumes, config)
    if len({volume.has_physical_size for volume in volumes.values()}) > 1:
        without = next(n for n, v in volumes.items() if not v.has_physical_size)
        yield WarningIssued(
            message=f"{titles[without]} has no voxel size, so its pores cannot be "
            "compared in physical units. Set it in its file or in napari, then repeat."
        )
    companions = [each for each in (mask, deviation) if each is not None]
    watch = FileWatch([*volumes.values(), *companions])
    reports: dict[str, PorosityReport] = {}
    for i, (name, volume) in enumerate(volumes.items()):
        yield StageStarted(message=f"Measuring {titles[name]}")
        first = i == 0
        if not first:  # only the first volume has an interval
            configs[name] = configs[name].model_copy(update={"interval_factor": None})
        steps = measure_steps(
            volume,
            configs[name],
            mask,
            deviation=deviation if first else None,
            keep_labels=keep_labels,
            journal=journal(name),
            workers=workers,
            should_stop=should_stop,
        )
        with StepIterator(watch.steps(steps)) as iterator:
            for step in iterator:
                if isinstance(step, BlockDone):
                    total = step.total * len(volumes)
                    yield BlockDone(step.total * i + step.done, total)
                elif isinstance(step, WarningIssued) and len(volumes) > 1:
                    is_of_all = step.message == watch.message
                    title = "" if is_of_all else titles[name]
                    text = named_warning(step.message, title, volume.name)
                    yield WarningIssued(message=text)
                else:
                    yield step
        reports[name] = iterator.result
    regions = different_regions({titles[name]: r for name, r in reports.items()})
    if regions:
        yield WarningIssued(message=regions)
    if added := [each for each in (regions, watch.message) if each]:
        reports = {
            name: replace(report, warnings=(*report.warnings, *added))
            for name, report in reports.items()
        }
    return reports


def message_titles(volumes: Mapping[str, Volume]) -> dict[str, str]:
    """Return each volume's name in messages, made unique if two titles are equal."""
    titles = [volume.title for volume in volumes.values()]
    return {
        key: title if titles.count(title) == 1 else f"{title} ({key})"
        for key, title in zip(volumes, titles, strict=True)
    }


def _refuse_mixed_axes(
    volumes: Mapping[str, Volume], titles: Mapping[str, str]
) -> None:
    if len({volume.axes for volume in volumes.values()}) < 2:
        return
    flat = next(name for name, v in volumes.items() if v.axes == "YX")
    deep = next(name for name, v in volumes.items() if v.axes != "YX")
    raise VolumeError(
        f"{titles[flat]} is a single image and {titles[deep]} a volume: sections of "
        "pores cannot be compared with whole pores. Compare two images or two volumes.",
        fields=["reference"],
    )


def reference_first(columns: Mapping[str, T]) -> dict[str, T]:
    """Return columns in reading order: the references, then the measured volume.

    Parameters
    ----------
    columns : mapping
        Columns in the order of `measure_several_steps`: the measured volume, then its
        references.

    Examples
    --------
    >>> reference_first({"restored": 2, "scan": 1})
    {'scan': 1, 'restored': 2}
    """
    first, *others = columns.items()
    return dict([*others, first])


def reference_key(i: int) -> str:
    """Return the key of reference `i` (counted from 0) in reports and JSON files.

    Examples
    --------
    >>> [reference_key(i) for i in range(3)]
    ['reference', 'reference_2', 'reference_3']
    """
    return "reference" if i == 0 else f"reference_{i + 1}"


def figure_rows(reports: Mapping[str, PorosityReport]) -> list[StatisticRow]:
    """Return table rows: label, value per report, and differences from the first."""
    return list(rows.figure_rows(list(reports.values())))


def morphometry_choices() -> dict[str, tuple[str, str]]:
    """Return the title and a one-sentence description of each statistic, by name."""
    modules = {name: MORPHOMETRY.load(name) for name in MORPHOMETRY.names()}
    return {name: (one.TITLE, one.ABOUT) for name, one in modules.items()}


def colour_columns(report: PorosityReport) -> dict[str, bool]:
    """Return the columns for colouring pores, and whether each scale is logarithmic."""
    statistics = pore_statistics(flat=report.is_flat)
    found = [(s.name, s.colour) for s in statistics if s.colour is not None]
    found.sort(key=lambda pair: pair[1].order)
    return {name: colour.logarithmic for name, colour in found}


def measure_record(
    volumes: Mapping[str, Volume],
    config: MeasureConfig,
    companions: Mapping[str, Volume | None] | None = None,
) -> AnyDict:
    """Create the provenance record of a measurement, for the exported files.

    The settings are those of the first volume, with the minimum pore size used for it.

    Parameters
    ----------
    volumes : mapping of str to Volume
    config : MeasureConfig
    companions : mapping of str to Volume or None, optional
        Sample mask and standard deviations, if given, by name.
    """
    given = {k: v for k, v in (companions or {}).items() if v is not None}
    used = next(iter(same_smallest_pore(volumes, config).values()), config)
    return provenance.record(
        "measure",
        inputs={**volumes, **given},
        settings=used.model_dump(mode="json"),
    )
