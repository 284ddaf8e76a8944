"""The power consumption of a training run in the terminal, if it is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.steps import Step, TrainingProgress
from napari_geosr.jobs import run as run_module
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise"}
    job = JobFolder.create(tmp_path / "job", values, name="m")
    steps: list[Step] = [
        TrainingProgress(1, 2, losses={"loss": 0.5}),
        TrainingProgress(2, 2, losses={"loss": 0.4}, watts=87.6),
    ]
    for step in steps:
        run_module._record_step(job, step)
    job.set_state("done")
    return job


def test_show_says_the_last_power(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", "show", str(job.path)]) == 0
    assert "88 W" in capsys.readouterr().out
    assert run(["jobs", "show", str(job.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["progress"]["watts"] == 87.6


def test_watch_prints_events_as_json(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", "watch", str(job.path), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["watts"] for e in events] == [None, 87.6]
