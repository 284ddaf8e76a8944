"""Helpers shared by the tests of queues."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs.cluster import queries
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps

#: Seconds after which a job counts as hanging, even on a busy computer.
PATIENCE = 480.0
#: Seconds after the end of a run before it is started again.
_PAUSE_SECONDS = 5


@dataclass(frozen=True)
class Cluster:
    """A queue that tests can speed up.

    Attributes
    ----------
    name : str
        Name of the queue system.
    warn : callable
        Sends a job the warning before the end of its walltime.
    hasten : callable
        Makes a resubmitted job start at once.
    """

    name: str
    warn: Callable[[str], object]
    hasten: Callable[[str], object]


#: When a queue first said that a job waits in it, by the time of the job's own state.
_waiting_since: dict[tuple[Path, float], float] = {}


def submit(capsys: Any, *words: str) -> dict[str, Any]:
    """Submit, and return the JSON output."""
    code = run(["submit", *words, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def run_here(capsys: Any, *words: str) -> JobFolder:
    """Submit to an emulated queue that starts no jobs, and run the job here."""
    said = submit(capsys, *words, "--queue", "oar")
    job = JobFolder(said["job"])
    result = run_to_end(run_steps(job))
    assert job.status().state == "done"
    assert job.status().result == result
    return job


def said_by(capsys: Any) -> str:
    """Return what was printed as an error, without line breaks."""
    return " ".join(capsys.readouterr().err.split())


def wait_for(
    job: JobFolder, is_reached: Callable[[], object], seconds: float = PATIENCE
) -> None:
    """Wait, polling the queue like a dock; the events are shown on failure."""
    end = time.monotonic() + seconds
    while not is_reached():
        if time.monotonic() > end:
            log = job.path / "log.txt"
            said = log.read_text() if log.exists() else "no log"
            pytest.fail(f"{json.dumps(str(job.status()))}\n{said}")
        queries.refresh([job.status()])
        time.sleep(0.1)


def resubmit(cluster: Cluster, job: JobFolder, n: int) -> None:
    """Warn a running job of its walltime and wait until it runs again."""
    cluster.warn(job.status().queue.number)
    wait_for(job, lambda: job.status().queue.resubmitted == n)

    def runs_again() -> bool:
        hasten(cluster, job)
        return job.status().state == "running"

    wait_for(job, runs_again)


def hasten(cluster: Cluster, job: JobFolder) -> None:
    """Make a resubmitted job start before the two minutes for which SLURM waits.

    A job that restarts in the same second in which it ended has no valid credential.
    Its process may take seconds to end on a busy computer.
    """
    status = job.status()
    if status.state != "queued" or not status.queue.is_waiting:
        return
    now = time.monotonic()
    since = _waiting_since.setdefault((job.path, status.updated), now)
    if now - since > _PAUSE_SECONDS:
        cluster.hasten(status.queue.number)
