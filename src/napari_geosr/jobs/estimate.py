"""How long a training will take and how much memory: by really doing a few steps.

They are done in a process of their own, at once even where another job runs, and
nothing of it is kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_geosr.core.errors import Cancelled, GeoSRError, JobError
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.jobs.folder import JobFolder

_POLL_SECONDS = 0.1
#: Reports, and seconds after the first of them, that are enough.
_REPORTS, _SECONDS = 6, 5.0


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training will take on this machine as busy as it is now.

    Attributes
    ----------
    seconds : float
        Of the whole run, with its start.
    memory : int
        Bytes that the process held, on the GPU where it trained on one.
    steps : int
        How many were timed.
    """

    seconds: float
    memory: int
    steps: int


def estimate_steps(
    values: Mapping[str, Any], *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, None]:
    """Time a few steps of the job that `values` describe.

    Parameters
    ----------
    values : mapping
        What ``config.yaml`` of the job would hold.

    Yields
    ------
    Step
        The last is ``ResultReady(TrainingEstimate)``.

    Raises
    ------
    JobError
        If the job fails, with its reason.
    Cancelled
        If `should_stop` says so.
    """
    yield StageStarted(message="Timing a few steps")
    with tempfile.TemporaryDirectory(prefix="napari-geosr-") as folder:
        job = JobFolder.create(Path(folder) / "job", values, name="estimate")
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "napari_geosr.jobs.estimate", str(job.path)],
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
        result = _judge(job, began)
    yield ResultReady(result=result)


def _is_enough(job: JobFolder, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        return True
    reports = [e for e in job.events()[0] if e["event"] == "progress"]
    return len(reports) >= _REPORTS or (
        len(reports) > 1 and time.time() - reports[0]["time"] > _SECONDS
    )


def _judge(job: JobFolder, began: float) -> TrainingEstimate:
    events, _ = job.events()
    reports = [e for e in events if e["event"] == "progress"]
    if not reports:
        reason = job.status().message or "its process ended without a word"
        raise JobError(reason)
    first, last = reports[0], reports[-1]
    stages = [e["time"] for e in events if e["event"] == "stage"]
    start = max([t for t in stages if t <= first["time"]], default=began)
    if last["step"] > first["step"]:
        # The first steps are slower: caches are cold and kernels are being chosen.
        per_step = (last["time"] - first["time"]) / (last["step"] - first["step"])
    else:
        per_step = (first["time"] - start) / max(first["step"], 1)
    return TrainingEstimate(
        seconds=start - began + per_step * last["total"],
        memory=max(e.get("memory") or 0 for e in reports),
        steps=last["step"],
    )


def main(folder: str) -> int:
    """Run the job in `folder` without waiting for others."""
    from napari_geosr.jobs.run import run_steps

    parent = os.getppid()
    try:
        for _ in run_steps(
            JobFolder(folder), should_stop=lambda: os.getppid() != parent
        ):
            pass
    except GeoSRError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
