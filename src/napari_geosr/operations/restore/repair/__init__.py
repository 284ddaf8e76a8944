"""Repairs a restored OME-Zarr: finds damaged shards and recomputes them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.steps import (
    ShouldStop,
    Step,
    StepIterator,
    TargetReady,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.version import __version__
from napari_geosr.inference.members import NONE
from napari_geosr.io.formats.ome_zarr.verify import (
    ZarrCheck,
    check_steps,
    note_in_record,
)
from napari_geosr.io.unfinished_files.claims import claimed
from napari_geosr.io.unfinished_files.unfinished import (
    find_unfinished,
    taken_for_unfinished,
    usable_unfinished_steps,
)
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.restore.steps import restore_steps

#: Maximum number of damaged shards that a message names.
_MAX_NAMED = 5


@dataclass(frozen=True)
class Repair:
    """The damage that was found in a result and repaired.

    Attributes
    ----------
    path : Path
    n_shards : int
        Number of shards that were read.
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
        begun = None
        if not out.exists():
            begun = yield from usable_unfinished_steps(out)
        if begun is not None:  # an earlier repair was killed
            yield from _restore(job, out, (), should_stop)
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
            yield from _repair(job, found, should_stop)
    return Repair(out, found.n_shards, found.damaged)


def _repair(
    job: RestoreJob, found: ZarrCheck, should_stop: ShouldStop
) -> Generator[Step, None, None]:
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
    intact = list(_intact_tiles(record, stamp.shape, found.boxes))
    with taken_for_unfinished(out, stamp, intact):
        yield from _restore(job, out, found.damaged, should_stop)
    done = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "shards": list(found.damaged),
    }
    before = list(record.get("repaired") or [])
    note_in_record(out, {**record, "repaired": [*before, done]})


def _restore(
    job: RestoreJob, out: Path, damaged: Sequence[str], should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Restore the missing parts of `out`, after removing its `damaged` shards."""
    unfinished = find_unfinished(out)
    steps = restore_steps(
        job.data.open(),
        job.settings,
        out=out,
        unfinished=unfinished,
        should_stop=should_stop,
    )
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TargetReady) and unfinished.source is not None:
                # All checks have passed. Remove damaged shards: zarr would read them
                # before changing them.
                for name in damaged:
                    (unfinished.source / name).unlink(missing_ok=True)
            yield step
    if not iterator.result.complete:
        raise Cancelled(
            f"Stopped before {out.name} was completely repaired. Repeat the command."
        )


def _intact_tiles(
    record: AnyMapping, shape: Sequence[int], damaged: Sequence[Box]
) -> Iterator[Box]:
    """Yield the boxes of the run's tiles that contain no damaged voxels."""
    with suppress(KeyError, TypeError):
        tile = record["run"]["tile"]
        before = record["inputs"]["input"]["shape"]
        factors = [n // m for n, m in zip(shape, before, strict=True)]
        edges = [t * f for t, f in zip(tile[-len(shape) :], factors, strict=True)]
        grid = [range(math.ceil(n / e)) for n, e in zip(shape, edges, strict=True)]
        for index in itertools.product(*grid):
            box = tuple(
                slice(i * e, min((i + 1) * e, n))
                for i, e, n in zip(index, edges, shape, strict=True)
            )
            if not any(_overlap(box, other) for other in damaged):
                yield box


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
