"""``jobs resume`` with other settings for the rest of the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.train import TrainJob, config_class

MORE = ["--learning-rate", "0.0005", "--batch-size", "4", "--steps", "6"]


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    rng = np.random.default_rng(0)
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    config = config_class("noise2noise").create(
        source=[scans[0]],
        target=[scans[1]],
        name="m",
        steps=4,
        batch_size=2,
        patch=24,
        layers=3,
        width=2,
        device="cpu",
        threads=1,
    )
    made = TrainJob(method="noise2noise", training=config)
    return JobFolder.create(tmp_path / "job", made.to_values(), name="m")


def changes(job: JobFolder) -> list[object]:
    return [e["changed"] for e in job.events()[0] if e["event"] == "settings"]


def test_the_rest_is_trained_with_other_settings(job: JobFolder) -> None:
    for step in (steps := run_steps(job)):
        if step.done >= 2:
            break
    steps.close()
    assert job.status().state == "paused"
    before = job.values()
    assert run(["jobs", "resume", str(job.path), *MORE]) == 0
    new = {"learning_rate": 0.0005, "batch_size": 4, "steps": 6}
    assert job.values() == before | {"training": before["training"] | new}
    (changed,) = changes(job)
    assert changed == {
        name: {"before": before["training"][name], "after": value}
        for name, value in new.items()
    }
    last = [e for e in job.events()[0] if e["event"] == "progress"][-1]
    assert (last["step"], last["total"]) == (6, 6)
    assert last["learning_rate"] <= 0.0005
    assert job.status().state == "done"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--learning-rate", "7"], "learning rate"),
        (["--batch-size", "0"], "batch size"),
        (["--steps", "2"], "already done 3 steps"),
    ],
)
def test_what_is_not_allowed_changes_nothing(
    job: JobFolder, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    job.set_state("failed", message="The loss is no number.", done=3, total=4)
    before = (job.path / "config.yaml").read_text()
    assert run(["jobs", "resume", str(job.path), *given]) == 2
    assert said in capsys.readouterr().err
    with JobFolder(job.path).hold():
        assert run(["jobs", "resume", str(job.path), *MORE]) == 2
    assert (job.path / "config.yaml").read_text() == before
    assert changes(job) == []
    assert run(["jobs", "show", str(job.path)]) == 0
    assert "--learning-rate" in capsys.readouterr().out


def test_the_same_settings_are_no_change(job: JobFolder) -> None:
    job.set_state("failed", message="The loss is no number.")
    assert run(["jobs", "resume", str(job.path), "--steps", "4"]) == 0
    assert changes(job) == []
