"""Restores a whole volume tile by tile, into memory or a file; writes a record."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_geosr.core.array_parts.boxes import BoxIndex, boxes_to_lists
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    FileError,
    GeoSRError,
)
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TargetReady,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.backends import Choice
from napari_geosr.inference.compute import frugal_if_tight
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.io.unfinished_files.journal import Journal
from napari_geosr.io.unfinished_files.unfinished import remove_unfinished
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.preparation import PreparedRestoration
from napari_geosr.operations.restore.record import (
    expected_volumes,
    record_steps,
    run_facts,
)
from napari_geosr.operations.restore.resume import (
    FinishedPart,
    begin_journal,
    finished_part,
    journaled_steps,
    part_of_killed_run,
)
from napari_geosr.operations.restore.targets import (
    OutputLayout,
    Targets,
    open_targets,
    output_layout,
    without_finished_part,
)

if TYPE_CHECKING:
    from napari_geosr.inference.run import RunSummary
    from napari_geosr.models.distribution import TrainingLikeness
    from napari_geosr.operations.restore.verdict.late import LateVerdict
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict


@dataclass(frozen=True)
class RestorationResult:
    """Result of a run: the volume, statistics and reliability.

    Attributes
    ----------
    deviation : Volume or None
        Standard deviations over the members of an uncertainty method; `volume` is the
        mean.
    verdict : RunVerdict or None
        Prediction for the run; None if there was no prediction.
    """

    volume: Volume
    likeness: TrainingLikeness
    summary: RunSummary | None
    path: Path | None = None
    complete: bool = True
    deviation: Volume | None = None
    verdict: RunVerdict | None = None


def run_steps(
    prepared: PreparedRestoration,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    unfinished: Volume | None = None,
    unfinished_deviation: Volume | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Restore the whole volume tile by tile.

    If the uncertainty is estimated, the tiles also fill a second volume with standard
    deviations.

    Parameters
    ----------
    out : path, optional
        File to fill; standard deviations go to ``STEM_std.SUFFIX`` next to it. By
        default the result is kept in memory, or in a zarr array in the cache folder if
        it does not fit.
    first : tuple of slice, optional
        Region on screen, in voxels of the input, which is restored first.
    unfinished : Volume, optional
        Unfinished result of an earlier run with the same input, model and settings, to
        be resumed. Without `out`, the array of this volume is completed; with `out`,
        the file of this volume is removed at the end.
    unfinished_deviation : Volume, optional
        The standard deviations that belong to `unfinished`.

    Yields
    ------
    Step
        `TargetReady` with the volume being filled, and a `TileDone` per tile.

    Returns
    -------
    RestorationResult
        If `should_stop` returns True, the finished part, with ``complete=False``.

    Raises
    ------
    Cancelled
        If `should_stop` returns True before the first tile begins.
    ConfigError
        If `unfinished` belongs to another input, model or settings, or is not an
        unfinished restoration.
    GeoSRError
        If reading, computing or writing fails. The finished part of a file is then
        kept, as when the run is stopped, and the message gives its path.
    """
    steps = work_steps(
        VolumeRun(prepared),
        out=out,
        overwrite=overwrite,
        first=first,
        unfinished=unfinished,
        unfinished_deviation=unfinished_deviation,
        should_stop=should_stop,
    )
    return (yield from steps)


class VolumeRun:
    """A run that restores a single volume, tile by tile.

    Attributes
    ----------
    prepared : PreparedRestoration
        Its volume defines the axes and position of the result.
    single : PreparedRestoration
        Preparation of a single volume of a series; files are laid out for its tiles.
    """

    def __init__(
        self, prepared: PreparedRestoration, single: PreparedRestoration | None = None
    ) -> None:
        self.prepared = prepared
        self.single = prepared if single is None else single

    def models_text(self) -> str:
        """Return the models and number of runs, as text for the user."""
        return _models_text(self.prepared)

    def facts(self) -> AnyDict:
        """Return the record's entries that differ from those for a single volume."""
        return {}

    def doubts(self) -> Iterator[str]:
        """Yield sentences on how the run will treat unusual voxels."""
        yield from self.prepared.doubts()

    def output_layout(self, dtype: AnyDType) -> OutputLayout:
        """Return the layout of a file for a result of this type."""
        return output_layout(self.single, dtype)

    def fill(
        self,
        targets: Targets,
        first: tuple[slice, ...] | None,
        kept: FinishedPart | None,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, TileProgress]:
        """Restore the tiles; end early if stopped or if an error occurs."""
        return (yield from fill_tiles(self.prepared, targets, first, kept, should_stop))


