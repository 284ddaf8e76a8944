"""Clock jumps and folders with slow renaming do not change what a job writes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob

HOUR = 3600.0


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (48, 40, 40)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    return tmp_path / "scan.tif"


def made(scan: Path, name: str) -> JobFolder:
    """A job of some tiles."""
    config = RestoreConfig.create(model="ct-denoise", memory="100MB", threads=1)
    data = RestoreInput(volume=scan, reading=InputConfig())
    job = RestoreJob(name=name, data=data, settings=config)
    return JobFolder.create(scan.parent / name, job.to_values(), name=name)


def run(job: JobFolder, on_tile: Callable[[int], object] = lambda n: None) -> Any:
    """Run a job, and return the voxels of its result."""
    tiles: list[TileDone] = []

    def note(step: object) -> None:
        if isinstance(step, TileDone):
            tiles.append(step)
            on_tile(len(tiles))

    result = run_to_end(run_steps(job), note)
    assert result is not None
    assert tiles
    return np.asarray(io.read(result).data)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_clock_that_jumps_by_an_hour(
    scan: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    expected = run(made(scan, "steady"))
    job, now, offset = made(scan, "jumping"), time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: now() + offset)
    states = []

    def change(n: int) -> None:
        nonlocal offset
        offset = jump
        status = job.status()
        states.append((status.state, status.is_alive))

    found = run(job, change)
    np.testing.assert_array_equal(found, expected)
    assert set(states) == {("running", True)}
    assert job.status().state == "done"
    # The clock is corrected again.
    offset = 0.0
    assert job.status().state == "done"


def test_a_job_that_was_stopped_resumes_after_a_jump(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results with a time stamp one hour in the future are still reused."""
    expected = run(made(scan, "steady"))
    job, now = made(scan, "jumping"), time.time
    monkeypatch.setattr(time, "time", lambda: now() + HOUR)
    n = 0

    def has_one() -> bool:
        return n > 0

    for step in run_steps(job, should_stop=has_one):
        n += isinstance(step, TileDone)
    assert job.status().state == "paused"
    monkeypatch.setattr(time, "time", now)
    np.testing.assert_array_equal(run(job), expected)


def test_renames_that_take_long_are_never_seen_half_done(
    scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a network folder, while another process continually reads the job."""
    expected = run(made(scan, "quick"))
    job, replace, slow = made(scan, "slow"), os.replace, []

    def delayed(source: Any, target: Any, **more: Any) -> None:
        slow.append(str(target))
        time.sleep(0.05)
        replace(source, target, **more)
        time.sleep(0.05)

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, delayed)
    end, states, problems = threading.Event(), set(), []

    def watch() -> None:
        while not end.is_set():
            try:
                states.add(job.status().state)
                job.events(0, 2**16)
            except Exception as error:  # none is acceptable
                problems.append(error)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        found = run(job)
    finally:
        end.set()
        watching.join()
    np.testing.assert_array_equal(found, expected)
    assert len(slow) >= 3
    assert not problems
    assert states <= {"queued", "running", "finishing", "done"}
    assert job.status().state == "done"
