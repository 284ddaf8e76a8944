"""Submit jobs to the queue of a cluster, and stop them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from napari_geosr.core.errors import (
    ConfigError,
    FileError,
    JobError,
    StoppedSubmissionError,
    UnansweredError,
)
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.cluster.profiles import Profile, format_walltime
from napari_geosr.jobs.cluster.queries import may_be_in_queue, query, refresh
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cluster.reservation import held_interrupt, submitting
from napari_geosr.jobs.cluster.torchrun import torchrun_words
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.job_files import check_inputs
from napari_geosr.jobs.kinds import START_AGAIN
from napari_geosr.jobs.queues import QueueSystem, load_queue
from napari_geosr.jobs.queues._scripts import SCRIPT, STARTED, check_setup

#: Name of the queue that runs jobs on this computer.
LOCAL = "local"
#: Option of ``python -m napari_geosr.jobs`` for jobs started by a queue.
IN_QUEUE = "--in-queue"
#: Fields of a profile from which the energy and CO2eq of a job are estimated.
_POWER = {"watts_per_core", "grams_per_kilowatt_hour"}
#: Age, in seconds, up to which a request to stop also stops a resubmitted job.
_MAX_RESUBMISSION = 600.0
#: A run counts as full only if it lasts for at least this fraction of the planned time
#: from its start to the queue's warning.
_FULL_SHARE = 0.5


def check_profile(profile: Profile) -> None:
    """Reject an incomplete profile, or one with invalid setup commands.

    Raises
    ------
    ConfigError
        If the queue is unknown, a required project is missing, or the setup commands
        are not valid in bash.
    """
    title = load_queue(profile.queue).title
    if profile.needs_project and not profile.project:
        raise ConfigError(
            f"This cluster ({title}) refuses jobs without a project. Give your project "
            "(--project pr-NAME)."
        )
    check_setup(profile)


def script_of(name: str, folder: Path, profile: Profile, operation: str = "") -> str:
    """Return the script that runs the job in a folder.

    Parameters
    ----------
    name : str
        Name of the job.
    folder : Path
    profile : Profile
    operation : str
        Operation of the job; torchrun starts training with several GPUs or nodes.

    Raises
    ------
    ConfigError
        If the profile is incomplete, or a name contains line breaks.
    """
    check_profile(profile)
    words = [profile.python or sys.executable, "-P", "-m", "napari_geosr.jobs"]
    words.append(str(folder))
    if profile.queue != LOCAL:
        words += [IN_QUEUE, *torchrun_words(operation, profile)]
    return load_queue(profile.queue).script(name, folder, profile, tuple(words))


def submit(job: JobFolder, profile: Profile) -> str:
    """Write the script of a job, submit it and return its number in the queue.

    Raises
    ------
    ConfigError
        If the profile is incomplete.
    UnansweredError
        If the queue may have accepted the job, but its number is unknown or cannot be
        written. Look for the job in the queue before submitting it again. This error is
        also raised if Ctrl-C was pressed meanwhile; the job is then cancelled.
    JobError
        If the job is done, waiting or running, another job writes its output, its input
        no longer exists, or the queue refuses it. In the last case, the message gives
        the queue's reason, and a new job is paused.
    FileError
        If the job's folder cannot be written.
    """
    # While the queue is called, the job has no number, and its own lock must be free,
    # because it may start at once.
    with submitting(job):
        return _submit(job, profile)


def _submit(job: JobFolder, profile: Profile) -> str:
    queue = load_queue(profile.queue)
    refresh([job.status()])
    before = job.status()
    if before.is_unfinished_in_queue:
        raise JobError(index.in_use_text(before, "be submitted again"))
    job.check_not_done()
    check_inputs(job)
    text = script_of(before.name, job.path, profile, before.operation)
    with job.hold():
        job.check_not_done()
        if before.is_alive and (before.pid or before.queue.number):
            raise JobError(index.in_use_text(before, "be submitted again"))
        index.register(job)
        job.clear_request()
        earlier = _Earlier.of(job)
        write_script(job.path, text)
        if profile.queue == LOCAL:
            _store_power(job, profile)
        else:
            record = QueueRecord(
                queue=profile.queue,
                title=queue.title,
                profile=profile.model_dump(mode="json", exclude_defaults=True),
                earlier=before.queue.numbers,
            )
            queue_record.forget_state(job.path)
            queue_record.write_record(job.path, record)
            job.set_state("queued", pid=0, host="", message="")
    number = ""
    try:
        with held_interrupt(queue.title) as pressed:
            number = _call_queue(job, queue, profile, before, earlier, pressed)
            if pressed:
                raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise _stopped(job, before.name, queue.title, number) from error
    if profile.queue != LOCAL and job.status().state == "cancelled":
        with suppress(JobError):  # the user stopped it before its number was known
            queue.cancel(number)
    return number


def _call_queue(
    job: JobFolder,
    queue: QueueSystem,
    profile: Profile,
    before: JobStatus,
    earlier: _Earlier,
    pressed: Sequence[bool],
) -> str:
    """Hand a job to the queue; record and return the number that it is given.

    Parameters
    ----------
    before, earlier
        Values to write back if the queue refuses the job.
    pressed : sequence of bool
        Not empty if Ctrl-C was pressed. If the number is then unknown, an empty string
        is returned.
    """
    try:
        number = queue.submit(job.path)
    except UnansweredError:  # the job records its number when it starts
        if pressed:
            return ""
        raise
    except JobError:
        if profile.queue != LOCAL:
            earlier.write_back(job)
            state = before.state if before.can_resume else "paused"
            job.set_state(state, message=before.message)
        raise
    if profile.queue != LOCAL:
        try:
            _store_number(job, number)
        except FileError as error:
            raise UnansweredError(
                f"{queue.title} has accepted {before.name} as job {number}, but this "
                f"number could not be recorded. {error} The job will record it when it "
                "starts; do not submit it again."
            ) from error
    return number


def _stopped(
    job: JobFolder, name: str, title: str, number: str
) -> StoppedSubmissionError:
    """Cancel a job after the user stopped its submission; explain what remains.

    The folder is kept in any case, because the queue may already be starting the job.
    """
    if not number:
        text = (
            f"Stopped before {title} had given {name} a number: it may be in the "
            "queue, and will end at once if it starts."
        )
    elif title == load_queue(LOCAL).title:
        text = f"{name} had already started as process {number}; it was stopped."
    else:
        text = f"{title} had already accepted {name} as job {number}; it was cancelled."
    try:
        stop(job)
    except (JobError, FileError) as error:
        text = f"Stopped, but {title} may have accepted {name}. {error}"
    return StoppedSubmissionError(
        f"{text} Its folder is kept: resume it (napari-geosr jobs resume {job.path}) "
        f"or remove it (napari-geosr jobs remove {job.path})."
    )


def _store_number(job: JobFolder, number: str) -> None:
    """Record the number of a submitted job, unless the job has recorded it itself."""
    known = queue_record.read_record(job.path)
    # A job records its own number without the name of the cluster.
    is_incomplete = known.number in ("", queue_record.plain_number(number))
    if is_incomplete and known.number != number:
        queue_record.write_record(job.path, replace(known, number=number))


def _store_power(job: JobFolder, profile: Profile) -> None:
    """Store the values from which a job's energy on this computer is estimated."""
    known = queue_record.read_record(job.path)
    power = profile.model_dump(mode="json", include=_POWER)
    values = known.profile | power
    if known.profile or power != Profile().model_dump(mode="json", include=_POWER):
        queue_record.write_record(job.path, replace(known, profile=values))


