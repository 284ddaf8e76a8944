"""Protection of submissions against other processes, other jobs and Ctrl-C.

Only one process at a time submits a job, and only one job writes an output.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from napari_geosr.core.errors import JobError
from napari_geosr.core.machine import processes
from napari_geosr.core.machine.lock_files import LockFile, LockFileHeldError
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster.queries import may_be_in_queue, refresh
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import outputs_of
from napari_geosr.jobs.status import JobStatus

#: Lock file of a process that submits a job.
_SUBMISSION_LOCK = ".submission.lock"
#: File that replaces this lock on file systems without locks.
_SUBMITTER = ".submission.owner.lock"
#: Maximum time, in seconds, to wait until a queue has ended a cancelled job.
_ENDING_SECONDS = 5.0
#: Time between two queries, in seconds.
_POLL_SECONDS = 0.5


@contextmanager
def submitting(job: JobFolder) -> Iterator[None]:
    """Keep other processes from submitting this job, or a job with the same output.

    Raises
    ------
    JobError
        If another process is submitting such a job, or another job writes or will
        write the output.
    """
    with _only_submission(job), ExitStack() as stack:
        for out in outputs_of(job):
            stack.enter_context(_only_output(out))
        check_only_writer(job)
        yield


@contextmanager
def held_interrupt(title: str) -> Iterator[list[bool]]:
    """Delay Ctrl-C while a queue may be accepting a job; a second one acts at once.

    Yields
    ------
    list
        Not empty if Ctrl-C was pressed.
    """
    pressed = list[bool]()

    def hold(*_: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)
        text = f"waiting for {title} to respond (press Ctrl-C again to stop at once)"
        with suppress(OSError):  # stderr may be closed
            print(text, file=sys.stderr, flush=True)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield pressed
        return
    old = signal.signal(signal.SIGINT, hold)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, old)


@contextmanager
def _only_submission(job: JobFolder) -> Iterator[None]:
    from filelock import Timeout

    path = job.path / _SUBMISSION_LOCK
    lock_file = LockFile(job.path / _SUBMITTER)
    with atomic.explained(path):
        try:
            lock = processes.file_lock(path)
            if not processes.acquire_lock(lock, 0.0):
                lock_file.acquire()
        except (Timeout, LockFileHeldError) as error:
            raise JobError(
                f"{job.status().name} is being submitted by another process. Check its "
                "state in a minute."
            ) from error
    try:
        yield
    finally:
        lock.release()
        lock_file.release()


@contextmanager
def _only_output(out: Path) -> Iterator[None]:
    """Reserve an output until the job that writes it is in the list of jobs."""
    digest = hashlib.sha256(os.path.realpath(out).encode()).hexdigest()[:24]
    lock = LockFile(index.index_folder() / f"output-{digest}.lock")
    with atomic.explained(lock.path):
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except LockFileHeldError as error:
            raise JobError(
                f"Another process is submitting a job that writes {out}. Choose "
                "another output."
            ) from error
    try:
        yield
    finally:
        lock.release()


def check_only_writer(job: JobFolder) -> None:
    """Reject a job if another known job is writing or will write one of its files.

    Raises
    ------
    JobError
    """
    check_no_other_writer(outputs_of(job), job.path)


def check_no_other_writer(outputs: Iterable[Path], own: Path | None) -> None:
    """Reject outputs if another known job is writing or will write one of them.

    Parameters
    ----------
    outputs : iterable of Path
    own : Path or None
        Folder of the job that is allowed to write them.

    Raises
    ------
    JobError
    """
    names = {os.path.realpath(out): out for out in outputs}
    if not names:
        return
    for other in index.list_jobs():
        # A run that was ended by its queue has stopped, but its job may be waiting in
        # the queue to start again.
        is_open = other.is_alive or may_be_in_queue(other)
        if not is_open or other.path == own:
            continue
        common = [names[path] for path in _real_outputs(other) if path in names]
        if common and (reason := _why_not_over(_settled(other), common[0])):
            raise JobError(reason)


def _settled(other: JobStatus) -> JobStatus:
    """Query the queue; give it a few seconds to end a job that was cancelled."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        refresh([other])  # the queue may have ended or restarted the job
        found = _status_of(other)
        is_ending = found.state == "cancelled" and found.is_unfinished_in_queue
        if not is_ending or time.monotonic() >= deadline:
            return found
        time.sleep(_POLL_SECONDS)


def _why_not_over(job: JobStatus, out: Path) -> str:
    """Explain why a job may still write its output; empty if it has ended."""
    place = job.queue
    stop = f"(napari-geosr jobs stop {job.path})"
    if job.is_alive:
        which = f"{place.title} job {place.number}, " if place.number else ""
        return (
            f"The job in {job.path} ({which}{index.describe_state(job)}) also writes "
            f"{out}. Stop it first {stop}, or choose another output."
        )
    if job.is_unfinished_in_queue:
        return (
            f"The job in {job.path}, which also writes {out}, is {job.state}, but "
            f"{place.title} has not ended job {place.number} yet, and may start it "
            f"again. Try again in a few seconds, stop it {stop}, or choose another "
            "output."
        )
    if may_be_in_queue(job) and place.problem:
        return (
            f"The job in {job.path} also writes {out}, and may be waiting as "
            f"{place.title} job {place.number} to start again: {place.outage} Try "
            "again later, or choose another output. If you no longer need that job, "
            f"remove it (napari-geosr jobs remove {job.path})."
        )
    return ""


def _real_outputs(status: JobStatus) -> list[str]:
    """Return the files that a job writes, with all links resolved."""
    try:
        return [os.path.realpath(out) for out in outputs_of(JobFolder(status.path))]
    except JobError:  # removed in the meantime
        return []


def _status_of(status: JobStatus) -> JobStatus:
    """Return the current status of a job."""
    try:
        return JobFolder(status.path).status()
    except JobError:  # removed in the meantime
        return replace(status, state="missing")
