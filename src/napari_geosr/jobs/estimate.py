"""Time and memory of a training run, measured by running a few steps.

The steps run in a separate process, which does not wait for other jobs, and their
results are discarded.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from napari_geosr.core.errors import Cancelled, GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyMapping
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import list_jobs
from napari_geosr.jobs.run import run_steps

_POLL_SECONDS = 0.1
#: Minimum number of progress reports for an estimate, unless the reports cover
#: `_ENOUGH_SECONDS`.
_ENOUGH_REPORTS = 6
#: Minimum time span of the progress reports for an estimate, in seconds.
_ENOUGH_SECONDS = 5.0
#: Maximum lifetime of the estimating process, in seconds.
_MAX_LIFETIME = 1800.0
#: Seconds allowed for the process to stop on its own before it is killed.
_GRACE_PERIOD = 10.0
#: Seconds between checks of whether the parent process still exists.
_CHECK_INTERVAL = 1.0


@dataclass(frozen=True)
class TrainingEstimate:
    """Cost of a training run on this machine under its current load.

    Attributes
    ----------
    seconds : float
        Duration of the whole run, including its start.
    memory : int
        Memory used in bytes; GPU memory if the training uses a GPU.
    steps : int
        Number of steps timed.
    concurrent : tuple of str
        Names of the other jobs that ran on this machine during the test.
    """

    seconds: float
    memory: int
    steps: int
    concurrent: tuple[str, ...] = ()


def estimate_steps(
    values: AnyMapping, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, TrainingEstimate]:
    """Time a few steps of the job described by `values`.

    Parameters
    ----------
    values : mapping
        Contents of the job's ``config.yaml``.

    Returns
    -------
    TrainingEstimate

    Raises
    ------
    JobError
        If the job fails, with its reason.
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Timing a few steps")
    with tempfile.TemporaryDirectory(prefix="napari-geosr-") as folder:
        job = JobFolder.create(Path(folder) / "job", values, name="estimate")
        began, concurrent = time.time(), _running_jobs()
        process = subprocess.Popen(
            _command(job),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ.copy(),
        )
        try:
            while not _is_enough(job, process):
                if should_stop():
                    raise Cancelled("Cancelled.")
                yield Step()
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        result = _evaluate(job, began)
    all_concurrent = dict.fromkeys((*concurrent, *_running_jobs()))
    return replace(result, concurrent=tuple(all_concurrent))


def _command(job: JobFolder) -> list[str]:
    module = "napari_geosr.jobs.estimate"
    return [sys.executable, "-P", "-m", module, str(job.path), str(os.getpid())]


def _running_jobs() -> tuple[str, ...]:
    """Return the names of the jobs in progress on this machine."""
    return tuple(
        status.name
        for status in list_jobs()
        if status.state in ("running", "finishing")
        and status.host == socket.gethostname()
    )


def _is_enough(job: JobFolder, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        return True
    reports = [e for e in job.events()[0] if e["event"] == "progress"]
    return len(reports) >= _ENOUGH_REPORTS or (
        len(reports) > 1 and time.time() - reports[0]["time"] > _ENOUGH_SECONDS
    )


def _evaluate(job: JobFolder, began: float) -> TrainingEstimate:
    events, _ = job.events()
    reports = [e for e in events if e["event"] == "progress"]
    if not reports:
        raise JobError(
            job.status().message
            or "The time could not be estimated: the test run of a few steps ended "
            "without a message. Try again, or start training."
        )
    first, last = reports[0], reports[-1]
    stages = [e["time"] for e in events if e["event"] == "stage"]
    start = max([t for t in stages if t <= first["time"]], default=began)
    if last["step"] > first["step"]:
        # The first steps are slower because of cold caches and kernel selection.
        per_step = (last["time"] - first["time"]) / (last["step"] - first["step"])
    else:
        per_step = (first["time"] - start) / max(first["step"], 1)
    return TrainingEstimate(
        seconds=start - began + per_step * last["total"],
        memory=max(e.get("memory") or 0 for e in reports),
        steps=last["step"],
    )


class _ParentWatch:
    """Checks whether the parent process is gone or the time limit is exceeded.

    The check runs in a thread, because a step may take a long time. The thread ends
    this process if it does not stop when requested. Normally, the parent process would
    end it, but the parent process may have been killed.

    Parameters
    ----------
    parent : int
        Process ID of the waiting process.
    """

    def __init__(self, parent: int) -> None:
        self._end = time.monotonic() + _MAX_LIFETIME
        try:
            self._parent: psutil.Process | None = psutil.Process(parent)
        except psutil.NoSuchProcess:
            self._parent = None
        threading.Thread(target=self._watch, name="parent", daemon=True).start()

    def __call__(self) -> bool:
        return time.monotonic() > self._end or not self._is_parent_alive()

    def _is_parent_alive(self) -> bool:
        parent = self._parent
        try:
            # `is_running` detects a reused process ID.
            return (
                parent is not None
                and parent.is_running()
                and parent.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.NoSuchProcess:
            return False

    def _watch(self) -> None:
        while not self():
            time.sleep(_CHECK_INTERVAL)
        time.sleep(_GRACE_PERIOD)
        os._exit(1)


def main(folder: str, parent: int) -> int:
    """Run the job in `folder` immediately, as long as the process `parent` exists."""
    should_stop = _ParentWatch(parent)
    try:
        for _ in run_steps(JobFolder(folder), should_stop=should_stop):
            pass
    except GeoSRError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
