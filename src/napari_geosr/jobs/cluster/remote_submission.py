"""Submit a job on another computer, through the user's own ssh."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

from napari_geosr.core.errors import Cancelled, FileError, JobError, UnansweredError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record, submission
from napari_geosr.jobs.cluster.login_node import output_of
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cluster.remote import check, watch_host
from napari_geosr.jobs.data import new_folder, removed_on_failure
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import Run, settings_steps
from napari_geosr.jobs.index import Elsewhere
from napari_geosr.jobs.queues import load_queue
from napari_geosr.jobs.queues._scripts import SCRIPT


def submit_steps(
    run: Run,
    parent: Path,
    profile: Profile,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[Path, str]]:
    """Create a job in a shared folder, and have the other computer submit it.

    Parameters
    ----------
    run : Run
        A run that has not finished any part.
    parent : Path
        Folder that the other computer can access as well.
    profile : Profile
        Profile with the other computer as its `host`.
    should_stop : callable
        Called while files are written and while ssh runs.

    Yields
    ------
    Step
        A stage for each file written, and one for the queue.

    Returns
    -------
    folder : Path
        Local path of the job's folder.
    number : str
        The number of the job in the queue.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; the folder is removed.
    GeoSRError
        If a file cannot be written, ssh fails, or the other computer or its queue
        refuses the job; the folder is removed, unless the queue may have accepted it.
    """
    submission.check_profile(profile)
    shared = check(profile, parent)
    with removed_on_failure(new_folder(parent, run.name)) as folder:
        folder_there = shared.there_of(folder)
        own = yield from settings_steps(run, folder, should_stop)
        values = shared.map_settings(own, folder)
        yield StageStarted(message=f"Submitting the job on {profile.host}")
        job = JobFolder.create(folder, values, name=run.name, allow_existing=True)
        record = QueueRecord(
            queue=profile.queue,
            title=load_queue(profile.queue).title,
            profile=profile.model_dump(mode="json", exclude_defaults=True),
        )
        queue_record.write_record(folder, record)
        place = Elsewhere(profile.host, folder_there)
        number, notes = _submit(job, place, profile, should_stop)
    # From here on, the job is in the queue, so its folder must be kept.
    _watch(job, place)
    yield from (WarningIssued(message=note) for note in notes)
    return folder, number


def _submit(
    job: JobFolder, place: Elsewhere, profile: Profile, should_stop: ShouldStop
) -> tuple[str, list[str]]:
    """Have the other computer submit a job; return its number and notes."""
    notes = list[str]()
    words = ["jobs", "resume", place.folder]
    try:
        text = output_of(
            place.host, words, profile, should_stop=should_stop, on_note=notes.append
        )
    except (JobError, Cancelled) as error:
        # The job may have been submitted before the connection ended.
        if number := queue_record.read_record(job.path).number:
            return number, []
        # If the script exists, the queue may have been called; a job that the queue has
        # refused is paused.
        if (job.path / SCRIPT).exists() and job.status().state != "paused":
            with suppress(FileError):
                _watch(job, place)
            raise UnansweredError(
                f"{error} The queue on {place.host} may have accepted {job.path}: "
                "check this before you submit it again."
            ) from error
        if isinstance(error, JobError):
            raise _explained(error, place.folder) from error
        raise
    return _number(text), notes


def _watch(job: JobFolder, place: Elsewhere) -> None:
    """Show a submitted job in the lists."""
    index.register(job, elsewhere=place)
    watch_host(place.host)


def _number(text: str) -> str:
    found = re.search(r" job (\S+)\.\s*$", text)
    return found[1] if found else ""


def _explained(error: JobError, folder: str) -> JobError:
    text = str(error)
    if "is not a job folder" in text or "There is no job" in text:
        text += (
            f" Its folder should be {folder} on that computer; check the paths of the "
            "shared folder."
        )
    return JobError(text)
