"""Index of the jobs on this machine: one small file per job with its path."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_state_path

from napari_geosr.core.errors import FileError, JobError
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.journal import remove_with_journal
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.job_files import (
    foreign_files,
    job_files,
    unfinished_results,
)
from napari_geosr.jobs.kinds import MAKE_MODELS
from napari_geosr.jobs.status import is_stopping, stopping_text

#: Maximum number of files named in a message.
_MAX_NAMES = 3
#: States of folders that might not be jobs: only their list entries are removed.
UNVERIFIED = ("missing", "damaged", "unreadable")
#: Displayed names of states that are not self-explanatory.
STATE_WORDS = {
    "queued": "waiting",
    "finishing": "judging",
    "missing": "gone or moved",
}


class Elsewhere(NamedTuple):
    """A job on another computer: the computer, and the job's folder there."""

    host: str
    folder: str


def describe_state(status: JobStatus) -> str:
    """Describe the state of a job, also in its queue, for lists and docks."""
    if is_stopping(status):
        return "stopping" if status.request == "cancel" else "pausing"
    words, place = STATE_WORDS.get(status.state, status.state), status.queue
    if not place.queue or not status.is_alive:
        return words
    if status.state == "queued":
        is_starting = place.words in ("running", "launching")
        words = (
            "starting" if is_starting else place.words or f"waiting in {place.title}"
        )
    elif place.words == "suspended":
        words = f"suspended by {place.title}"
    if status.silence:
        words = status.silence
    parts = [words]
    if place.resubmitted:
        times = queue_record.times(place.resubmitted)
        parts.append(f"walltime reached, resubmitted {times}")
        if status.total:
            parts.append(f"{100 * status.done // status.total} % done")
    return ", ".join(parts)


def in_use_text(status: JobStatus, action: str) -> str:
    """Explain why a waiting or running job cannot be removed, resumed or changed.

    Parameters
    ----------
    action : str
        What was requested, as a passive infinitive such as "be removed".
    """
    if is_stopping(status):
        return stopping_text(status)
    if status.is_unfinished_in_queue:
        return (
            f"{status.name} is {status.state}, but {status.queue.title} has not ended "
            f"job {status.queue.number} yet, and may start it again, so it cannot "
            f"{action}. Try again in a few seconds, or stop it: napari-geosr jobs stop "
            f"{status.path}"
        )
    return (
        f"{status.name} is {describe_state(status)}, so it cannot {action}. Stop it "
        f"first: napari-geosr jobs stop {status.path}"
    )


def index_folder() -> Path:
    """Return the folder of the list of known jobs."""
    return user_state_path("napari-geosr", appauthor=False) / "jobs"


def register(job: JobFolder, *, elsewhere: Elsewhere | None = None) -> None:
    """Add a job to the list; if it was moved, replace its previous entry.

    Parameters
    ----------
    elsewhere : Elsewhere, optional
        Computer to which the job was submitted; by default the one in the list, if any.
    """
    folder = index_folder()
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    status = job.status()
    elsewhere = elsewhere or elsewhere_of(job.path)
    text = json.dumps(
        {
            "path": str(job.path),
            "name": status.name,
            "operation": status.operation,
            "method": status.method,
            "created": status.created,
            "elsewhere": None if elsewhere is None else list(elsewhere),
        }
    )
    atomic.write_text(_entry(job.path), text, overwrite=True, durable=False)
    for other in list_jobs():
        if other.state == "missing" and _is_same(other, status):
            forget(other.path)


def _is_same(one: JobStatus, other: JobStatus) -> bool:
    """Return whether two folders hold the same job, by name and creation time."""
    return (one.name, one.created) == (other.name, other.created)


def is_listed(path: Path) -> bool:
    """Return whether the list has an entry for this folder."""
    return _entry(path).exists()


def elsewhere_of(path: Path) -> Elsewhere | None:
    """Return the computer to which a folder's job was submitted over ssh, if any."""
    try:
        match _facts(_entry(path)).get("elsewhere"):
            case [str(host), str(folder)]:
                return Elsewhere(host, folder)
    except (OSError, ValueError):
        pass
    return None


def forget(path: Path) -> None:
    """Remove a job from the list; its folder is kept."""
    _entry(path).unlink(missing_ok=True)


