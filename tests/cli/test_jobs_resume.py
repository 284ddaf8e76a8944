"""``jobs resume`` with other settings for the rest of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.jobs import index
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


def test_resuming_a_job_that_is_done_says_where_its_result_is(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", "resume", str(job.path)]) == 0
    result = job.status().result
    before = (job.path / "job.json").read_bytes()
    capsys.readouterr()
    for more in ([], ["--detach"], ["--steps", "4"]):
        assert run(["jobs", "resume", str(job.path), *more]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "m is already done; nothing was run.",
            f"Model: {result}",
        ]
    assert run(["jobs", "resume", str(job.path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["state"], values["model"]) == ("done", str(result))
    assert (job.path / "job.json").read_bytes() == before


def test_a_job_that_is_done_takes_no_other_settings(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    job.set_state("done")
    assert run(["jobs", "resume", str(job.path), "--steps", "9"]) == 2
    assert "is already done" in capsys.readouterr().err


def test_a_job_that_ends_while_it_is_resumed_is_no_error(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.set_state("interrupted")
    real = index.register

    def register(folder: JobFolder) -> None:
        real(folder)
        job.set_state("done")  # by another process

    monkeypatch.setattr(index, "register", register)
    assert run(["jobs", "resume", str(job.path)]) == 0
    assert "already done" in capsys.readouterr().out


def test_a_job_that_runs_is_not_resumed(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    job.set_state("running", pid=1, host="elsewhere")
    assert run(["jobs", "resume", str(job.path)]) == 2
    said = capsys.readouterr().err
    assert "m is already running" in said
    assert "jobs watch" in said
