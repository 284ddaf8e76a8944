"""Run jobs as separate processes on this machine, one at a time."""

from __future__ import annotations

import atexit
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from napari_geosr.core.errors import FileError, GeoSRError, JobError
from napari_geosr.core.machine import processes
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.cluster.reservation import check_only_writer
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_inputs

#: Seconds between checks of whether it is the job's turn.
_WAIT_SECONDS = 0.5
#: Seconds between heartbeats.
_BEAT_SECONDS = 20.0
#: Processes started here; those that have ended stay zombies until they are polled.
_processes: list[subprocess.Popen[bytes]] = []


def start(job: JobFolder, command: Sequence[str] = ()) -> int:
    """Start a detached process for the job and return its process ID.

    The process waits until no other job runs on this machine; closing napari or the
    terminal does not end it.

    Parameters
    ----------
    job : JobFolder
    command : sequence of str
        Command, or on Windows a command line, that becomes the process of the job; by
        default, this Python runs the job.

    Raises
    ------
    JobError
        If a process is already running the job, another job writes its output, or its
        input no longer exists.
    FileError
        If its log cannot be written. A new job is then paused; other jobs are
        unchanged.
    """
    with job.hold():
        job.check_not_done()
        status = job.status()
        if status.is_alive and status.pid:
            raise JobError(f"{status.name} is already {status.state}.")
        check_inputs(job)
        check_only_writer(job)
        index.register(job)
        job.clear_request()
        queue_record.forget_number(job.path)
        job.set_state("queued", pid=0, host="", message="")
        try:
            process = _spawn(job, command)
        except (GeoSRError, OSError):
            state = status.state if status.can_resume else "paused"
            job.set_state(state, message=status.message)
            raise
        # Set the state here, because a second click may come before the process sets
        # it. The process may have ended at once (see log.txt). If the folder cannot be
        # written, the process itself reports the error.
        with suppress(psutil.NoSuchProcess, FileError):
            job.set_state(
                "queued",
                pid=process.pid,
                host=socket.gethostname(),
                **processes.start_facts(process.pid),
            )
    if not _processes:
        atexit.register(_silence_exit_warnings)
    _processes[:] = [p for p in _processes if p.poll() is None] + [process]
    return int(process.pid)


def _spawn(job: JobFolder, command: Sequence[str]) -> subprocess.Popen[bytes]:
    own = [sys.executable, "-P", "-m", "napari_geosr.jobs", str(job.path)]
    kwargs: dict[str, object] = (
        {"creationflags": 0x00000208}  # DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    path = job.path / "log.txt"
    with atomic.explained(path):
        stream = path.open("ab")
    with stream as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command or own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=job.path,
            env=os.environ.copy(),
            **kwargs,  # type: ignore[call-overload]
        )
    return process


def _silence_exit_warnings() -> None:
    """Suppress Python's warning about processes that still run when it exits."""
    for process in _processes:
        process.returncode = process.poll() or 0


def turn_file() -> Path:
    """Return the lock file of the job that is running on this machine.

    The file's name contains that of the machine, because machines may share the home
    folder.
    """
    host = re.sub(r"[^\w.-]+", "_", socket.gethostname())
    return index.index_folder() / f"running-{host}.lock"


@contextmanager
def turn(job: JobFolder, should_stop: ShouldStop = never_stop) -> Iterator[str]:
    """Wait for this job's turn among the jobs on this machine.

    Worker processes of a distributed training run do not wait.

    Yields
    ------
    str
        Empty when the job may run; ``"cancel"`` or ``"pause"`` if that was requested.
    """
    from filelock import Timeout

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # The other worker processes, perhaps on other machines, wait for this one.
        yield ""
        return
    path = turn_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = processes.file_lock(path)
    next_beat = time.monotonic()
    while True:
        request = job.pending_request() or ("pause" if should_stop() else "")
        if request in ("cancel", "pause"):
            yield request
            return
        try:
            if _is_next(job) and (
                processes.acquire_lock(lock, 0.0) or not _is_other_running(job)
            ):
                break
        except Timeout:
            pass
        if time.monotonic() >= next_beat:
            with suppress(GeoSRError, OSError):
                job.send_heartbeat()
            next_beat = time.monotonic() + _BEAT_SECONDS
        time.sleep(_WAIT_SECONDS)
    try:
        yield ""
    finally:
        lock.release()


def _is_other_running(job: JobFolder) -> bool:
    """Return whether another job runs on this machine, if locks are not supported."""
    host, alive = socket.gethostname(), ("running", "finishing")
    others = [s for s in index.list_jobs() if s.path != job.path and s.pid]
    return any(s.state in alive and s.host == host for s in others)


def _is_next(job: JobFolder) -> bool:
    """Return whether the job is older than all others waiting on this machine."""
    own_status, host = job.status(), socket.gethostname()
    queued = [s for s in index.list_jobs() if s.state == "queued" and s.pid]
    waiting = [s for s in queued if s.host == host]
    return not any(
        s.created < own_status.created for s in waiting if s.path != own_status.path
    )
