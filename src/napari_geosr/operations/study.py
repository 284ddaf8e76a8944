"""How few projections still give the right pores, by which algorithm.

Every cell of the study is a number of projections and an algorithm. A finished cell is
kept, so that a study which was stopped or killed goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    GeoSRError,
    ProjectionsError,
    VolumeError,
)
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    Warned,
    never_stop,
    relay,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.grey_levels import one_volume
from napari_geosr.operations.reconstruct import (
    ReadyScan,
    ReconstructConfig,
    open_projections,
    prepare_steps,
)
from napari_geosr.operations.study_algorithms import module_of
from napari_geosr.operations.study_cells import Bench, Cell, Outcome, few_projections
from napari_geosr.operations.study_config import StudyConfig
from napari_geosr.operations.study_judge import (
    Mask,
    Reference,
    grey_slice,
    judged_steps,
    own_figures,
    pore_mask,
    reference_steps,
    rendered,
)
from napari_geosr.operations.study_store import StudyStore

__all__ = ["CellDone", "Studied", "StudyConfig", "study", "study_steps"]

#: Rows between those that are trained on and those that are judged: a network sees two
#: slices on each side.
_GAP = 4
#: Fewer rows than this are judged all, and nothing is trained on.
_LEAST_ROWS = 16
#: The algorithm of the reference, and of the row of the whole scan.
_FULL = "full"


@dataclass(frozen=True)
class CellDone(Step):
    """A cell is judged; `row` has its figures."""

    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Studied:
    """A study: its rows, what they are compared with, its files.

    Attributes
    ----------
    rows : list of dict
        One for each cell, by number of projections; the whole scan first.
    reference : dict
        Figures of the truth, or of the full reconstruction.
    savings : list of dict
        What each number of projections needs.
    fewest : dict
        Fewest projections that give the right porosity, by algorithm.
    files : dict of Path
        ``csv``, ``json``, ``html``.
    """

    rows: list[dict[str, Any]]
    reference: dict[str, Any]
    savings: list[dict[str, Any]]
    fewest: dict[str, int | None]
    files: dict[str, Path]


def study_steps(
    projections: Projections | str | Path,
    out: str | Path,
    config: StudyConfig | None = None,
    *,
    reference: Volume | None = None,
    mask: Volume | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Try every number of projections with every algorithm.

    Parameters
    ----------
    projections : Projections or path
        The whole scan.
    out : path
        Folder for the results. A study of the same scan and settings that is there is
        gone on with; numbers of projections and algorithms may be added to it.
    reference : Volume, optional
        The truth, (row, N, N) in the place of the reconstruction; by default what all
        projections give by filtered back-projection is compared with.
    mask : Volume, optional
        The sample: voxels that are not zero; same shape as the reference.
    overwrite : bool
        Begin anew where another study is.

    Yields
    ------
    Step
        `StageStarted` and progress of each cell, and `CellDone` after it; the last is
        ``ResultReady(Studied)``.

    Raises
    ------
    ConfigError, ProjectionsError, FileError, VolumeError
        With one sentence; finished cells are kept.
    Cancelled
        If `should_stop` says so; finished cells are kept.
    """
    config = config or StudyConfig()
    scan = projections
    if not isinstance(scan, Projections):
        scan = open_projections(scan)
    store = StudyStore(Path(out).expanduser())
    _check(scan, config)
    shape = _shape_of(scan, reference, mask)
    record: dict[str, Any] = yield from relay(
        _record_steps(scan, config, reference, mask, should_stop)
    )
    store.begin(record, config.essential(), overwrite=overwrite)
    yield StageStarted(message="Looking at the whole scan")
    bench: Bench = yield from relay(
        _bench_steps(scan, config, store, shape, should_stop)
    )
    _, note = few_projections(scan, min(config.counts), config)
    if note:
        yield Warned(message=note)
    yield StageStarted(message="Reconstructing from all projections")
    path, seconds = yield from bench.full_steps(bench.judged, should_stop)
    full = io.read(path)
    judge: Reference = yield from relay(
        _judge_steps(bench, full, reference, mask, should_stop)
    )
    rows = [_full_row(bench, judge, seconds)]
    store.keep_reference(judge_pictures(judge, config))
    if reference is not None:
        voxels = np.asarray(full.data)
        figures, pictures = yield from relay(
            judged_steps(voxels, judge, config, should_stop)
        )
        rows[0].update(figures)
        store.keep_pictures(scan.n_angles, _FULL, pictures)
    else:
        store.keep_pictures(scan.n_angles, _FULL, judge_pictures(judge, config))
    rows += yield from _cells_steps(bench, judge, store, should_stop)
    if not any("failed" in row for row in rows):
        shutil.rmtree(bench.folder, ignore_errors=True)
    yield StageStarted(message="Writing the report")
    yield ResultReady(
        result=store.finish(rows, scan, config, own_figures(judge.report), reference)
    )