def remove(job: JobFolder, *, keep_foreign: bool = False) -> list[Path]:
    """Delete a job's folder with its checkpoints and its model.

    The unfinished result of a job that has not finished is deleted wherever it is;
    finished results outside the folder are kept.

    Parameters
    ----------
    keep_foreign : bool
        Whether to keep files in the folder that do not belong to the job; if False and
        there are such files, an error is raised.

    Returns
    -------
    list of Path
        The files kept, relative to the folder.

    Raises
    ------
    JobError
        If a file cannot be deleted; or if a process is running the job, the job is in a
        queue, or the folder contains other files or may not be a job. In the latter
        cases, nothing is deleted.
    """
    if not job.is_verified():
        raise JobError(
            f"{job.path} was not deleted: its job.json is missing or damaged, or its "
            "config.yaml names no operation, so it may not be a job. If it is one, "
            "delete it by hand."
        )
    try:
        queue_record.read_record(job.path)
    except FileError as error:  # the job may be in a queue
        raise JobError(f"{job.path} was not deleted: {error}") from error
    status = job.status()
    is_in_use = status.is_alive and (status.pid or status.queue.number)
    if is_in_use or status.is_unfinished_in_queue:
        raise JobError(in_use_text(status, "be removed"))
    foreign = foreign_files(job.path)
    if foreign and not keep_foreign:
        raise JobError(
            f"{job.path} also contains files that are not part of the job: "
            f"{format_names(foreign)}. Move them to another folder first, or delete "
            "only the job's own files (--force)."
        )
    with job.hold():
        # This raises an error if a process of the job has just started or is still
        # ending.
        pass
    try:
        unfinished = unfinished_results(job)
        if foreign:
            _delete_job_files(job.path)
        else:
            shutil.rmtree(job.path)
        for part in unfinished:
            remove_with_journal(part)
    except OSError as error:
        raise JobError(
            f"{job.path} could not be deleted completely: {error.strerror}. Check its "
            "permissions, and whether another program has any of its files open."
        ) from error
    forget(job.path)
    return foreign


def format_names(files: Sequence[Path]) -> str:
    """List the first few files for a message, and state how many others there are."""
    first = ", ".join(str(path) for path in files[:_MAX_NAMES])
    more = len(files) - _MAX_NAMES
    return first if more <= 0 else f"{first} and {more} more"


def _delete_job_files(folder: Path) -> None:
    """Delete the files that jobs write, and folders left empty."""
    for path in job_files(folder):
        (folder / path).unlink(missing_ok=True)
    for here, folders, _ in os.walk(folder, topdown=False):
        for name in folders:
            inner = Path(here) / name
            if not inner.is_symlink() and not any(inner.iterdir()):
                inner.rmdir()


def list_jobs() -> list[JobStatus]:
    """Return the status of every known job, the newest first.

    A job has the state ``"missing"`` if its folder is gone or was moved; one that
    cannot be read has the state ``"unreadable"``.
    """
    statuses = []
    for entry in index_folder().glob("*.path"):
        try:
            facts = _facts(entry)
            statuses.append(_status(Path(facts["path"]), facts))
        except (OSError, ValueError, RuntimeError):
            continue  # ValueError, RuntimeError: the entry has no valid path
    return sorted(statuses, key=lambda status: -status.created)


def later_writers(jobs: Iterable[JobStatus]) -> dict[Path, JobStatus]:
    """Return, for each overwritten result, the last job that wrote to the same path.

    Returns
    -------
    dict of Path to JobStatus
        Keyed by the folders of the earlier jobs.
    """
    writers: dict[Path, list[JobStatus]] = defaultdict(list)
    for status in jobs:
        result = status.result
        if status.state != "done" or result is None:
            continue
        # Several training runs may return the same initial model, which none of them
        # wrote.
        if status.operation not in MAKE_MODELS and not result.is_relative_to(
            status.path
        ):
            writers[result].append(status)
    found = {}
    for same in writers.values():
        last = max(same, key=lambda status: status.updated)
        found.update({s.path: last for s in same if s.path != last.path})
    return found


def later_writer(status: JobStatus) -> JobStatus | None:
    """Return the last of the jobs that have overwritten a job's result, if any."""
    try:
        out = JobFolder(status.path).values().get("out")
    except JobError:
        return None
    known = _find_by_output(out) if isinstance(out, str) else []
    return later_writers(known).get(status.path)


def overwritten_text(status: JobStatus, by: JobStatus) -> str:
    """Return the message that a later job has overwritten the result of a job."""
    return (
        f"{status.result} was overwritten by a later job, {by.name} in {by.path}, so "
        f"it is no longer the result of {status.name}."
    )