@dataclass(frozen=True)
class _Earlier:
    """Queue record and script of a job, to be written back if resubmitting fails."""

    record: QueueRecord
    script: str | None

    @classmethod
    def of(cls, job: JobFolder) -> _Earlier:
        path = job.path / SCRIPT
        script = path.read_text(encoding="utf-8") if path.exists() else None
        return cls(queue_record.read_record(job.path), script)

    def write_back(self, job: JobFolder) -> None:
        """Write the files back, so that the job can be resumed in its queue."""
        queue_record.write_record(job.path, self.record)
        if self.script is not None:
            write_script(job.path, self.script)


def write_script(folder: Path, text: str) -> Path:
    """Write ``submit.sh``, which must be executable for OAR."""
    path = folder / SCRIPT
    atomic.write_text(path, text, overwrite=True)
    with atomic.explained(path):
        path.chmod(0o755)
    return path


def profile_of(job: JobFolder) -> Profile | None:
    """Return the profile of the last submission; None if there was none.

    Raises
    ------
    ConfigError
        If the stored profile is damaged.
    """
    record = queue_record.read_record(job.path)
    if not record.queue:
        return None
    return Profile.from_mapping({**record.profile, "queue": record.queue})


def note_start(job: JobFolder) -> None:
    """Record the number under which the queue has started this process."""
    record = queue_record.read_record(job.path)
    number = _own_number(record)
    if number and number != record.number:
        earlier = (each for each in job.status().queue.numbers if each != number)
        record = replace(record, number=number, earlier=tuple(earlier))
        queue_record.write_record(job.path, record)


