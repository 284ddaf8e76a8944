"""Failed training is resumed with other settings from the Jobs dock."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from train_helpers import JOBS, SMALL, opened

from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.train import TrainJob, config_class

RATE = 0.01


@pytest.fixture
def job(tmp_path):
    """Make a job that has stopped because the loss was not a number."""
    rng = np.random.default_rng(0)
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    config = config_class("noise2noise").create(
        source=scans[:1], target=scans[1:], name="m", steps=4, device="cpu", **SMALL
    )
    made = TrainJob(method="noise2noise", training=config)
    job = JobFolder.create(tmp_path / "job", made.to_values(), name="m")
    job.set_state("failed", message="The loss is no number.", done=3, total=4)
    index.register(job)
    return job


def changes(job):
    return [e["changed"] for e in job.events()[0] if e["event"] == "settings"]


def shown(viewer, qtbot, job):
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.job == job.path, timeout=20_000)
    qtbot.waitUntil(lambda: dock.view.state == "failed", timeout=20_000)
    return dock.view


def test_it_goes_on_with_another_rate(viewer, qtbot, job, monkeypatch):
    # In this process, because a separate one takes seconds to start.
    monkeypatch.setattr(local, "start", lambda job: run_to_end(run_steps(job)))
    view = shown(viewer, qtbot, job)
    view.resume_with.button.click()
    form = view.resume_with.form
    assert form.values() == {"learning_rate": RATE, "batch_size": 2, "steps": 4}
    qtbot.waitUntil(form.isVisible, timeout=5000)
    form.set_values({"learning_rate": RATE / 2, "steps": 6})
    before = job.values()
    view.resume_with.resume_button.click()
    new = {"learning_rate": RATE / 2, "steps": 6}
    assert job.values() == before | {"training": before["training"] | new}
    assert changes(job) == [
        {
            "learning_rate": {"before": RATE, "after": RATE / 2},
            "steps": {"before": 4, "after": 6},
        }
    ]
    assert not view.resume_with.content.isVisible()
    qtbot.waitUntil(lambda: view.state == "done", timeout=120_000)
    assert view.resume_with.isHidden()
    last = [e for e in job.events()[0] if e["event"] == "progress"][-1]
    assert (last["step"], last["total"]) == (6, 6)
    assert last["learning_rate"] <= RATE / 2


def test_what_is_refused_changes_nothing(viewer, qtbot, job, monkeypatch):
    begun = []
    monkeypatch.setattr(local, "start", begun.append)
    view = shown(viewer, qtbot, job)
    view.resume_with.set_open(True)
    view.resume_with.form.set_values({"steps": 2})
    view.resume_with.resume_button.click()
    assert "already done 3 steps" in view.message.text
    assert view.resume_with.content.isVisible()
    assert (changes(job), begun) == ([], [])
    # Untouched fields do not count as changes, even if the form rounds them.
    view.resume_with.form.set_values({"steps": 4})
    view.resume_with.resume_button.click()
    qtbot.waitUntil(lambda: bool(begun), timeout=20_000)  # started in a thread
    assert [folder.path for folder in begun] == [job.path]
    assert changes(job) == []


def test_settings_that_cannot_be_read_are_said(viewer, qtbot, job):
    values = job.values()
    values["training"]["batch_size"] = "many"
    job.replace_values(values)
    view = shown(viewer, qtbot, job)
    view.resume_with.button.click()
    assert view.resume_with.form is None
    assert not view.resume_with.button.isChecked()
    assert "batch" in view.message.text.lower()
