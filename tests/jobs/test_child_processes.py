"""Processes started for jobs import nothing from the current folder."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs import local
from napari_geosr.jobs.estimate import estimate_steps
from napari_geosr.jobs.folder import JobFolder

#: An operation that no release has, so that a process ends immediately.
VALUES = {"operation": "nothing", "method": "", "training": {}}


def poison(folder: Path) -> None:
    """Create a module with the name of one that the process imports."""
    (folder / "yaml.py").write_text("raise SystemExit('the wrong module')\n")


def test_a_job_imports_nothing_from_its_folder(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "job", VALUES, name="a")
    poison(job.path)
    pid = local.start(job)
    deadline = time.monotonic() + 240
    while psutil.pid_exists(pid) and job.status().is_alive:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    log = (job.path / "log.txt").read_text()
    assert "the wrong module" not in log
    assert (job.status().state, "'nothing'" in job.status().message) == ("failed", True)


def test_an_estimate_imports_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JobError, match="'nothing'"):
        run_to_end(estimate_steps(VALUES))