def study(
    projections: Projections | str | Path,
    out: str | Path,
    *,
    reference: Volume | None = None,
    mask: Volume | None = None,
    **settings: Any,
) -> Studied:
    """Study how few projections give the right pores; see :func:`study_steps`.

    Parameters
    ----------
    **settings
        Fields of `StudyConfig`.
    """
    config = StudyConfig.create(**settings)
    steps = study_steps(projections, out, config, reference=reference, mask=mask)
    done: Studied = run_to_end(steps)
    return done


def _check(scan: Projections, config: StudyConfig) -> None:
    """Refuse what can be seen to be wrong at once."""
    if scan.geometry != "parallel":
        raise ProjectionsError(
            f"{scan.title} is a {scan.geometry}-beam scan: studies are of parallel "
            "beams, whose rows are independent. Give a parallel-beam scan."
        )
    if max(config.counts) >= scan.n_angles:
        raise ConfigError(
            f"{scan.title} has {scan.n_angles} projections, and {max(config.counts)} "
            f"were asked for. Choose numbers below {scan.n_angles} (--counts)."
        )
    learned = [name for name in config.algorithms if module_of(name).LEARNS]
    if learned and scan.n_rows < _LEAST_ROWS:
        raise ConfigError(
            f"{scan.title} has {scan.n_rows} rows: one half of {_LEAST_ROWS} or more "
            f"is needed to train on. Leave {', '.join(learned)} out (--algorithms)."
        )


def _shape_of(
    scan: Projections, reference: Volume | None, mask: Volume | None
) -> tuple[int, int, int]:
    """Of the reconstruction, which given volumes must have."""
    size = scan.n_columns
    for word, volume in (("reference", reference), ("mask", mask)):
        if volume is None:
            continue
        shape = one_volume(volume).shape
        if word == "reference" and len(shape) == 3 and shape[1] == shape[2]:
            size = shape[1]
        if shape != (scan.n_rows, size, size):
            raise VolumeError(
                f"The {word} {volume.title} has shape {' × '.join(map(str, shape))}, "
                f"but the reconstruction has {scan.n_rows} × {size} × {size}. Give one "
                "of that shape, slice by slice in its place."
            )
    return scan.n_rows, size, size


