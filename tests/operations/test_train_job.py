"""The settings of training are valid in any folder; its last stage can be stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr.core.steps import (
    JudgingProgress,
    JudgingStarted,
    TrainingProgress,
    run_to_end,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.models import bundle
from napari_geosr.operations.train import TrainJob, config_class


def test_a_model_given_by_its_path_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "foam-denoise").mkdir()

    def absolute(text: str | None) -> str | None:
        config = config_class("noise2noise").create(from_model=text)
        job = TrainJob(method="noise2noise", training=config).with_absolute_paths()
        return job.training.from_model

    assert absolute("models/mine") == str(tmp_path / "models" / "mine")
    assert absolute(None) is None
    assert absolute("not-there") == "not-there"
    assert absolute("foam-denoise") == "foam-denoise"  # the name comes first


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """Training for three steps."""
    rng = np.random.default_rng(0)
    for name in "ab":
        data = rng.normal(size=(8, 40, 40)).astype(np.float32)
        tifffile.imwrite(tmp_path / f"{name}.tif", data)
    config = config_class("noise2noise").create(
        source=[tmp_path / "a.tif"],
        target=[tmp_path / "b.tif"],
        name="m",
        steps=3,
        batch_size=2,
        patch=16,
        layers=1,
        width=2,
        device="cpu",
        threads=1,
    )
    values = TrainJob(method="noise2noise", training=config).to_values()
    return JobFolder.create(tmp_path / "job", values, name="m")


@pytest.mark.parametrize(
    ("wish", "state"), [("pause", "paused"), ("cancel", "cancelled")]
)
def test_judging_stops_and_a_resumed_job_judges_at_once(
    job: JobFolder, wish: Any, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On any machine, it checks for the request before the first tile is done.
    monkeypatch.setattr("napari_geosr.jobs.run._POLL_SECONDS", 0.0)
    kinds = []
    for step in run_steps(job):
        kinds.append(type(step))
        if isinstance(step, JudgingStarted):
            assert job.status().state == "finishing"
            job.request(wish)
    assert JudgingProgress not in kinds
    status = job.status()
    assert (status.state, status.done, status.total) == (state, 3, 3)
    assert not (job.path / "result").exists()
    again = list(run_steps(job))
    assert TrainingProgress not in {type(step) for step in again}
    assert JudgingProgress in {type(step) for step in again}
    status = job.status()
    assert status.state == "done"
    assert status.result is not None
    assert bundle.load(status.result).card.figures


@pytest.mark.parametrize("change_of_mind", [False, True])
def test_who_wants_the_model_as_it_is_gets_it_judged(
    job: JobFolder, change_of_mind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.jobs.run._POLL_SECONDS", 0.0)
    monkeypatch.setattr("napari_geosr.learning.training.clock._REPORT_SECONDS", 0.0)
    values = job.values()
    values["training"]["steps"] = 10_000
    job.replace_values(values)
    steps = run_steps(job)
    for step in steps:
        if isinstance(step, TrainingProgress):
            break
    job.request("finish")
    for step in steps:
        if isinstance(step, JudgingStarted) and change_of_mind:
            job.request("pause")
    assert job.status().state == ("paused" if change_of_mind else "done")
    assert 0 < job.status().done < 10_000


def test_a_closed_judging_leaves_the_job_to_be_resumed(job: JobFolder) -> None:
    steps = run_steps(job)
    for step in steps:
        if isinstance(step, JudgingProgress):
            break
    steps.close()
    assert job.status().state == "paused"
    assert run_to_end(run_steps(job)).name == "m"
