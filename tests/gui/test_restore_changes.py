"""Runs whose source is changed or removed while they are in progress."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from held_runs import SHAPE, hold_runs
from opening import opened

from napari_geosr import restore
from napari_geosr.gui.layers import METADATA, volume_from_layer
from napari_geosr.gui.restore import source_watch

PLACE = {"scale": (2.0, 0.5, 0.5), "units": "um"}


@pytest.fixture
def goes_on(monkeypatch):
    return hold_runs(monkeypatch)


@pytest.fixture
def dock(viewer, qtbot, rng, goes_on):
    scan = rng.normal(100, 10, SHAPE).astype(np.float32)
    viewer.add_image(scan, name="scan", **PLACE)
    made = opened(viewer)
    made.model_box.set_model("ct-denoise")
    qtbot.waitUntil(lambda: made.activity.is_ready, timeout=60_000)
    return made


def running(dock, qtbot):
    """Start a run, and wait for its first tile."""
    dock.run_button.click()
    qtbot.waitUntil(
        lambda: (
            dock.activity.target() is not None and "Tile" in dock.progress_label.text()
        ),
        timeout=60_000,
    )
    assert dock.activity.busy == "run"


def test_a_result_of_data_that_was_replaced_says_so(dock, viewer, qtbot, rng, goes_on):
    source = viewer.layers["scan"]
    before = volume_from_layer(source)
    running(dock, qtbot)
    source.data = rng.normal(500, 10, source.data.shape).astype(np.float32)
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        goes_on.set()
    layer, restored, _ = finished.args
    assert restored.complete
    assert "'scan' were replaced during the run" in dock.message.text
    assert "earlier data" in layer.name
    assert "replaced" in layer.metadata[METADATA]["source_change"]
    assert not dock.compare.isEnabled()  # with data that are no longer those restored
    expected = restore(before, "ct-denoise")
    np.testing.assert_allclose(layer.data, expected.data, atol=1e-3)


def test_a_change_is_said_while_the_run_goes_on(dock, viewer, qtbot, monkeypatch):
    monkeypatch.setattr(source_watch, "_SECONDS_BETWEEN_CHECKS", 0.0)
    source = viewer.layers["scan"]
    running(dock, qtbot)
    source.data += 7
    qtbot.waitUntil(lambda: "mixture" in dock.message.text, timeout=60_000)
    assert dock.activity.busy == "run"
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        dock.cancel_button.click()
    assert not finished.args[1].complete
    assert dock.message.text.startswith("Caution: Stopped.")
    assert dock.activity.unfinished() is None
    assert "'scan' were changed during the run" in dock.message.text


@pytest.mark.slow
def test_a_result_of_data_that_stayed_says_nothing(dock, viewer, qtbot, goes_on):
    goes_on.set()
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        dock.run_button.click()
    layer = finished.args[0]
    assert dock.activity.watch.message == ""
    assert "source_change" not in layer.metadata[METADATA]
    assert "earlier" not in layer.name


def test_a_result_of_a_file_that_was_changed_says_so(
    viewer, qtbot, rng, goes_on, tmp_path
):
    path = tmp_path / "scan.tif"
    scan = rng.normal(100, 10, SHAPE).astype(np.float32)
    tifffile.imwrite(path, scan, photometric="minisblack", metadata={"axes": "ZYX"})
    viewer.open(path, plugin="napari-geosr")
    dock = opened(viewer)
    dock.model_box.set_model("ct-denoise")
    qtbot.waitUntil(lambda: dock.activity.is_ready, timeout=60_000)
    with path.open("r+b") as stream:
        stream.seek(-100, 2)
        stream.write(bytes(50))
    goes_on.set()
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        dock.run_button.click()
    layer, restored, _ = finished.args
    assert "scan.tif was changed after it was opened" in dock.message.text
    entry = restored.volume.provenance[-1]["inputs"]["input"]
    assert entry["checksum"].startswith("crc32")
    np.testing.assert_array_equal(viewer.layers[0].data, scan)
    assert layer in viewer.layers


def test_a_run_whose_source_goes_stops_with_a_sentence(dock, viewer, qtbot):
    source = viewer.layers["scan"]
    running(dock, qtbot)
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as finished:
        viewer.layers.remove(source)
    layer, restored, _ = finished.args
    assert layer in viewer.layers
    assert not restored.complete
    assert "Stopped. 'scan' was removed during the run" in dock.message.text
    assert np.isfinite(layer.data).any()
