"""A job that could not finish a part is refused before anything is sent to a queue."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from queue_helpers import submit

from napari_geosr.cli.app import run
from napari_geosr.jobs import feasibility, index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations import restore as restoration


@pytest.fixture(autouse=True)
def queue_without_jobs(oar: Any, request: pytest.FixtureRequest) -> None:
    """A queue that would accept the jobs."""


def restoring(scan: Path, *more: str) -> list[str]:
    words = ["restore", str(scan), "-o", str(scan.parent / "clean.ome.tif")]
    return [*words, "--profile", "mine", *more]


@pytest.fixture(autouse=True)
def profile_with_memory(capsys: Any) -> None:
    words = ["profiles", "new", "mine", "--template", "oar"]
    assert run([*words, "--memory-property", "memcore"]) == 0
    capsys.readouterr()


def refused(scan: Path, capsys: Any, *words: str) -> str:
    """The message; neither a file nor a job is left."""
    before = sorted(scan.parent.iterdir())
    assert run(["submit", *words]) == 2
    said = capsys.readouterr().err
    assert sorted(scan.parent.iterdir()) == before
    assert index.list_jobs() == []
    [message] = [line for line in said.splitlines() if "napari-geosr: " in line]
    return message


def slow(
    monkeypatch: pytest.MonkeyPatch, seconds: float, parts: int, share: float = 1.0
) -> None:
    """Let a run of `parts` parts take `seconds` on this computer.

    This process is given `share` of the processor while it measures the time.
    """
    outline = restoration.outline_steps

    def steps(*args: Any, **kwargs: Any) -> Any:
        made = yield from outline(*args, **kwargs)
        return replace(made, seconds=seconds, parts=parts, threads=1)

    monkeypatch.setattr(restoration, "outline_steps", steps)
    monkeypatch.setattr(feasibility, "_share_of_processor", lambda *_: share)


def test_a_walltime_that_is_too_short(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--threads", "1")
    said = refused(scan, capsys, *words, "--walltime", "5min")
    assert "The walltime of 0:05:00 is too short: one tile takes about 6 min" in said
    # 360 s and 10 s for the start, and 120 s before the end the queue sends a warning.
    assert "Request at least 0:09:00 (--walltime)" in said
    assert "too short" in refused(scan, capsys, *words, "--walltime", "8min")
    made = submit(capsys, *words, "--walltime", "9min")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_more_threads_on_the_node_count(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--walltime", "5min", "--threads", "4")
    assert "too short" in refused(scan, capsys, *words, "--cores", "1")
    made = submit(capsys, *words, "--cores", "4")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_other_programs_on_this_computer_do_not_count(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10, share=0.5)
    words = restoring(scan, "-m", "gaussian", "--walltime", "6min", "--threads", "1")
    made = submit(capsys, *words)
    assert run(["jobs", "stop", made["job"]]) == 0


def test_shards_of_workers_are_timed(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--workers", "2", "--walltime", "5min")
    words += ["--threads", "2"]
    assert "one shard takes about 12 min" in refused(scan, capsys, *words)


def test_memory_of_a_node_that_is_too_small(scan: Path, capsys: Any) -> None:
    words = restoring(scan, "-m", "foam-denoise")
    said = refused(scan, capsys, *words, "--mem", "510MB")
    assert "The memory of 510MB per node (--mem) is too small" in said
    found = re.search(r"Request at least (\S+) MB", said)
    assert found is not None
    assert 510 < float(found[1]) < 1000
    # The stated amount is enough, and 5 % less is not.
    less = f"{0.95 * float(found[1]):.0f}MB"
    assert "too small" in refused(scan, capsys, *words, "--mem", less)
    made = submit(capsys, *words, "--mem", f"{found[1]}MB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_budget_that_is_too_small(scan: Path, capsys: Any) -> None:
    words = restoring(scan, "-m", "foam-denoise", "--memory", "1MB")
    said = refused(scan, capsys, *words)
    assert "The smallest useful tile of this model needs" in said
    assert "Increase the Memory setting (--memory)" in said


def test_a_budget_that_does_not_fit_into_a_node(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outline = restoration.outline_steps

    def steps(*args: Any, **kwargs: Any) -> Any:
        made = yield from outline(*args, **kwargs)
        return replace(made, memory=7 * 10**9)

    monkeypatch.setattr(restoration, "outline_steps", steps)
    words = restoring(scan, "-m", "gaussian", "--memory", "8GB", "--mem", "4GB")
    said = refused(scan, capsys, *words)
    assert "with a budget of 8GB (--memory), the run needs 7.5 GB" in said


def test_with_ample_resources_no_model_is_loaded(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(restoration, "outline_steps", steps)
    more = ["-m", "foam-denoise", "--memory", "2GB", "--mem", "4GB"]
    made = submit(capsys, *restoring(scan, *more, "--walltime", "2h"))
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_resumed_job_is_checked_too(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = restoring(scan, "-m", "gaussian", "--threads", "1", "--walltime", "2h")
    made = submit(capsys, *words)
    job = JobFolder(made["job"])
    assert run(["jobs", "stop", made["job"]]) == 0
    job.set_state("cancelled", pid=0, done=0)
    slow(monkeypatch, 3600, parts=10)
    capsys.readouterr()
    words = ["jobs", "resume", made["job"], "--profile", "mine", "--walltime", "5min"]
    assert run(words) == 2
    assert "The walltime of 0:05:00 is too short" in capsys.readouterr().err
    assert job.status().state == "cancelled"
