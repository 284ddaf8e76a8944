"""Tables and sentences about jobs, for the commands that list and watch them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.cli.kit.verbosity import quoted
from napari_geosr.core.errors import JobError
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.jobs.index import describe_state
from napari_geosr.jobs.kinds import MAKE_MODELS
from napari_geosr.jobs.queues import NEVER_STARTS

if TYPE_CHECKING:
    from napari_geosr.jobs.folder import JobFolder, JobStatus

#: Maximum length of a job's name on a narrow terminal, in characters.
_MAX_NAME_LENGTH = 12
#: Maximum length of a state on a narrow terminal; states from a queue may be longer.
_MAX_STATE_LENGTH = 24
#: Minimum length of the path of a job's folder on a narrow terminal, in characters.
_MIN_FOLDER_LENGTH = 10
#: Maximum number of interrupted jobs, the newest first, that are explained.
_MAX_EXPLAINED = 3
#: Number of bytes at the end of a log in which its last line is found.
_LOG_END = 4096
#: Maximum length of a line from a log, in characters.
_MAX_LINE_LENGTH = 300


def table(jobs: Sequence[JobStatus], width: int | None) -> list[str]:
    """Format one line per job; paths are shortened at the start to fit `width`."""
    rows = [("name", "method", "state", "queue", "steps", "begun", "folder")]
    for status in jobs:
        begun = datetime.fromtimestamp(status.created)
        place = status.queue
        rows.append(
            (
                status.name,
                status.method,
                describe_state(status),
                f"{place.title} {place.number}" if place.number else "–",
                f"{status.done}/{status.total}" if status.total else "–",
                begun.strftime("%Y-%m-%d %H:%M" if width is None else "%m-%d"),
                str(status.path),
            )
        )
    if not any(status.queue.number for status in jobs):
        rows = [(*row[:3], "", *row[4:]) for row in rows]
    if width is not None:
        rows = [
            (_shorten(row[0]), row[1], _shorten(row[2], _MAX_STATE_LENGTH), *row[3:])
            for row in rows
        ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row[:-1], widths[:-1], strict=True)
        start = "".join(f"{text:<{n}}  " for text, n in cells if n)
        room = None if width is None else max(_MIN_FOLDER_LENGTH, width - len(start))
        lines.append(start + _shorten(row[-1], room, at_end=False))
    return lines


def _shorten(
    text: str, room: int | None = _MAX_NAME_LENGTH, *, at_end: bool = True
) -> str:
    """Shorten `text` to `room` characters, with an ellipsis."""
    if room is None or len(text) <= room:
        return text
    return f"{text[: room - 1]}…" if at_end else f"…{text[1 - room :]}"


def explanations(jobs: Sequence[JobStatus]) -> list[str]:
    """Describe what is wrong with jobs.

    These are damaged jobs, jobs that will not start, and the newest interrupted jobs.
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
    texts += [
        f"{job.name}: {' '.join([*reasons(job), resume_hint(job)])}"
        for job in interrupted[:_MAX_EXPLAINED]
    ]
    if (more := len(interrupted) - _MAX_EXPLAINED) > 0:
        texts.append(
            f"{more} more interrupted job{'s' if more > 1 else ''}: `napari-geosr jobs "
            "show FOLDER` gives the reason."
        )
    return texts


def reasons(status: JobStatus) -> list[str]:
    """Return sentences on why a job is not done; empty if there is nothing to explain.

    For a job that was interrupted, the last line of its log is quoted.
    """
    texts = [status.message] if status.message else []
    if status.state != "interrupted":
        return texts
    if not texts:
        which = f" (process {status.pid} on {status.host})" if status.pid else ""
        texts = [f"Its process{which} ended without giving a reason."]
    log = status.path / "log.txt"
    if line := _last_line(log):
        texts.append(f"Last line of {log}: {line}")
    return texts


def _last_line(path: Path) -> str:
    """Return the last line of a log that is not empty."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LOG_END))
            content = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return "".join(c for c in last if c.isprintable())[:_MAX_LINE_LENGTH]


def resume_hint(status: JobStatus) -> str:
    """Return the command that resumes a job, and what can be changed."""
    text = f"Resume it with: napari-geosr jobs resume {quoted(status.path)}"
    if status.operation not in MAKE_MODELS:
        return text
    return f"{text} (--learning-rate, --batch-size and --steps can be changed)"


def kept_results(job: JobFolder) -> list[str]:
    """Return sentences on results outside the folder of a job that is to be removed."""
    out: object = None
    with suppress(JobError):  # the settings cannot be read
        out = job.values().get("out")
    if not isinstance(out, str) or Path(out).is_relative_to(job.path):
        return []
    if job.status().state == "done" and Path(out).exists():
        return [f"Its result is kept: {out}"]
    part = incomplete_path(Path(out))
    return [f"Its unfinished result is kept: {part}"] if part.exists() else []
