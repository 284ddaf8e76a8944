"""Find the fewest projections that still give the correct porosity and pore sizes.

The shortest exposure is found in the same way.

Each cell of the study combines a number of projections, an exposure and an algorithm.
Finished cells are stored, so that an interrupted study can be resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    GeoSRError,
    ProjectionsError,
    VolumeError,
)
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.claims import FileInUseError
from napari_geosr.operations.reconstruct import open_projections
from napari_geosr.operations.reconstruct.fewer_views import number_of_parts
from napari_geosr.operations.reconstruct.resume import as_volume
from napari_geosr.operations.study.algorithms import (
    Classical,
    LearningMethod,
    find_algorithm,
)
from napari_geosr.operations.study.cell import AlgorithmResult, Cell, StudyContext
from napari_geosr.operations.study.classical import classical_steps, free_settings
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.judge import (
    StudyReference,
    judged_steps,
    measured_figures,
)
from napari_geosr.operations.study.labels import (
    LabelsStudySummary,
    study_labels_steps,
)
from napari_geosr.operations.study.reference import (
    FULL,
    full_row,
    judge_pictures,
    judge_steps,
)
from napari_geosr.operations.study.result import CellDone, StudySummary
from napari_geosr.operations.study.setup import (
    check_study,
    context_steps,
    record_steps,
    shape_of,
    study_warnings,
)
from napari_geosr.operations.study.store import StudyStore
from napari_geosr.operations.study.subset import ScanSubset, all_subsets, take_subset
from napari_geosr.operations.study.training import learned_steps

T = TypeVar("T")

__all__ = [
    "CellDone",
    "LabelsStudySummary",
    "StudyConfig",
    "StudySummary",
    "study",
    "study_labels_steps",
    "study_steps",
]


def study_steps(
    projections: Projections | str | Path,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    reference: Volume | None = None,
    mask: Volume | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, StudySummary]:
    """Combine every number of projections and every exposure with every algorithm.

    Parameters
    ----------
    projections : Projections or path
        The whole scan.
    out : path
        Folder for the results. An existing study of the same scan and settings is
        resumed; numbers of projections, exposures and algorithms may be added.
    reference : Volume, optional
        Ground truth, (row, N, N), at the position of the reconstruction; by default,
        the filtered back-projection of all projections.
    mask : Volume, optional
        Sample mask of the same shape as the reference; non-zero voxels belong to the
        sample.
    overwrite : bool
        Start a new study even if the folder contains another one.

    Yields
    ------
    Step
        `StageStarted` and progress of each cell, and `CellDone` after each cell.

    Returns
    -------
    StudySummary

    Raises
    ------
    ConfigError, ProjectionsError, FileError, VolumeError
        If the run fails; finished cells are kept.
    Cancelled
        If `should_stop` returns True; finished cells are kept.
    """
    config = config or StudyConfig()
    scan = projections
    if not isinstance(scan, Projections):
        scan = open_projections(scan)
    store = StudyStore(Path(out).expanduser())
    check_study(scan, config)
    shape = shape_of(scan, reference, mask)
    record = yield from record_steps(scan, config, reference, mask, should_stop)
    companions = [each for each in (reference, mask) if each is not None]
    watch = FileWatch([as_volume(scan), *companions])
    try:
        store.begin(record, config.essential(), overwrite=overwrite)
        steps = _begin_steps(scan, config, store, shape, reference, mask, should_stop)
        return (yield from watch.steps(steps))
    finally:
        store.release()


def study(
    projections: Projections | str | Path,
    out: str | Path,
    *,
    reference: Volume | None = None,
    mask: Volume | None = None,
    **settings: Any,
) -> StudySummary:
    """Find the smallest part of a scan that gives the correct porosity and pore sizes.

    See `study_steps`.

    Parameters
    ----------
    **settings
        Fields of `StudyConfig`.
    """
    config = StudyConfig.create(**settings)
    steps = study_steps(projections, out, config, reference=reference, mask=mask)
    return run_to_end(steps)


def _begin_steps(
    scan: Projections,
    config: StudyConfig,
    store: StudyStore,
    shape: tuple[int, int, int],
    reference: Volume | None,
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, StudySummary]:
    """Compute the cells of a study, and write its report."""
    said: list[str] = []
    whole = _whole_steps(scan, config, store, shape, reference, mask, should_stop)
    try:
        context, judge, first = yield from _record_warnings(whole, said.append)
    except (ConfigError, ProjectionsError, VolumeError):
        store.remove_files()
        raise
    rows = [first]
    cells = _cells_steps(context, judge, store, should_stop)
    rows += yield from _record_warnings(cells, said.append)
    if not any("failed" in row for row in rows):
        shutil.rmtree(context.folder, ignore_errors=True)
    yield StageStarted(message="Writing the report")
    return store.finish(rows, context, measured_figures(judge.report), reference, said)


def _record_warnings(
    steps: Generator[Step, None, T], note: Callable[[str], None]
) -> Generator[Step, None, T]:
    """Yield all steps, and record the warnings among them."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, WarningIssued):
                note(step.message)
            yield step
    return iterator.result


