"""Adapting the chosen model to the current scan with a real job, in real napari."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from opening import opened
from scipy import ndimage

from napari_geosr.gui.restore import RestoreDock

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


@pytest.mark.slow
def test_an_adaptation_ends_in_a_better_model_or_says_why_not(dock, qtbot):
    dock.model_box.set_model("ct-denoise")
    button, found = dock.verdict_panel.adapt_button, []
    button.adapted.connect(found.append)
    button.unchanged.connect(found.append)
    dock.verdict_panel.failed.connect(found.append)
    button.failed.connect(found.append)
    button.click()
    assert button.text() == "Stop adapting"
    qtbot.waitUntil(lambda: bool(found), timeout=_LONG)
    (result,) = found
    assert button.job is None
    assert button.isEnabled()
    if isinstance(result, Path):
        qtbot.waitUntil(lambda: "adapt" in dock.model_box.model(), timeout=_LONG)
    else:
        assert str(result).startswith("No gain is expected"), result
        assert dock.model_box.model() == "ct-denoise"


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
