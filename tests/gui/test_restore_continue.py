"""A stopped restoration is resumed in its own layer."""

from __future__ import annotations

import numpy as np
import pytest
from held_runs import SHAPE, hold_runs
from opening import opened

from napari_geosr.gui.restore.widgets import RESUME, RUN

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def goes_on(monkeypatch):
    return hold_runs(monkeypatch)


@pytest.fixture
def dock(viewer, rng, goes_on):
    scan = rng.normal(100, 10, SHAPE).astype(np.float32)
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer)
    return dock


def run(dock, qtbot, *, stop: bool):
    """Press the button; return the layer, and the number of the first tile."""
    shown: list[int] = []
    restoring = dock.activity
    restoring.progressed.connect(
        lambda stage, done, _: shown.append(done) if stage == "tiles" else None
    )
    with qtbot.waitSignal(restoring.finished, timeout=120_000) as finished:
        dock.run_button.click()
        if stop:
            qtbot.waitUntil(lambda: bool(shown), timeout=60_000)
            dock.cancel_button.click()
    assert finished.args[1].complete is not stop
    qtbot.waitUntil(lambda: restoring.busy == "", timeout=30_000)
    return finished.args[0], shown[0]


def test_continue_fills_the_layer_that_was_left(viewer, qtbot, dock, goes_on):
    assert dock.run_button.text() == RUN[0]
    layer, first = run(dock, qtbot, stop=True)
    assert "Resume" in dock.message.text
    assert dock.run_button.text() == RESUME[0]
    assert layer.name in dock.run_button.toolTip()
    finite = np.isfinite(layer.data)
    before = np.where(finite, layer.data, 0)
    assert 0 < finite.mean() < 1
    goes_on.set()
    same, later = run(dock, qtbot, stop=False)
    assert same is layer
    assert later > first
    assert len(viewer.layers) == 2
    assert np.isfinite(layer.data).all()
    assert (layer.data[finite] == before[finite]).all()
    assert layer.name == "scan · ct-denoise"
    assert layer.metadata["geosr"]["provenance"][-1]["complete"] is True
    assert dock.run_button.text() == RUN[0]


def test_after_a_change_it_begins_anew(viewer, qtbot, dock):
    layer, _ = run(dock, qtbot, stop=True)
    dock.form.set_values({"nonfinite": "zero"})
    dock.form.changed.emit()
    assert dock.run_button.text() == RUN[0]
    dock.form.set_values({"nonfinite": "mean"})
    dock.form.changed.emit()
    assert dock.run_button.text() == RESUME[0]
    viewer.layers.remove(layer)
    assert dock.run_button.text() == RUN[0]
    assert dock.activity.unfinished() is None
