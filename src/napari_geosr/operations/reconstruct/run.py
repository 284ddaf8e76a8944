"""Reconstructs a whole scan block by block, into memory or a file; writes a record."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.array_parts.boxes import boxes_to_lists
from napari_geosr.core.errors import Cancelled, GeoSRError, ProjectionsError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TargetReady,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import frugal_if_tight
from napari_geosr.io.unfinished_files.journal import Journal
from napari_geosr.io.unfinished_files.unfinished import remove_unfinished
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.reconstruct.blocks import BlockRun, Slices, block_steps
from napari_geosr.operations.reconstruct.resume import (
    as_volume,
    boxes_of,
    finished_part,
    joined,
    rows_of,
    scan_entry_steps,
)
from napari_geosr.operations.reconstruct.scan import ReconstructionInput
from napari_geosr.operations.reconstruct.workers import SlabRun
from napari_geosr.operations.restore.resume import FinishedPart, begin_journal
from napari_geosr.operations.restore.run import kept_sentence
from napari_geosr.operations.restore.targets import without_finished_part
from napari_geosr.operations.storage import array_for
from napari_geosr.tomography.algorithms import titles
from napari_geosr.tomography.centre import Centre

if TYPE_CHECKING:
    from napari_geosr.io.output import Output

#: Maximum number of slices per chunk of an OME-Zarr.
_MAX_CHUNK_SLICES = 4
#: Maximum size of the slices in a chunk, in bytes.
_MAX_CHUNK_BYTES = 64 * 1024**2


@dataclass(frozen=True, eq=False)
class ReconstructionResult:
    """Result of a run: volume, rotation axis and statistics.

    Attributes
    ----------
    volume : Volume
        Attenuation per unit of the voxel size, (Z, Y, X), float32.
    centre : Centre
    summary : mapping
        Duration, rows per block, number of clipped values and other statistics.
    path : Path or None
        The file, if there is one.
    complete : bool
        False if the run was stopped: the volume then holds the finished slices.
    """

    volume: Volume
    centre: Centre
    summary: AnyDict
    path: Path | None = None
    complete: bool = True


def run_steps(
    ready: ReconstructionInput,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    unfinished: Volume | None = None,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ReconstructionResult]:
    """Reconstruct all rows, block by block.

    Parameters
    ----------
    out : path, optional
        File to fill. By default the result is kept in memory, or in a zarr array in the
        cache folder if it does not fit.
    unfinished : Volume, optional
        Unfinished result of an earlier run with the same projections and settings, to
        be resumed. Without `out`, the array of this volume is completed; with `out`,
        the file of this volume is removed at the end.
    workers : int or distributed.Client, optional
        Processes that share the slices; by default, this process reconstructs all
        slices.

    Yields
    ------
    Step
        `TargetReady` with the volume being filled, `IterationDone` and `TileDone`.

    Returns
    -------
    ReconstructionResult
        If `should_stop` returns True, the finished part, with ``complete=False``.

    Raises
    ------
    Cancelled
        If `should_stop` returns True before the first block is finished.
    ConfigError
        If `unfinished` belongs to another run.
    GeoSRError
        If reading, computing or writing fails. Unless the projections are invalid, the
        finished part of a file is then kept, as when the run is stopped, and the
        message gives its path.
    """
    shared = None if workers is None else _shared(ready, workers)
    record = yield from record_steps(ready, should_stop)
    kept = (
        None if unfinished is None else finished_part(unfinished, record, ready.shape)
    )
    # Until the end, the record states that nothing is finished, as a full disk may
    # prevent any later update.
    history = (*ready.given.provenance, {**record, "finished": []})
    watch = FileWatch([as_volume(ready.given)], only_lazy=True)
    yield StageStarted(
        message=f"Reconstructing with the axis at column {ready.centre.column:.2f}: "
        f"{titles()[ready.config.algorithm]}"
    )
    part = None if unfinished is None else unfinished.source
    with _target(ready, out, history, overwrite, kept, part) as (array, output):
        result = Volume(
            array,
            "ZYX",
            ready.voxel_size,
            ready.scan.unit,
            ready.origin,
            name=f"{ready.given.name} · {ready.config.algorithm}",
            provenance=history,
            metadata={"values": f"attenuation per {ready.scan.unit}"},
        )
        yield TargetReady(volume=result)
        journal = None if output is None else begin_journal(output, kept)
        filled = yield from watch.steps(
            _fill(ready, array, journal, kept, shared, should_stop)
        )
        if output is not None and not filled.complete:
            planes = [(i, i + 1) for a, b in filled.rows for i in range(a, b)]
            boxes = [box for plane in planes for box in boxes_of([plane], ready.shape)]
            rows = [(box[0].start, box[0].stop) for box in output.written(boxes)]
            filled = replace(filled, rows=joined(rows))
        # Slices from invalid projections must not be reused once the projections are
        # corrected.
        useless = isinstance(filled.error, ProjectionsError)
        if not filled.complete and (output is None or not filled.rows or useless):
            if filled.error is not None:
                raise filled.error if useless else without_finished_part(filled.error)
            if not filled.rows:
                raise Cancelled("Stopped before the first slices were finished.")
        done = {**record, **filled.to_record(ready), **watch.to_record()}
        if shared is not None:
            done["workers"] = shared.facts
        result = result.replace(provenance=(*ready.given.provenance, done))
        path = None if output is None else Path(str(out))
        if output is not None:
            output.provenance = result.provenance
            if not filled.complete:
                output.blank(boxes_of(filled.rows, ready.shape))
                path = output.keep_incomplete()
    is_kept = path is not None and path.exists()
    if is_kept and unfinished is not None and unfinished.source != path:
        remove_unfinished(unfinished, Path(str(out)))
    if filled.error is not None:
        assert path is not None
        message = f"{filled.error} {kept_sentence([path])}"
        raise type(filled.error)(message) from filled.error
    if path is not None:
        result = io.read_back(path).replace(name=result.name, metadata=result.metadata)
    if output is not None and output.note:
        yield WarningIssued(message=output.note)
    for line in filled.run.report.summary_lines():
        if line not in filled.run.report.notes:  # the notes have already been reported
            yield WarningIssued(message=line)
    return ReconstructionResult(
        result, ready.centre, filled.summary, path, complete=filled.complete
    )


def _shared(ready: ReconstructionInput, workers: Workers) -> SlabRun:
    """Prepare a run with several processes; refuse slices that exceed their memory."""
    check_workers(workers)
    run = SlabRun(ready, workers)
    run.check_memory()
    return run


@dataclass(frozen=True)
class _BlockProgress:
    """State of a run: finished rows, statistics, duration and error."""

    run: BlockRun
    rows: list[tuple[int, int]]
    complete: bool
    seconds: float
    error: GeoSRError | None = None

    @property
    def summary(self) -> AnyDict:
        """Statistics for the user, including those that vary from run to run."""
        return {
            "seconds": round(self.seconds, 3),
            "rows_per_block": self.run.block,
            "retries": self.run.retries,
            **self.run.to_record(complete=True),
        }

    def to_record(self, ready: ReconstructionInput) -> AnyDict:
        """Return the statistics for the provenance record."""
        counted = self.run.to_record(self.complete)
        run = {"seconds": round(self.seconds, 3), **counted}
        record: AnyDict = {"run": run, "complete": self.complete}
        if not self.complete:
            boxes = boxes_of(self.rows, ready.shape)
            record["finished"] = boxes_to_lists(boxes)
        return record if self.error is None else {**record, "error": str(self.error)}


def _fill(
    ready: ReconstructionInput,
    array: Any,
    journal: Journal | None,
    kept: FinishedPart | None,
    shared: SlabRun | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, _BlockProgress]:
    """Fill `array`; end early if stopped or if an error occurs."""
    begun = time.monotonic()
    before = [] if kept is None else rows_of(kept)
    run = BlockRun() if kept is None else BlockRun.resumed(kept.run)

    def write(rows: tuple[int, int], slices: Slices) -> None:
        array[slice(*rows)] = slices

    def current_progress(
        complete: bool, error: GeoSRError | None = None
    ) -> _BlockProgress:
        seconds = time.monotonic() - begun
        return _BlockProgress(run, [*before, *run.rows], complete, seconds, error)

    if shared is None:
        blocks = block_steps(ready, before, run, write, should_stop)
    else:
        blocks = shared.steps(before, run, write, should_stop)
    try:
        with frugal_if_tight(ready.device, ready.budget):
            for step in blocks:
                if isinstance(step, TileDone) and journal is not None:
                    journal.note(step.slices, {"run": run.to_record(False)})
                yield step
    except Cancelled:
        return current_progress(False)
    except GeoSRError as error:
        return current_progress(False, error)
    finally:
        blocks.close()
    return current_progress(True)


@contextmanager
def _target(
    ready: ReconstructionInput,
    out: str | Path | None,
    history: tuple[Any, ...],
    overwrite: bool,
    kept: FinishedPart | None,
    part: Path | None,
) -> Iterator[tuple[Any, Output | None]]:
    """Return the array to fill and, for a file, the output that contains it.

    `part` is the file that contains `kept`.
    """
    if out is None:
        if kept is not None:
            yield kept.writable(), None
            return
        # napari shows NaN as transparent and statistics ignore it, so that unfinished
        # slices are not mistaken for pores.
        yield array_for(ready.shape, np.dtype(np.float32), np.nan), None
        return
    with io.create(
        out,
        io.OutputSpec(
            shape=ready.shape,
            dtype=np.float32,
            axes="ZYX",
            voxel_size=ready.voxel_size,
            unit=ready.scan.unit,
            origin=ready.origin,
            provenance=history,
            tile=(_chunk_depth(ready), ready.size, ready.size),
        ),
        overwrite=overwrite,
        continues=part,
    ) as file:
        yield file.array, file


def _chunk_depth(ready: ReconstructionInput) -> int:
    """Return the number of slices per chunk, which does not depend on the blocks."""
    plane = 4 * ready.size**2
    return max(1, min(_MAX_CHUNK_SLICES, _MAX_CHUNK_BYTES // plane))


def record_steps(
    ready: ReconstructionInput, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Create the record of the run, reading the input once for its checksum."""
    import torch

    scan = ready.scan
    entry = yield from scan_entry_steps(ready.given, should_stop)
    record = yield from provenance.record_steps(
        "reconstruct",
        should_stop=should_stop,
        inputs={},
        # The result does not depend on the memory setting, which is therefore not
        # recorded.
        settings=ready.config.model_dump(mode="json", exclude={"memory"}),
        algorithm=ready.algorithm.model_dump(mode="json"),
        centre={
            "column": float(ready.centre.column),
            "method": ready.centre.method,
            "contrast": float(ready.centre.contrast),
        },
        used={
            "projections": scan.n_angles,
            "first_angle": float(scan.angles.min()),
            "last_angle": float(scan.angles.max()),
            "rows": [ready.first_row, ready.first_row + scan.n_rows],
            "joined_full_turn": ready.joined,
            "incident": ready.incident,
        },
        values=f"attenuation per {scan.unit}",
        device=ready.device,
        torch=torch.__version__,
        # Set to True only at the end of the run, so that the record is correct after
        # any failure.
        complete=False,
    )
    return {**record, "inputs": {"input": entry}}