def _record_steps(
    scan: Projections,
    config: StudyConfig,
    reference: Volume | None,
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """What the study is of, with checksums: ``ResultReady(dict)``."""
    as_volume = Volume(scan.data, "ZYX", name=scan.name, source=scan.source)
    given = {"projections": as_volume, "reference": reference, "mask": mask}
    yield from provenance.record_steps(
        "study projections",
        inputs={key: volume for key, volume in given.items() if volume is not None},
        settings=config.model_dump(mode="json"),
        should_stop=should_stop,
    )


def _bench_steps(
    scan: Projections,
    config: StudyConfig,
    store: StudyStore,
    shape: tuple[int, int, int],
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Find the axis and the beam for all: ``ResultReady(Bench)``."""
    from napari_geosr.tomography.flat_fields import incident_counts

    incident = None
    if scan.flats is None and not scan.is_line_integrals:
        incident = incident_counts(scan)
    wanted = ReconstructConfig.create(
        filter=config.filter,
        stripes=config.stripes,
        centre=config.centre,
        size=shape[1],
        incident=incident,
        device=config.device,
        threads=config.threads,
        memory=config.memory,
    )
    ready: ReadyScan = yield from relay(
        prepare_steps(scan, wanted, should_stop=should_stop)
    )
    found = {
        "centre": float(ready.centre.column),
        "full_turn": "join" if ready.joined else "keep",
    }
    n = scan.n_rows
    half = n // 2
    small = n < _LEAST_ROWS
    yield ResultReady(
        result=Bench(
            scan=scan,
            config=config,
            reconstruction=wanted.model_copy(update=found),
            judged=(0, n) if small else (half + _GAP // 2, n),
            taught=None if small else (0, half - _GAP // 2),
            folder=store.work,
            models=store.models,
        )
    )


def _judge_steps(
    bench: Bench,
    full: Volume,
    reference: Volume | None,
    mask: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """What is compared with, in the judged rows: ``ResultReady(Reference)``."""
    rows = slice(*bench.judged)
    against = full
    if reference is not None:
        truth = np.asarray(one_volume(reference).data[rows], np.float32)
        against = full.replace(data=truth, name=reference.name)
    sample: Mask | None
    if mask is not None:
        sample = np.asarray(one_volume(mask).data[rows]) != 0
        if not sample.any():
            raise VolumeError(
                f"The mask {mask.title} is empty in the judged rows {rows.start} … "
                f"{rows.stop - 1}. Mark the sample with non-zero voxels."
            )
    else:
        sample = yield from _sample_steps(against, bench.config, should_stop)
    yield from reference_steps(against, sample, bench.config, should_stop)


def _sample_steps(
    volume: Volume, config: StudyConfig, should_stop: ShouldStop
) -> Generator[Step, None, Mask | None]:
    """Where pores are looked for, in all reconstructions alike."""
    if config.sample == "none":
        return None
    n = volume.shape[-1]
    axis = np.arange(n) - (n - 1) / 2
    circle = np.hypot(axis[:, None], axis[None, :]) <= n / 2 - 1
    if config.sample == "circle":
        return np.broadcast_to(circle, volume.shape)
    from napari_geosr.measure.envelope import envelope_steps

    found: Reference = yield from relay(
        reference_steps(volume, None, config, should_stop)
    )
    solid = ~pore_mask(np.asarray(volume.data), found.report.threshold, None, config)
    steps = envelope_steps(solid & circle, 5, name=volume.name, should_stop=should_stop)
    envelope: Mask = yield from relay(steps)
    inside: Mask = envelope & circle
    return inside


def judge_pictures(judge: Reference, config: StudyConfig) -> dict[str, Any]:
    """Slice and pores of the reference."""
    voxels = np.asarray(judge.volume.data)
    pores = pore_mask(voxels, judge.report.threshold, judge.sample, config)
    return {"slice": grey_slice(voxels, judge.levels), "pores": rendered(pores)}


def _full_row(bench: Bench, judge: Reference, seconds: float) -> dict[str, Any]:
    """The row of the whole scan, compared with itself."""
    zero = dict.fromkeys(
        (
            "porosity_error",
            "pores_per_mm3_error",
            "volume_histogram_distance",
            "euler_error",
        ),
        0.0,
    )
    return {
        "projections": bench.scan.n_angles,
        "algorithm": _FULL,
        "title": "Full reconstruction (FBP)",
        **own_figures(judge.report),
        **zero,
        "dice": 1.0,
        "psnr": None,
        "ssim": 1.0,
        "seconds": round(seconds, 3),
        "training_seconds": 0.0,
        "settings": {},
    }


def _cells_steps(
    bench: Bench, judge: Reference, store: StudyStore, should_stop: ShouldStop
) -> Generator[Step, None, list[dict[str, Any]]]:
    """Every cell that is not finished yet; a cell that fails ends no study."""
    config = bench.config
    cells = [
        Cell(bench, count, name)
        for count in config.counts
        for name in config.algorithms
    ]
    rows = []
    for i, cell in enumerate(cells, start=1):
        if should_stop():
            raise Cancelled(f"Stopped after {i - 1} of {len(cells)} cells.")
        row = store.row(cell.count, cell.name)
        if row is None:
            title = module_of(cell.name).TITLE
            yield StageStarted(
                message=f"{i} of {len(cells)}: {title}, {cell.count} projections"
            )
            row = yield from _cell_steps(cell, title, judge, store, should_stop)
            if "failed" in row:
                yield Warned(
                    message=f"{title} from {cell.count} projections failed: "
                    f"{row['failed']}"
                )
        rows.append(row)
        yield CellDone(i, len(cells), row=row)
        last = i == len(cells) or cells[i].count != cell.count
        if last and not any("failed" in r for r in rows):
            shutil.rmtree(cell.folder, ignore_errors=True)
    return rows


def _cell_steps(
    cell: Cell, title: str, judge: Reference, store: StudyStore, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Any]]:
    """Reconstruct and judge one cell, and keep it."""
    row: dict[str, Any] = {
        "projections": cell.count,
        "algorithm": cell.name,
        "title": title,
    }
    try:
        outcome: Outcome = yield from relay(
            module_of(cell.name).reconstruct_steps(cell, should_stop)
        )
        figures, pictures = yield from relay(
            judged_steps(outcome.voxels, judge, cell.bench.config, should_stop)
        )
    except Cancelled:
        raise
    except GeoSRError as error:
        return {**row, "failed": str(error)}
    row |= {
        **figures,
        "seconds": round(outcome.seconds, 3),
        "training_seconds": round(outcome.training_seconds, 3),
        "settings": dict(outcome.settings),
    }
    store.keep(row, pictures)
    return row
