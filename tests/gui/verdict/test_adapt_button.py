"""Adapting the chosen model to the current scan with a real job, in real napari."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from opening import opened
from scipy import ndimage

from napari_geosr.gui.restore import RestoreDock
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.models import catalogue

_LONG = 300_000


@pytest.fixture
def dock(make_napari_viewer, rng, qtbot, tmp_path) -> RestoreDock:
    viewer = make_napari_viewer(show=True)
    data = ndimage.gaussian_filter(rng.normal(size=(12, 96, 96)), 2) > 0
    noisy = 100 * data + rng.normal(0, 15, data.shape)
    viewer.add_image(noisy.astype(np.float32), name="scan", scale=(2.0, 0.5, 0.5))
    dock = opened(viewer)
    button = dock.verdict_panel.adapt_button
    button.folder, button.minutes = tmp_path / "jobs", 0.1
    dock.verdict_panel.activity.set_volume(None, None)
    return dock


def test_only_denoisers_with_weights_are_offered_for_adapting(dock):
    button = dock.verdict_panel.adapt_button
    dock.model_box.set_model("ct-denoise")
    assert button.isEnabled()
    for other in ("gaussian", "foam-sr-x2"):
        dock.model_box.set_model(other)
        assert not button.isEnabled(), other


@pytest.fixture
def finished(tmp_path) -> JobFolder:
    """An adaptation of ct-denoise that is done; its result is the bundled model."""
    values = {"operation": "train", "method": "adapt"}
    values["training"] = {"from_model": "ct-denoise"}
    job = JobFolder.create(tmp_path / "adapted", values, name="adapted")
    job.set_state("done", result=str(catalogue.find("ct-denoise").path))
    return job


def test_a_better_model_is_chosen(dock, qtbot, finished):
    better = finished.path / "result" / "adapted"
    shutil.copytree(catalogue.find("ct-denoise").path, better)
    finished.set_state("done", result="result/adapted")
    dock.model_box.set_model("gaussian")
    button = dock.verdict_panel.adapt_button
    button.started.emit()  # for the selected layer
    with qtbot.waitSignal(button.adapted, timeout=10_000) as adapted:
        button._on_started(finished.path)
    assert adapted.args == [better]
    qtbot.waitUntil(lambda: "ct-denoise-2" in dock.model_box.model(), timeout=10_000)
    assert button.job is None


def test_without_gain_the_model_is_kept_and_the_reason_given(dock, qtbot, finished):
    reason = "No gain is expected: the adapted model would be 0.1 dB worse."
    finished.append("warning", message=reason)
    dock.model_box.set_model("ct-denoise")
    button = dock.verdict_panel.adapt_button
    with qtbot.waitSignal(button.unchanged, timeout=10_000) as unchanged:
        button._on_started(finished.path)
    assert unchanged.args == [reason]
    assert dock.model_box.model() == "ct-denoise"
    assert button.job is None


@pytest.mark.slow
def test_a_real_adaptation_ends_with_a_result(dock, qtbot):
    dock.model_box.set_model("ct-denoise")
    button = dock.verdict_panel.adapt_button
    button.click()
    assert button.text() == "Stop adapting"
    found = []
    for signal in (button.adapted, button.unchanged):
        signal.connect(found.append)
    qtbot.waitUntil(lambda: bool(found), timeout=_LONG)
    assert button.job is None
    assert button.isEnabled()


@pytest.mark.slow
def test_a_stopped_adaptation_leaves_the_model_as_it_was(dock, qtbot):
    dock.model_box.set_model("ct-denoise")
    button, told = dock.verdict_panel.adapt_button, []
    button.progressed.connect(told.append)
    button.minutes = 5
    button.click()
    qtbot.waitUntil(lambda: button.job is not None, timeout=_LONG)
    button.click()
    qtbot.waitUntil(lambda: button.job is None, timeout=_LONG)
    assert told[-1].startswith("The adaptation was stopped")
    assert dock.model_box.model() == "ct-denoise"