def was_stopped(job: JobFolder) -> bool:
    """Return whether the user stopped the job while the queue was starting it.

    A queue may have accepted a job without printing its number, and OAR may have
    resubmitted it under a number that only a query has recorded, or that is not
    recorded at all.
    """
    status = job.status()
    record = queue_record.read_record(job.path)
    own = _own_number(record)
    if not own:
        return False
    is_same = not record.number or own in (record.number, status.queue.number)
    if is_same and status.state == "cancelled":
        return True
    # A request that is pending before a job starts was made while the job waited.
    is_waiting = reading.recorded(job.path)[1] in ("queued", "cancelled")
    if not is_same and not _may_be_renumbered(record):
        return False
    age = () if is_same else (_MAX_RESUBMISSION,)
    return is_waiting and job.pending_request(*age) == "cancel"


def note_stop(job: JobFolder) -> None:
    """Record that a stopped job is cancelled, and delete the request."""
    job.set_state("cancelled", pid=0, host="", message="")
    job.clear_request()


def _may_be_renumbered(record: QueueRecord) -> bool:
    """Return whether the queue may have resubmitted the job under an unknown number."""
    return record.resubmitted > 0 and load_queue(record.queue).renumbers


def _own_number(record: QueueRecord) -> str:
    """Return the number under which the queue has started this process."""
    if not record.queue:
        return ""
    own = os.environ.get(load_queue(record.queue).number_variable, "")
    is_same = own == queue_record.plain_number(record.number)
    return record.number if is_same else own


def note_walltime(job: JobFolder, seconds: float) -> bool:
    """Record that the walltime ended a run; return whether to start another one.

    A job that makes no progress in full runs is not restarted endlessly.

    Parameters
    ----------
    seconds : float
        Duration of the run.
    """
    # The user cancelled the job after its last step.
    if job.pending_request() == "cancel":
        job.set_state("cancelled", pid=0, host="", message="")
        job.clear_request()
        return False
    try:
        record = queue_record.read_record(job.path)
    except FileError:  # this run is not counted
        job.set_state("queued", pid=0, host="", message="")
        return True
    is_full = seconds >= _FULL_SHARE * _usable_seconds(record)
    saved = reading.count(reading.recorded(job.path)[0].get("saved"))
    record = queue_record.with_run(
        record, job.status().done, is_full=is_full, saved=saved
    )
    queue_record.write_record(job.path, record)
    starts_again = job.status().operation in START_AGAIN
    if queue_record.is_stuck(record) or (starts_again and is_full):
        longer = format_walltime(2 * _stored_profile(record).seconds)
        record = replace(record, longer=longer)
        queue_record.write_record(job.path, record)
        message = queue_record.describe_stuck(
            record, starts_again=starts_again and is_full
        )
        job.set_state("failed", pid=0, host="", message=message)
        job.append("state", state="failed", message=message)
        return False
    # Take the progress from the record: a run that the queue warned before its first
    # step has not recorded any.
    job.set_state("queued", pid=0, host="", message="", done=record.done)
    job.append("state", state="queued", resubmitted=record.resubmitted)
    return True


