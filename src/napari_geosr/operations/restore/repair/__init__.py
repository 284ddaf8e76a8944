"""Repairs a restored OME-Zarr: finds damaged shards and recomputes them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from napari_geosr.core.array_parts.boxes import Box, boxes_from_lists
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, GeoSRError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.version import __version__
from napari_geosr.inference.members import NONE
from napari_geosr.io.formats.ome_zarr.verify import ZarrCheck, check_steps
from napari_geosr.io.unfinished_files.claims import claimed
from napari_geosr.io.unfinished_files.repairs import (
    RepairNote,
    finish_repair,
    read_note,
    return_repaired,
    under_repair,
)
from napari_geosr.io.unfinished_files.unfinished import (
    clear,
    find_unfinished,
    usable_unfinished_steps,
)
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.restore.steps import restore_steps

#: Maximum number of damaged shards that a message names.
_MAX_NAMED = 5
#: Entries of the record of an unfinished run.
_UNFINISHED = ("complete", "finished", "error")


@dataclass(frozen=True)
class Repair:
    """The damage that was found in a result and repaired.

    Attributes
    ----------
    path : Path
    n_shards : int
        Number of shards of all levels.
    damaged : tuple of str
        Files of the damaged shards, relative to `path`; all of them were repaired.
    """

    path: Path
    n_shards: int
    damaged: tuple[str, ...]


def repair_steps(
    job: RestoreJob, folder: Path, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Repair]:
    """Check all shards of a job's result, and recompute the damaged ones.

    Parameters
    ----------
    job : RestoreJob
        Job with the same source and model as the result.
    folder : Path
        Folder of the job.

    Raises
    ------
    ConfigError
        If the result cannot be repaired in parts, or the source, the model or the
        settings have changed since it was made. The result is then left unchanged.
    FileError, ModelError
        If the result, the source or the model cannot be read.
    Cancelled
        If `should_stop` returns True; shards repaired so far are kept.
    """
    out = job.result(folder)
    with claimed(out):
        return_repaired(out)  # in case an earlier repair was killed
        clear(out)
        begun = None
        if not out.exists():
            begun = yield from usable_unfinished_steps(out)
        if begun is not None:
            yield from _restore(job, out, should_stop)
        if not out.is_dir():
            raise FileError(
                f"{out} does not exist or is not an OME-Zarr. Only OME-Zarrs have "
                "checksums and can be repaired. Restore it again (--overwrite)."
            )
        found = yield from check_steps(out, should_stop)
        if not found.has_checksums:
            yield WarningIssued(
                message=f"{out.name} was written without checksums by an earlier "
                "release: only damage that prevents decoding was found."
            )
        if found.damaged:
            yield WarningIssued(message=_named(found))
        earlier = read_note(out)
        if not found.damaged and earlier is None and _finished(found) is None:
            return Repair(out, found.n_shards, ())
        return (yield from _repair(job, found, earlier, should_stop))


def _repair(
    job: RestoreJob,
    found: ZarrCheck,
    earlier: RepairNote | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, Repair]:
    """Repair a file, or complete an `earlier` repair of it."""
    out, stamp = found.path, found.stamp
    record = {} if stamp is None or not stamp.provenance else stamp.provenance[-1]
    if stamp is None or record.get("operation") != "restore":
        raise ConfigError(
            f"{out.name} does not record how it was restored, so its damaged shards "
            "cannot be computed again."
        )
    if job.settings.uncertainty != NONE or is_series(job.data.open()):
        raise ConfigError(
            f"{out.name} is a series or has standard deviations, so it cannot be "
            "repaired in parts. Restore it again (--overwrite)."
        )
    note = _note(found, record, earlier)
    # The record of a complete run is written last: if it exists, only the note remains
    # to be removed.
    if found.damaged or record.get("complete") is not True:
        if earlier is not None:
            n = counted(len(note.damaged), "shard")
            yield StageStarted(message=f"Resuming the repair of {n} of {out.name}")
        history = (*stamp.provenance[:-1], note.record)
        with under_repair(out, replace(stamp, provenance=history), note):
            yield from _restore(job, out, should_stop)
    done = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "shards": list(note.damaged),
    }
    before = list(note.record.get("repaired") or [])
    finish_repair(out, {**note.record, "repaired": [*before, done]})
    return Repair(out, note.n_shards, note.damaged)


def _note(
    found: ZarrCheck, record: AnyMapping, earlier: RepairNote | None
) -> RepairNote:
    """Return the note of a repair that also completes an earlier one."""
    assert found.stamp is not None, "checked by the caller"
    finished = _finished(found)
    if earlier is not None:
        # The earlier repair had begun.
        if finished is None and "complete" not in record:
            finished = earlier.intact
        names = tuple(dict.fromkeys((*earlier.damaged, *found.damaged)))
        record, n_shards = earlier.record, max(earlier.n_shards, found.n_shards)
    else:
        names, n_shards = found.damaged, found.n_shards
        record = {key: record[key] for key in record if key not in _UNFINISHED}
        record["complete"] = True
    if finished is None:
        finished = tuple(_tiles(record, found.stamp.shape))
    intact = [box for box in finished if not any(_overlap(box, o) for o in found.boxes)]
    return RepairNote(record, names, n_shards, tuple(intact))


def _finished(found: ZarrCheck) -> tuple[Box, ...] | None:
    """Return the finished boxes of a file that was repaired only in part, or None."""
    history = () if found.stamp is None else found.stamp.provenance
    last = history[-1] if history else {}
    if last.get("complete") is not False or "finished" not in last:
        return None
    return tuple(boxes_from_lists(last["finished"]))


def _restore(
    job: RestoreJob, out: Path, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Restore the missing parts of `out`."""
    steps = restore_steps(
        job.data.open(),
        job.settings,
        out=out,
        unfinished=find_unfinished(out),
        should_stop=should_stop,
    )
    try:
        with StepIterator(steps) as iterator:
            yield from iterator
    except GeoSRError as error:
        cause = error.__cause__
        if not isinstance(cause, GeoSRError):
            raise
        # Replace the message of the error, because it names a file that is moved back
        # to `out`.
        raise type(cause)(
            f"{cause} {out.name} is repaired only in part. Repeat the command."
        ) from cause
    if not iterator.result.complete:
        raise Cancelled(
            f"Stopped before {out.name} was completely repaired. Repeat the command."
        )


def _tiles(record: AnyMapping, shape: Sequence[int]) -> Iterator[Box]:
    """Yield the boxes of the run's tiles."""
    with suppress(KeyError, TypeError):
        tile = record["run"]["tile"]
        before = record["inputs"]["input"]["shape"]
        factors = [n // m for n, m in zip(shape, before, strict=True)]
        edges = [t * f for t, f in zip(tile[-len(shape) :], factors, strict=True)]
        grid = [range(math.ceil(n / e)) for n, e in zip(shape, edges, strict=True)]
        for index in itertools.product(*grid):
            yield tuple(
                slice(i * e, min((i + 1) * e, n))
                for i, e, n in zip(index, edges, shape, strict=True)
            )


def _overlap(one: Box, other: Box) -> bool:
    return all(
        a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True)
    )


def _named(found: ZarrCheck) -> str:
    """Return text for the user that names the damaged shards."""
    n = len(found.damaged)
    names = ", ".join(found.damaged[:_MAX_NAMED])
    more = f" and {n - _MAX_NAMED:,} more" if n > _MAX_NAMED else ""
    are = "is" if n == 1 else "are"
    return (
        f"{n:,} of {found.n_shards:,} shards of {found.path.name} {are} damaged or "
        f"missing: {names}{more}."
    )
