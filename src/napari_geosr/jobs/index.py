"""Which jobs there are on this machine: one small file for each, naming its folder."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from napari_geosr.core.errors import JobError
from napari_geosr.io import atomic
from napari_geosr.jobs.folder import JobFolder, JobStatus

#: States as lists show them to people, where their names do not say it.
STATE_WORDS = {"queued": "waiting", "finishing": "judging"}


def index_folder() -> Path:
    """Where the list of known jobs is kept."""
    from platformdirs import user_state_path

    return user_state_path("napari-geosr", appauthor=False) / "jobs"


def register(job: JobFolder) -> None:
    """Remember a job."""
    folder = index_folder()
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = _entry(job.path)
    atomic.write_text(path, str(job.path), overwrite=True, durable=False)


def forget(path: Path) -> None:
    """Take a job off the list; its folder stays."""
    _entry(path).unlink(missing_ok=True)


def remove(job: JobFolder) -> None:
    """Delete a job's folder with its checkpoints and its model.

    Raises
    ------
    JobError
        If a process works on it, something in the folder cannot be deleted, or the
        folder is not for certain a job: then nothing in it is touched.
    """
    if not job.is_certain():
        raise JobError(
            f"{job.path} is not deleted: its job.json is missing or damaged, or its "
            "config.yaml asks for no operation, so it may be no job. Delete it by hand "
            "if it is one."
        )
    status = job.status()
    if status.is_alive and status.pid:
        raise JobError(f"{status.name} is {status.state}: cancel it first.")
    with job.hold():
        pass  # its process may only just have begun, or be about to end
    try:
        shutil.rmtree(job.path)
    except OSError as error:
        raise JobError(
            f"{job.path} could not be deleted whole: {error.strerror}. Check its "
            "permissions, and whether another program has files of it open."
        ) from error
    forget(job.path)


def list_jobs() -> list[JobStatus]:
    """Status of every known job, the newest first; those whose folder is gone drop.

    One that cannot be read is among them, in the state ``"unreadable"``.
    """
    found = []
    for entry in index_folder().glob("*.path"):
        try:
            path = Path(entry.read_text(encoding="utf-8"))
            found.append(JobFolder(path).status())
        except (OSError, ValueError, RuntimeError, JobError):
            continue  # ValueError, RuntimeError: of an entry that names no path
    return sorted(found, key=lambda status: -status.created)


def find(text: str | Path) -> JobFolder:
    """Return a job by its folder, or by the name that one known job has.

    Raises
    ------
    JobError
        If there is none, or several have the name.
    """
    if Path(text).expanduser().is_dir():
        return JobFolder(text)
    named = [s for s in list_jobs() if str(text) in (s.name, s.path.name)]
    if len(named) == 1:
        return JobFolder(named[0].path)
    if named:
        paths = ", ".join(str(status.path) for status in named)
        raise JobError(f"Several jobs are called {text}: {paths}. Give the folder.")
    raise JobError(
        f"There is no job {str(text)!r}. Give its folder, or a name that "
        "`napari-geosr jobs list` shows."
    )


def _entry(path: Path) -> Path:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:24]
    return index_folder() / f"{digest}.path"