def _facts(entry: Path) -> AnyDict:
    """Parse an entry; entries of earlier releases hold only the path.

    Raises
    ------
    OSError, ValueError
        If the entry cannot be read or does not name a path.
    """
    text = entry.read_text(encoding="utf-8")
    facts = reading.parse_mapping(text) if text.startswith("{") else {"path": text}
    path = facts.get("path")
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise ValueError("it does not name a folder")
    return facts


def _status(path: Path, facts: AnyDict) -> JobStatus:
    try:
        return JobFolder(path).status()
    except JobError:
        return JobStatus(
            path=path,
            name=str(facts.get("name", path.name)),
            operation=str(facts.get("operation", "")),
            method=str(facts.get("method", "")),
            state="missing",
            created=reading.number(facts.get("created")),
            updated=0.0,
            message=f"There is no longer a job in {path}: it was deleted or moved, or "
            "its drive is not connected. If it was moved, give its new folder once "
            "(napari-geosr jobs show FOLDER, or Add job… in the Jobs dock); "
            f"`napari-geosr jobs remove {path}` removes it from the list.",
        )


def find(text: str | Path) -> JobFolder:
    """Return a job by its folder, or by its output, name or queue number if unique.

    A job given by its folder is added to the list.

    Raises
    ------
    JobError
        If there is no such job, its folder has moved, or the name is not unique.
    """
    if (job := _job_at(text)) is not None:
        with suppress(FileError, JobError):  # a job can be used without being listed
            if job.is_verified():
                register(job)
        return job
    matches = _find_by_output(text) or _find_by_name(text)
    present = [status for status in matches if status.state != "missing"]
    if len(present) == 1:
        return JobFolder(present[0].path)
    if present:
        raise _ambiguous(text, present)
    if matches:
        raise JobError(matches[0].message)
    if Path(text).expanduser().is_dir():
        JobFolder(text)  # raises an error that explains what is missing
    raise JobError(
        f"There is no job {str(text)!r}. Give its folder, or a name listed by "
        "`napari-geosr jobs list`."
    )


def find_missing(text: str | Path) -> JobStatus | None:
    """Find a known job with a missing folder, given that folder or the job's name.

    Returns None if the job exists, or if no such job is known.

    Raises
    ------
    JobError
        If several jobs have the name.
    """
    if _job_at(text) is not None or _find_by_output(text):
        return None
    matches = _find_by_name(text)
    if not matches or any(status.state != "missing" for status in matches):
        return None
    if len(matches) > 1:
        raise _ambiguous(text, matches)
    return matches[0]


def _job_at(path: str | Path) -> JobFolder | None:
    """Return the job in a folder; None if it is not a job folder."""
    try:
        return JobFolder(path)
    except JobError:
        return None


def _ambiguous(text: str | Path, jobs: Sequence[JobStatus]) -> JobError:
    paths = ", ".join(f"{job.path} ({describe_state(job)})" for job in jobs)
    return JobError(
        f"Several jobs match {text}: {paths}. Give the folder of one of them instead."
    )


def _find_by_output(text: str | Path) -> list[JobStatus]:
    """Find the jobs that write an existing file or folder.

    Known jobs and jobs in folders next to the output are searched.
    """
    path = Path(text).expanduser().absolute()
    if not path.exists():
        return []
    known = {status.path for status in list_jobs() if status.state != "missing"}
    beside = {folder.resolve() for folder in path.parent.glob("*.job")}
    found = []
    for folder in known | beside:
        with suppress(JobError):
            job = JobFolder(folder)
            out = job.values().get("out")
            if isinstance(out, str) and Path(out).resolve() == path.resolve():
                found.append(job.status())
    return sorted(found, key=lambda status: -status.created)


def _find_by_name(text: str | Path) -> list[JobStatus]:
    """Find known jobs by name, folder or queue number, even if the folder is gone.

    An earlier number of a resubmitted job also counts, unless another job has it now.
    """
    path = Path(text).expanduser().resolve()
    jobs = list_jobs()
    matches = [
        status
        for status in jobs
        if status.path == path
        or str(text) in (status.name, status.path.name)
        or _is_number(text, status.queue.number)
    ]
    return matches or [
        each
        for each in jobs
        if any(_is_number(text, number) for number in each.queue.earlier)
    ]


def _is_number(text: str | Path, number: str) -> bool:
    """Return whether a text is the number of a job, with or without its cluster."""
    return bool(number) and str(text) in (number, queue_record.plain_number(number))


def _entry(path: Path) -> Path:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    return index_folder() / f"{digest}.path"