def work_steps(
    work: VolumeRun,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    first: tuple[slice, ...] | None = None,
    unfinished: Volume | None = None,
    unfinished_deviation: Volume | None = None,
    late: LateVerdict | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorationResult]:
    """Run `work`, and store its result in memory or in a file; see `run_steps`.

    Parameters
    ----------
    work : VolumeRun
    out, overwrite, first, unfinished, unfinished_deviation, should_stop
        As in `run_steps`.
    late : LateVerdict, optional
        Predicts the effect of the run after its first tile, or, if the run is resumed,
        after its last.
    """
    prepared = work.prepared
    record = yield from record_steps(prepared, should_stop)
    expected = expected_volumes(prepared, record | work.facts())
    kept = None
    if unfinished is not None:
        kept = _common_parts(unfinished, unfinished_deviation, expected)
    watch = FileWatch([prepared.volume], only_lazy=True)
    stage = f"Restoring with {work.models_text()}"
    yield StageStarted(message=stage)
    # Keep the memory-saving allocator until the end, because the work after the tiles
    # (coarser levels) also needs memory.
    with (
        frugal_if_tight(prepared.device, prepared.budget),
        open_targets(expected, out, overwrite, kept, work.output_layout) as targets,
    ):
        deviation = None if targets.deviation is None else targets.deviation.volume
        finished = () if kept is None else kept[0].places
        yield TargetReady(
            volume=targets.result.volume, deviation=deviation, finished=finished
        )
        for sentence in work.doubts():
            yield WarningIssued(message=sentence)
        first_kept = None if kept is None else kept[0]
        journals = _journals(targets, kept)
        tiles = journaled_steps(
            work.fill(targets, first, first_kept, should_stop), journals
        )
        if late is not None:
            tiles = late.with_tiles(tiles, stage, journals, is_resumed=bool(finished))
        filled = yield from watch.steps(tiles)
        if not filled.complete:
            filled = replace(filled, places=targets.written(filled.places))
        predicted = {} if late is None else late.to_record()
        if any(target.cached for target in targets.all):
            for journal in journals:
                journal.commit()  # a later run can reuse it if this process is killed
        if filled.error is not None and (out is None or not filled.places):
            raise filled.error if out is None else without_finished_part(filled.error)
        for target, volume in zip(targets.all, expected, strict=True):
            done = {**volume.provenance[-1], **predicted}
            done |= {**filled.to_record(), **watch.to_record()}
            target.close_with(done, None if filled.complete else filled.places)
    kept_as = [t.path for t in targets.all if t.path is not None]
    if filled.error is not None:
        sentence = f"{filled.error} {kept_sentence(kept_as)}"
        raise type(filled.error)(sentence) from filled.error
    if not all(
        path.exists() for path in kept_as
    ):  # the run stopped while the disk was full
        raise FileError(
            f"{kept_as[0].name} could not be written. {kept_sentence(kept_as)}"
        )
    volumes = [target.from_file() for target in targets.all]
    if filled.complete:
        _remove_parts((unfinished, unfinished_deviation), targets)
    for note in targets.notes:
        yield WarningIssued(message=note)
    yield from _remarks(prepared, filled.summary)
    return RestorationResult(
        volumes[0],
        prepared.likeness,
        filled.summary,
        targets.result.path,
        filled.complete,
        volumes[1] if len(volumes) > 1 else None,
        prepared.verdict if late is None else late.verdict,
    )


def kept_sentence(paths: Sequence[Path]) -> str:
    """State where the finished part of a failed run is kept."""
    if not all(path.exists() for path in paths):
        return "The finished part is kept, and the run can be resumed."
    return f"The finished part is kept as {' and '.join(p.name for p in paths)}."


def _common_parts(
    unfinished: Volume, unfinished_deviation: Volume | None, expected: Sequence[Volume]
) -> list[FinishedPart]:
    """Return the finished part of each volume: the boxes finished in all volumes."""
    given = [
        unfinished,
        *([] if unfinished_deviation is None else [unfinished_deviation]),
    ]
    if len(given) != len(expected):
        missing = len(given) < len(expected)
        raise ConfigError(
            f"{unfinished.title} was started {'without' if missing else 'with'} "
            "standard deviations, but this run would "
            f"{'write' if missing else 'omit'} them: use the same settings, or "
            "start a new restoration."
        )
    parts = [
        finished_part(volume, one.provenance[-1], one.shape, one.dtype)
        for volume, one in zip(given, expected, strict=True)
    ]
    others = [BoxIndex(part.places) for part in parts[1:]]
    places = [box for box in parts[0].places if all(o.covers(box) for o in others)]
    return [replace(part, places=tuple(places)) for part in parts]


def _journals(targets: Targets, kept: Sequence[FinishedPart] | None) -> list[Journal]:
    """Return one journal per file.

    The journal of the result is written last, so that all of its boxes are also in the
    other journal.
    """
    parts: Sequence[FinishedPart | None] = kept or [None] * len(targets.all)
    pairs = zip(targets.all, parts, strict=True)
    return [
        begin_journal(filled, part)
        for target, part in reversed(list(pairs))
        if (filled := target.output or target.cached) is not None
    ]


def _remove_parts(parts: Sequence[Volume | None], targets: Targets) -> None:
    for part, target in zip(parts, targets.all, strict=False):
        if part is not None and target.path is not None:
            remove_unfinished(part, target.path)


