"""Status reports of a job while it works, waits or dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from napari_geosr.core.errors import FileError, TrainingError
from napari_geosr.core.steps import (
    JudgingProgress,
    JudgingStarted,
    StageStarted,
    Step,
    VerdictReached,
    run_to_end,
)
from napari_geosr.jobs import index, local, run
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    return JobFolder.create(tmp_path / "job", values, name="foam")


def test_a_long_stage_without_steps_gives_signs_of_life(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_BEAT_SECONDS", 0.05)
    beats = set()

    def export(*_: Any) -> Iterator[Step]:
        yield Step(7, 9)
        job.set_state("finishing", message="Evaluating the model")
        deadline = time.monotonic() + 60
        while len(beats) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
            beats.add(job.status().updated)
        status = job.status()
        assert (status.state, status.done) == ("finishing", 7)
        assert status.message == "Evaluating the model"

    monkeypatch.setattr(run, "_operation", export)
    run_to_end(run.run_steps(job))
    assert len(beats) == 5
    assert "heartbeats" not in str(threading.enumerate())


def test_a_waiting_job_gives_signs_of_life(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(local, "_BEAT_SECONDS", 0.05)
    index.index_folder().mkdir(parents=True)
    job.set_state("queued")
    before = job.status().updated
    deadline = time.monotonic() + 60
    beats = set()

    def has_beaten() -> bool:
        beats.add(job.status().updated)
        return len(beats) >= 3 or time.monotonic() > deadline

    with FileLock(local.turn_file()), local.turn(job, has_beaten) as wish:
        assert wish == "pause"
    assert len(beats) == 3
    assert min(beats) == before
    assert job.status().state == "queued"


@pytest.mark.parametrize("full", ["append", "set_state"])
def test_a_full_disk_does_not_hide_why_it_failed(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise FileError("The disk is full.")

    def fail(*_: Any) -> Iterator[Step]:
        monkeypatch.setattr(JobFolder, full, refuse)
        yield Step()
        raise TrainingError("The loss is no number.")

    monkeypatch.setattr(run, "_operation", fail)
    with pytest.raises(TrainingError, match="is no number"):
        run_to_end(run.run_steps(job))
    if full == "append":
        status = job.status()
        assert (status.state, status.message) == ("failed", "The loss is no number.")
    else:
        assert "is no number" in (job.path / "log.txt").read_text()


def test_two_threads_lose_no_fact(job: JobFolder) -> None:
    def count() -> None:
        for i in range(50):
            job.set_state("running", done=i)

    def beat() -> None:
        for _ in range(50):
            job.send_heartbeat()

    beats = [threading.Thread(target=count), threading.Thread(target=beat)]
    for thread in beats:
        thread.start()
    for thread in beats:
        thread.join()
    assert job.status().done == 49
    assert job.status().state == "running"


def test_a_second_wish_to_stop_is_no_fault(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> Iterator[Step]:
        yield Step(7, 9)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_operation", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(run.run_steps(job))
    status = job.status()
    assert (status.state, status.done, status.message) == ("interrupted", 7, "")
    assert status.can_resume


def test_judging_begins_when_all_steps_are_done(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def training(*_: Any) -> Generator[Step, None, Path | None]:
        for done in range(1, 31):
            yield Step(done, 30)
        yield JudgingStarted(message="In other words")
        seen.append(job.status())
        yield JudgingProgress(1, 4)
        seen.append(job.status())
        return None

    monkeypatch.setattr(run, "_operation", training)
    monkeypatch.setattr(run, "_BEAT_SECONDS", 0.0)
    run_to_end(run.run_steps(job))
    assert (seen[0].state, seen[0].done, seen[0].total) == ("finishing", 30, 30)
    assert (seen[1].state, seen[1].done, seen[1].total) == ("finishing", 30, 30)
    assert seen[1].message == "Evaluating the model: 25 %"
    assert (job.status().done, job.status().total) == (30, 30)


def test_a_sign_of_life_that_cannot_be_written_ends_no_training(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise FileError("job.json is open in another program.")

    def training(*_: Any) -> Generator[Step, None, Path | None]:
        with monkeypatch.context() as patch:
            patch.setattr(JobFolder, "send_heartbeat", refuse)
            yield Step(1, 9)
            yield Step(2, 9)
            yield StageStarted(message="Writing the model")
        return job.path / "result"

    monkeypatch.setattr(run, "_BEAT_SECONDS", 0.0)
    monkeypatch.setattr(run, "_operation", training)
    run_to_end(run.run_steps(job))
    assert job.status().state == "done"


def test_a_plain_step_is_counted_and_not_shown(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def training(*_: Any) -> Generator[Step, None, Path | None]:
        yield StageStarted(message="Writing the volume")
        yield Step(7, 9)
        return job.path / "result"

    monkeypatch.setattr(run, "_operation", training)
    seen: list[Step] = []
    assert run_to_end(run.run_steps(job), seen.append) == job.path / "result"
    assert seen == [StageStarted(message="Writing the volume")]
    assert (job.status().done, job.status().total) == (7, 9)


def test_a_verdict_is_kept_in_the_log_of_the_job(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restoring(*_: Any) -> Generator[Step, None, Path | None]:
        yield VerdictReached(message="What would be removed is noise.")
        return job.path / "result"

    monkeypatch.setattr(run, "_operation", restoring)
    run_to_end(run.run_steps(job))
    messages = [event.get("message") for event in job.events()[0]]
    assert "What would be removed is noise." in messages