def _whole_steps(
    scan: Projections,
    config: StudyConfig,
    store: StudyStore,
    shape: tuple[int, int, int],
    reference: Volume | None,
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[StudyContext, StudyReference, AnyDict]]:
    """Reconstruct the whole scan.

    The result provides the shared data, the reference and a row of the table.
    """
    yield StageStarted(message="Preparing the whole scan")
    context = yield from context_steps(scan, config, store, shape, mask, should_stop)
    least = ScanSubset(min(config.counts), min(config.exposure))
    _, note = take_subset(scan, least, config)
    for message in (note, *study_warnings(scan, config)):
        if message:
            yield WarningIssued(message=message)
    yield StageStarted(message="Reconstructing from all projections")
    # Record the warnings, because a resumed study does not repeat this reconstruction.
    full_scan_steps = _record_warnings(
        context.full_scan_steps(context.evaluated_rows, should_stop), store.add_message
    )
    path, seconds = yield from full_scan_steps
    full = io.read(path)
    judge = yield from judge_steps(context, full, reference, should_stop)
    row = full_row(context, judge, seconds)
    whole = ScanSubset(scan.n_angles)
    store.save_reference(judge_pictures(judge, config))
    if reference is not None:
        voxels = np.asarray(full.data)
        figures, pictures = yield from judged_steps(voxels, judge, config, should_stop)
        row.update(figures)
        store.save_pictures(whole, FULL, pictures)
    else:
        store.save_pictures(whole, FULL, judge_pictures(judge, config))
    return context, judge, row


def _cells_steps(
    context: StudyContext,
    judge: StudyReference,
    store: StudyStore,
    should_stop: ShouldStop,
) -> Generator[Step, None, list[AnyDict]]:
    """Compute all unfinished cells; a failing cell does not end the study."""
    config = context.config
    cells = [
        Cell(context, subset, name)
        for subset in all_subsets(config, context.scan.n_angles)
        for name in config.algorithms
    ]
    rows = []
    for i, cell in enumerate(cells, start=1):
        stopped = (
            f"Stopped after {i - 1} of {len(cells)} reconstructions; the finished ones "
            "are kept. Run the same study again to compute the others."
        )
        if should_stop():
            raise Cancelled(stopped)
        row = store.row(cell.subset, cell.name)
        if row is None or _is_outdated(row, cell):
            title = find_algorithm(cell.name).title
            yield StageStarted(
                message=f"{i} of {len(cells)}: {title}, {cell.subset.title}"
            )
            try:
                row = yield from _cell_steps(cell, title, judge, store, should_stop)
            except Cancelled as stop:
                raise Cancelled(stopped) from stop
            if "failed" in row:
                yield WarningIssued(
                    message=f"{title} from {cell.subset.title} failed: {row['failed']}"
                )
        rows.append(row)
        yield CellDone(i, len(cells), row=row)
        last = i == len(cells) or cells[i].subset != cell.subset
        if last and not any("failed" in r for r in rows):
            shutil.rmtree(cell.folder, ignore_errors=True)
    return rows


def _is_outdated(row: AnyDict, cell: Cell) -> bool:
    """Return whether a finished cell must be recomputed.

    This is the case if its network was trained on a different number of projection
    subsets, or if an earlier release computed it, either from pairs with correlated
    noise or with settings chosen by comparison with a blurred reconstruction.
    """
    settings = row.get("settings") or {}
    if "failed" in row:
        return False
    if settings.get("method") == "noise2inverse":
        # Records of earlier releases lack this entry; they used four subsets.
        n_parts = number_of_parts(cell.subset.projections, cell.context.config.splits)
        return bool(settings.get("parts", 4) != n_parts)
    if settings.keys() & {"learned_from", "tuned_on"}:
        return False
    if "method" in settings:
        return True
    return bool(free_settings(cell, find_algorithm(cell.name).candidates))


def _cell_steps(
    cell: Cell,
    title: str,
    judge: StudyReference,
    store: StudyStore,
    should_stop: ShouldStop,
) -> Generator[Step, None, AnyDict]:
    """Reconstruct, evaluate and store one cell."""
    row: AnyDict = {
        "projections": cell.subset.projections,
        "exposure": cell.subset.exposure,
        "algorithm": cell.name,
        "title": title,
    }
    try:
        outcome = yield from _reconstruct_steps(cell, should_stop)
        figures, pictures = yield from judged_steps(
            outcome.voxels, judge, cell.context.config, should_stop
        )
    except (Cancelled, FileInUseError):
        raise
    except GeoSRError as error:
        return {**row, "failed": str(error)}
    row |= {
        **figures,
        "seconds": round(outcome.seconds, 3),
        "training_seconds": round(outcome.training_seconds, 3),
        "settings": dict(outcome.settings),
    }
    store.save_cell(row, pictures)
    return row


def _reconstruct_steps(
    cell: Cell, should_stop: ShouldStop
) -> Generator[Step, None, AlgorithmResult]:
    """Reconstruct the evaluated rows of a cell with its algorithm."""
    algorithm = find_algorithm(cell.name)
    if isinstance(algorithm, Classical):
        name, candidates = algorithm.algorithm, algorithm.candidates
        return (yield from classical_steps(cell, name, candidates, should_stop))
    if isinstance(algorithm, LearningMethod):
        method, settings = algorithm.method, algorithm.settings
        return (yield from learned_steps(cell, method, settings, should_stop))
    steps: Generator[Step, None, AlgorithmResult] = algorithm.module.reconstruct_steps(
        cell, should_stop
    )
    return (yield from steps)