def _models_text(prepared: PreparedRestoration) -> str:
    names = [model.card.name for model in (prepared.model, *prepared.others)]
    text = " and ".join(names)
    if prepared.has_deviation and not prepared.others:
        text += f", {len(prepared.network)} times"
    return text


@dataclass(frozen=True)
class TileProgress:
    """State of a run: finished tiles, statistics and errors.

    Attributes
    ----------
    places : list of tuple of slice
        Boxes of finished tiles in the output.
    backend : mapping or None
        Backend that computed the tiles, for the record.
    workers : mapping or None
        Processes that shared the work, for the record.
    samples : mapping or None
        Measurements of each sample of a diffusion model, for the record.
    """

    summary: RunSummary | None
    complete: bool
    places: list[tuple[slice, ...]]
    error: GeoSRError | None = None
    backend: AnyMapping | None = None
    workers: AnyMapping | None = None
    samples: AnyMapping | None = None

    def to_record(self) -> AnyDict:
        """Return the statistics for the provenance record."""
        run = None if self.summary is None else asdict(self.summary)
        record: AnyDict = {"run": run, "complete": self.complete}
        if self.backend is not None:
            record["backend"] = dict(self.backend)
        if self.workers is not None:
            record["workers"] = dict(self.workers)
        if self.samples is not None:
            record["porosity_samples"] = dict(self.samples)
        if not self.complete:
            record["finished"] = boxes_to_lists(self.places)
        return record if self.error is None else {**record, "error": str(self.error)}


def chosen_backend(
    config: RestoreConfig, kept: FinishedPart | None, n_runs: int = 1
) -> Choice:
    """Return the choice of the backend for a run; a resumed run keeps its backend.

    Parameters
    ----------
    config : RestoreConfig
    kept : FinishedPart or None
        Unfinished result of an earlier run.
    n_runs : int
        Number of runs that share the backend.
    """
    before = None if kept is None or not kept.places else kept.backend
    return Choice(cast("Any", before or config.backend), config.threads, n_runs)


def fill_tiles(
    prepared: PreparedRestoration,
    targets: Targets,
    first: tuple[slice, ...] | None,
    kept: FinishedPart | None,
    should_stop: ShouldStop,
    backend: Choice | None = None,
) -> Generator[Step, None, TileProgress]:
    """Restore the tiles into the targets; end early if stopped or if an error occurs.

    Parameters
    ----------
    backend : Choice, optional
        Shared choice of the backend; by default from the settings, or that of the
        resumed run.
    """
    if backend is None:
        backend = chosen_backend(prepared.config, kept)
    tiles = restore_tiles(
        prepared.network,
        prepared.volume.data,
        targets.result.array,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        nonfinite=prepared.config.nonfinite,
        priority_region=first,
        threads=prepared.config.threads,
        should_stop=should_stop,
        finished=() if kept is None else kept.places,
        preferred_tile=None if kept is None else kept.tile,
        deviation=None if targets.deviation is None else targets.deviation.array,
        backend=backend,
    )
    places = [] if kept is None else list(kept.places)
    try:
        with StepIterator(tiles) as iterator:
            for step in iterator:
                if isinstance(step, TileDone):
                    places.append(step.slices)
                yield step
    except Cancelled as stopped:
        summary = cast("RunSummary | None", stopped.summary)
        places += stopped.places
        return TileProgress(summary, False, places, backend=backend.facts())
    except GeoSRError as error:
        return TileProgress(None, False, places, error, backend.facts())
    return TileProgress(iterator.result, True, places, backend=backend.facts())


def _remarks(
    prepared: PreparedRestoration, summary: RunSummary | None
) -> Iterator[Step]:
    """Yield remarks for the user on the run."""
    if summary is None:
        return
    if summary.n_nonfinite and prepared.statistics.sampled:
        kept = "are labelled like all other voxels" if prepared.labels else "are NaN"
        yield WarningIssued(
            message=f"{summary.n_nonfinite} voxels of {prepared.volume.title} are NaN "
            f"or infinite, and {kept} in the result."
        )
    if summary.n_clipped:
        yield WarningIssued(
            message=f"{summary.n_clipped} voxels lay outside the range of "
            f"{prepared.output_dtype} and "
            "were clipped. Choose float32 output to keep them."
        )


def find_finished_part(prepared: PreparedRestoration) -> FinishedPart | None:
    """Find the unfinished result of a killed run with these settings in the cache.

    Pass its volume to `run_steps` as `unfinished`; the inputs are compared there.
    Results of runs with uncertainty estimation, or of series, are not found.
    """
    if prepared.has_deviation:
        return None
    facts = run_facts(prepared)
    volume = prepared.volume
    shape = tuple(n * s for n, s in zip(volume.shape, prepared.factors, strict=True))
    return part_of_killed_run(shape, prepared.output_dtype, facts)