def seconds_until_warning(job: JobFolder) -> float:
    """Return the seconds until the queue should warn this process; 0 if unknown."""
    started = os.environ.get(STARTED, "")
    if not started.isdecimal():
        return 0.0
    record = queue_record.read_record(job.path)
    return max(0.0, int(started) + _usable_seconds(record) - time.time())


def warning_seconds(job: JobFolder) -> int:
    """Return the seconds between the queue's warning and the end of the walltime."""
    return _stored_profile(queue_record.read_record(job.path)).warning_seconds


def _usable_seconds(record: QueueRecord) -> int:
    """Return the seconds from the start of a run to the queue's warning."""
    profile = _stored_profile(record)
    return profile.seconds - profile.warning_seconds


def _stored_profile(record: QueueRecord) -> Profile:
    try:
        return Profile.from_mapping({**record.profile, "queue": record.queue})
    except ConfigError:  # the stored profile is damaged
        return Profile()


def stop(job: JobFolder) -> None:
    """Ask a job to stop and, if it is in a queue, cancel it there.

    Finished work is kept, so that the job can be resumed. A job in a queue counts as
    ended only after the queue has ended it, because the queue may start it again.

    Raises
    ------
    JobError
        If there is nothing to stop, or the queue cannot be reached.
    """
    status = job.status()
    if not status.is_alive:
        refresh([status])  # the job may be back in the queue
        status = job.status()
    if not (status.is_alive or may_be_in_queue(status)):
        raise JobError(
            f"{status.name} has ended ({status.state}), so there is nothing to stop."
        )
    job.request("cancel")
    if not status.queue.number:
        _cancel_if_waiting(job)
        return
    try:
        _cancel_in_queue(job, status)
    except (JobError, FileError) as error:
        raise JobError(
            f"{error} If {status.name} is running or starts later, it will stop after "
            "its next step."
        ) from error
    _cancel_if_waiting(job)


def _cancel_in_queue(job: JobFolder, status: JobStatus) -> None:
    """Cancel a job under its latest number, even if the number changes meanwhile.

    Raises
    ------
    JobError
        If the queue refuses to cancel it.
    """
    queue, cancelled = load_queue(status.queue.queue), set[str]()
    number = _latest_number(job, status)
    while number not in cancelled:
        queue.cancel(number)
        cancelled.add(number)
        number = _latest_number(job, status)


def _latest_number(job: JobFolder, status: JobStatus) -> str:
    """Return a job's number; query the queue first if it can change numbers."""
    if load_queue(status.queue.queue).renumbers:
        with suppress(JobError, FileError):  # the last number may still be valid
            query(status.queue.queue, {job.path: job.status()})
    return job.status().queue.number or status.queue.number


def _cancel_if_waiting(job: JobFolder) -> None:
    """Record the cancellation of a job that no process is running yet."""
    if job.status().pid:
        return  # the job's process writes the state
    # If a process has just started, it holds the job and carries out the request.
    with suppress(JobError, FileError), job.hold():
        now = job.status()
        is_waiting = "queued" in (now.state, reading.recorded(job.path)[1])
        if is_waiting and not now.pid:
            record = queue_record.read_record(job.path)
            job.set_state("cancelled", message="")
            is_latest = now.queue.number == record.number
            # Keep the request for a run that the queue has not announced yet.
            if not (record.number and is_latest and _may_be_renumbered(record)):
                job.clear_request()
