"""Tables and sentences about jobs, for the commands that list and watch them."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.cli.kit.verbosity import quoted
from napari_geosr.core.errors import JobError
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyDict
from napari_geosr.core.version import __version__
from napari_geosr.io.unfinished_files.repairs import repair_text
from napari_geosr.jobs.cluster.queue_record import times
from napari_geosr.jobs.cost import cost_of
from napari_geosr.jobs.index import (
    describe_state,
    later_writer,
    later_writers,
    overwritten_text,
)
from napari_geosr.jobs.kinds import MAKE_MODELS
from napari_geosr.jobs.queues import NEVER_STARTS
from napari_geosr.jobs.status import main_reason, outage_text, reasons

if TYPE_CHECKING:
    from napari_geosr.jobs.cluster.queue_record import QueuePlace
    from napari_geosr.jobs.folder import JobFolder, JobStatus

#: Maximum length of a job's name on a narrow terminal, in characters.
_MAX_NAME_LENGTH = 12
#: Maximum length of a state on a narrow terminal; states from a queue may be longer.
_MAX_STATE_LENGTH = 24
#: Maximum length of a state if the output goes to a file or a pipe, in characters.
_MAX_LONG_STATE_LENGTH = 60
#: Minimum length of the path of a job's folder on a narrow terminal, in characters.
_MIN_FOLDER_LENGTH = 10
#: Maximum number of interrupted jobs, newest first, for which the reason is printed.
_MAX_EXPLAINED = 3
#: Maximum time, in seconds, since an interrupted job was last updated for its reason to
#: be printed; older ones are only counted.
_MAX_EXPLAINED_AGE = 7 * 86_400


def table(jobs: Sequence[JobStatus], width: int | None) -> list[str]:
    """Format one line per job; paths are shortened at the start to fit `width`."""
    rows = [("name", "method", "state", "queue", "steps", "begun", "folder")]
    overwritten = later_writers(jobs)
    for status in jobs:
        begun = datetime.fromtimestamp(status.created)
        place = status.queue
        rows.append(
            (
                status.name,
                status.method,
                _state(status, is_overwritten=status.path in overwritten),
                f"{place.title} {place.number}" if place.number else "–",
                f"{status.done}/{status.total}" if status.total else "–",
                begun.strftime("%Y-%m-%d %H:%M" if width is None else "%m-%d"),
                str(status.path),
            )
        )
    if not any(status.queue.number for status in jobs):
        rows = [(*row[:3], "", *row[4:]) for row in rows]
    longest = _MAX_LONG_STATE_LENGTH if width is None else _MAX_STATE_LENGTH
    rows = [(*row[:2], _shorten(row[2], longest), *row[3:]) for row in rows]
    if width is not None:
        rows = [(_shorten(row[0]), *row[1:]) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row[:-1], widths[:-1], strict=True)
        start = "".join(f"{text:<{n}}  " for text, n in cells if n)
        room = None if width is None else max(_MIN_FOLDER_LENGTH, width - len(start))
        lines.append(start + _shorten(row[-1], room, at_end=False))
    return lines


def _state(status: JobStatus, *, is_overwritten: bool) -> str:
    """Describe the state of a job, with its number of warnings once it has ended."""
    words, n = [describe_state(status)], status.n_warnings
    if is_overwritten:
        words.append("overwritten")
    if n and not status.is_alive:
        words.append(f"{n} warning{'s' if n > 1 else ''}")
    return ", ".join(words)


def _shorten(
    text: str, room: int | None = _MAX_NAME_LENGTH, *, at_end: bool = True
) -> str:
    """Shorten `text` to `room` characters, with an ellipsis."""
    if room is None or len(text) <= room:
        return text
    return f"{text[: room - 1]}…" if at_end else f"…{text[1 - room :]}"


def explanations(jobs: Sequence[JobStatus]) -> list[str]:
    """Describe what is wrong with jobs.

    The jobs described are those that are damaged, will not start or have overwritten
    results, and the newest of those that were interrupted in the last few days.
    """
    texts = [
        f"{job.name}: {job.message}"
        for job in jobs
        if job.state in ("damaged", "unreadable")
    ]
    texts += [
        f"{job.name}: {job.queue.words}."
        for job in jobs
        if job.state == "queued" and job.queue.words.startswith(NEVER_STARTS)
    ]
    interrupted = [job for job in jobs if job.state == "interrupted"]
    latest = time.time() - _MAX_EXPLAINED_AGE
    explained = [job for job in interrupted if job.updated > latest][:_MAX_EXPLAINED]
    texts += [f"{job.name} was interrupted: {main_reason(job)}" for job in explained]
    more = len(interrupted) - len(explained)
    if more and explained:
        texts.append(f"{counted(more, 'more interrupted job')}.")
    if explained:
        texts.append(
            "`napari-geosr jobs show FOLDER` gives all details of an interrupted job, "
            "and the command that resumes it."
        )
    overwritten = later_writers(jobs)
    known = [job for job in jobs if job.path in overwritten]
    texts += [overwritten_text(job, overwritten[job.path]) for job in known]
    return texts


def all_reasons(status: JobStatus) -> list[str]:
    """Explain why a job is not done, or what has happened to its result since."""
    texts = reasons(status)
    if status.state == "done" and (later := later_writer(status)) is not None:
        texts.append(overwritten_text(status, later))
    if status.state == "done" and status.result is not None:
        text = repair_text(status.result.resolve())
        texts += [text] if text else []
    return texts


def queue_text(place: QueuePlace) -> str:
    """Return the queue and number of a job, and how often it was resubmitted."""
    text = f"{place.title} job {place.number}"
    if place.resubmitted:
        text += f", resubmitted {times(place.resubmitted)} after reaching its walltime"
    return text


def outages(jobs: Sequence[JobStatus]) -> list[str]:
    """Return why queues could not be queried, and when their state was last known."""
    found: dict[tuple[str, str], QueuePlace] = {}
    for job in jobs:
        place = job.queue
        if outage_text(job):
            known = found.setdefault((place.title, place.problem), place)
            if place.checked < known.checked:
                found[place.title, place.problem] = place
    return [place.outage for place in found.values()]


def environment_text(status: JobStatus) -> str:
    """State which Python interpreter resumes a queued job on this computer."""
    return (
        f"{status.name} was submitted to {status.queue.title or 'a queue'}. It is now "
        f"resumed on this computer with {sys.executable} (napari-geosr {__version__}), "
        "without the Python interpreter and the setup commands of its profile."
    )


def resume_hint(status: JobStatus) -> str:
    """Return the command that resumes a job, and the settings that can be changed."""
    text = f"Resume it with: napari-geosr jobs resume {quoted(status.path)}"
    if status.state == "failed" and status.queue.longer:
        text += f" --walltime {status.queue.longer}"
    if status.operation not in MAKE_MODELS:
        return text
    return f"{text} (--learning-rate, --batch-size and --steps can be changed)"


def kept_results(job: JobFolder) -> list[str]:
    """Return sentences on results outside the folder of a job that is to be removed."""
    out: object = None
    with suppress(JobError):  # the settings may be unreadable
        out = job.values().get("out")
    if not isinstance(out, str) or Path(out).is_relative_to(job.path):
        return []
    if job.status().state == "done" and Path(out).exists():
        return [f"Its result is kept: {out}"]
    return []


def values_of(status: JobStatus) -> AnyDict:
    """Return the state of a job as values for JSON."""
    values = asdict(status)
    values["path"] = str(status.path)
    values["result"] = None if status.result is None else str(status.result)
    if (cost := cost_of(status)) is not None:
        values["energy"] = cost.text
    return values
