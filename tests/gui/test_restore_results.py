"""Use of a restored layer: saving, measuring, or discarding it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opening
import pytest
from held_runs import hold_runs
from qtpy.QtWidgets import QDockWidget, QFileDialog

from napari_geosr import io
from napari_geosr.gui.kit.dock_tabs import COMPARE, POROSITY
from napari_geosr.gui.layers.saving import FILTERS, with_suffix_of

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def scan(rng) -> np.ndarray:
    return rng.normal(100, 10, (6, 24, 30)).astype(np.float32)


@pytest.fixture
def goes_on(monkeypatch):
    return hold_runs(monkeypatch)


def opened(viewer):
    dock = opening.opened(viewer)
    return dock


def test_a_run_wished_for_goes_with_its_layer(viewer, qtbot, scan):
    dock = opened(viewer)
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock.run_button.click()
    viewer.layers.remove(source)
    other = viewer.add_image(scan, name="other", **PLACE)
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        pass
    qtbot.wait(300)
    assert dock.activity.busy == ""
    assert list(viewer.layers) == [other]


def test_what_a_run_warned_of_is_still_there_at_its_end(viewer, qtbot, scan):
    scan[:, :, 20:] = np.nan
    viewer.add_image(scan, name="masked", **PLACE)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    assert "Done in" in dock.message.text
    assert "1440 NaN" in dock.message.text
    assert np.isnan(dock.activity.target().data[:, :, 20:]).all()


def test_a_result_is_saved_whole_and_measured_beside(
    viewer, qtbot, scan, tmp_path, monkeypatch
):
    asked = []
    answer = [str(tmp_path / "a.ome.tif"), next(iter(FILTERS))]

    def ask(parent, title, start, filters, chosen):
        asked.append(start)
        return tuple(answer)

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    viewer.window.resize(1500, 900)
    file = tmp_path / "my scan.tif"
    source = viewer.add_image(scan, name="my scan", **PLACE)
    source.metadata["geosr"] = {"source": file}
    dock = opened(viewer)
    assert dock.save_button.isHidden()
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    assert not dock.save_button.isHidden()
    assert dock.save_button.parentWidget().minimumSizeHint().width() <= 300
    with qtbot.waitSignal(dock.save_button.saved, timeout=10_000):
        dock.save_button.click()
    assert asked == [str(tmp_path / "my_scan_ct-denoise.ome.tif")]
    assert "Saved as" in dock.message.text
    result = dock.activity.target()
    saved = io.read(tmp_path / "a.ome.tif")
    assert (saved.voxel_size, saved.unit) == (PLACE["scale"], "µm")
    assert saved.origin == PLACE["translate"]
    assert saved.provenance[-1]["model"]["name"] == "ct-denoise"
    np.testing.assert_array_equal(np.asarray(saved.data), result.data)

    qtbot.waitUntil(dock.save_button.isEnabled)
    file.touch()
    answer[0] = str(file)
    dock.save_button.click()
    assert "is the image that was restored" in dock.message.text
    assert file.stat().st_size == 0

    dock.measure_button.click()
    docks = {
        d.windowTitle(): d for d in viewer.window._qt_window.findChildren(QDockWidget)
    }
    restore = next(d for name, d in docks.items() if "Restore" in name)
    porosity = next(d for name, d in docks.items() if "Porosity" in name)
    assert restore in viewer.window._qt_window.tabifiedDockWidgets(porosity)
    qtbot.waitUntil(lambda: not porosity.visibleRegion().isEmpty())
    measuring = opening.opened(viewer, POROSITY)
    assert measuring.settings.image.layer() is result
    # Later, the dock shows the porosity of the scan.
    measuring.settings.image.set_layer(source)
    measuring.tabs.setCurrentIndex(1)
    restore.raise_()
    qtbot.waitUntil(lambda: not restore.visibleRegion().isEmpty())
    dock.measure_button.click()
    qtbot.waitUntil(lambda: not porosity.visibleRegion().isEmpty())
    assert measuring.settings.image.layer() is result
    assert measuring.tabs.currentIndex() == 0

    viewer.layers.remove(result)
    assert dock.save_button.isHidden()


@pytest.mark.parametrize(
    ("name", "which", "becomes"),
    [
        ("a", 0, "a.ome.tif"),
        ("a.tif", 0, "a.tif"),
        ("a.ome.tif", 1, "a.tif"),
        ("a.ome.tif", 2, "a.ome.zarr"),
        ("a.zarr", 2, "a.zarr"),
        ("a.v2", 1, "a.v2.tif"),
    ],
)
def test_the_format_chosen_gives_the_suffix(name, which, becomes):
    assert with_suffix_of(Path(name), list(FILTERS)[which]) == Path(becomes)


def test_a_run_belongs_to_its_source_also_when_that_goes(
    viewer, qtbot, scan, tmp_path, monkeypatch, goes_on
):
    asked = []

    def ask(parent, title, start, filters, chosen):
        asked.append(start)
        return str(file), filters.split(";;")[1]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    other = viewer.add_image(scan, name="other", **PLACE)
    other.metadata["geosr"] = {"source": tmp_path / "elsewhere" / "other.tif"}
    file = tmp_path / "scan.tif"
    file.touch()
    source = viewer.add_image(np.tile(scan, (8, 2, 2)), name="scan", **PLACE)
    source.metadata["geosr"] = {"source": file}
    dock = opened(viewer)
    dock.layer_combo.set_layer(source)
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
    result = dock.activity.target()
    with qtbot.waitSignal(dock.activity.finished, timeout=30_000) as finished:
        viewer.layers.remove(source)
    assert not finished.args[1].complete
    qtbot.waitUntil(lambda: dock.layer_combo.layer() is not source)
    # There is nothing to compare with, but the folder and the scan of this run remain.
    assert dock.compare.pair() is None
    assert not dock.compare.isEnabled()
    assert not dock.save_button.isHidden()
    dock.save_button.click()
    assert asked == [str(tmp_path / "scan_ct-denoise_unfinished.ome.tif")]
    assert "is the image that was restored" in dock.message.text
    assert result.metadata["geosr"]["source_layer"] == "scan"
    assert list(viewer.layers) == [other, result]


@pytest.mark.slow
def test_a_stopped_result_is_told_from_a_complete_one_by_its_name(
    viewer, qtbot, scan, goes_on
):
    viewer.add_image(np.tile(scan, (8, 2, 2)), name="a", **PLACE)
    dock = opened(viewer)
    for how in ("stopped", "renamed by hand and stopped", "complete"):
        if how == "complete":
            viewer.layers["a"].data = scan
            goes_on.set()
        with qtbot.waitSignal(dock.activity.finished, timeout=60_000) as finished:
            dock.run_button.click()
            if how != "complete":
                qtbot.waitUntil(
                    lambda: dock.activity.target() is not None, timeout=60_000
                )
                if "renamed" in how:
                    dock.activity.target().name = "mine"
                dock.cancel_button.click()
        assert finished.args[1].complete == (how == "complete")
        qtbot.waitUntil(dock.run_button.isEnabled)  # the worker ends after its result
        dock.activity._target = None
    names = [layer.name for layer in viewer.layers]
    assert names == ["a", "a · ct-denoise (unfinished)", "mine", "a · ct-denoise"]
    assert dock.save_button._layer() is viewer.layers["a · ct-denoise"]


@pytest.mark.slow
def test_a_complete_result_keeps_the_name_that_a_person_gave_it(
    viewer, qtbot, scan, goes_on
):
    viewer.add_image(np.tile(scan, (8, 2, 2)), name="a", **PLACE)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000) as finished:
        dock.run_button.click()
        qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
        dock.activity.target().name = "mine"
        goes_on.set()
    assert finished.args[1].complete
    assert finished.args[0].name == "mine"


def test_a_result_is_compared_with_its_scan_in_two_clicks(viewer, qtbot, scan):
    source = viewer.add_image(scan, name="scan", **PLACE)
    viewer.add_image(scan + 1, name="other", **PLACE)
    viewer.layers.selection.active = source
    dock = opened(viewer)
    dock.layer_combo.set_layer(source)
    assert dock.compare_button.isHidden()
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    assert not dock.compare_button.isHidden()
    result = dock.activity.target()
    dock.compare_button.click()
    compare = opening.opened(viewer, COMPARE)
    assert compare.compared_layers() == [source, result]
    compare.compare_button.click()
    qtbot.waitUntil(lambda: not compare.activity.busy, timeout=60_000)
    assert compare.tabs.currentIndex() == 1
    assert compare.view.pair() == (source, result)
    viewer.layers.remove(result)
    assert dock.compare_button.isHidden()


def test_a_result_does_not_become_the_next_image(viewer, qtbot, scan):
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    with qtbot.waitSignal(dock.check_button.checked_result, timeout=60_000):
        dock.check_button.click()
    result = dock.activity.target()
    assert not dock.compare_button.isHidden()
    assert not dock.explanation_box.isHidden()
    viewer.layers.remove(source)
    qtbot.waitUntil(lambda: not dock.run_button.isEnabled())
    qtbot.wait(300)
    assert dock.activity.busy == ""
    assert dock.layer_combo.layer() is None
    assert dock.layer_combo.shown_text() == "Choose a layer"
    assert dock.progress_label.text() == "Choose an image to restore it."
    assert dock.verdict.text == ""
    for gone in (dock.compare_button, dock.explanation_box, dock.check_button):
        assert gone.isHidden()
    assert not dock.save_button.isHidden()  # the result still exists
    dock.layer_combo.set_layer(result)  # if the user chooses it, it is restored
    qtbot.waitUntil(lambda: dock.activity.source() is result)
    other = viewer.add_image(scan, name="other", **PLACE)
    dock.layer_combo.set_layer(other)
    viewer.layers.remove(other)
    qtbot.waitUntil(lambda: dock.layer_combo.layer() is None)
    new = viewer.add_image(scan, name="new", **PLACE)
    qtbot.waitUntil(lambda: dock.activity.source() is new)


def test_the_state_line_says_that_a_difference_is_computed(viewer, qtbot, scan):
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer)
    states = []
    dock.activity.busyChanged.connect(
        lambda what: states.append((what, dock.bar.state.text()))
    )
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    assert ("run", "Starting the run…") in states
    done = "Done. Next: Measure porosity…"
    qtbot.waitUntil(lambda: dock.bar.state.text() == done)
    assert dock.measure_button.property("primary")
    dock.compare.difference_button.click()
    assert dock.bar.state.text() == "Computing the difference…"
    assert dock.bar.progress.isVisibleTo(dock)
    qtbot.waitUntil(lambda: dock.bar.state.text() == done, timeout=10_000)
    assert dock.bar.progress.isHidden()
    assert dock.compare.difference_button.isEnabled()
    dock.strength.slider.setValue(dock.strength.slider.value() - 10)
    qtbot.waitUntil(lambda: dock.run_button.property("primary"))
    assert not dock.measure_button.property("primary")
