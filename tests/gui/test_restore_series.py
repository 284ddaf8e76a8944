"""The Restore dock on a time series or several channels, in real napari."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from qtpy.QtWidgets import QComboBox

from napari_geosr import restore
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.restore import RestoreDock

ALL, ONE = "All time points", "Only the current one"


@pytest.fixture
def series(viewer, rng):
    """Four fading time points (T, Y, X), from 10 s in steps of 3 s."""
    data = rng.normal(100, 10, (4, 48, 56)).astype(np.float32)
    data[:, 16:30, 20:40] -= 60
    data *= np.array([1, 0.9, 0.8, 0.7], np.float32)[:, None, None]
    return viewer.add_image(
        data,
        name="cells",
        axis_labels=("t", "y", "x"),
        units=("s", "um", "um"),
        scale=(3, 0.5, 0.5),
        translate=(10, 20, 30),
    )


def opened(viewer) -> RestoreDock:
    dock = opening.opened(viewer)
    dock.model_box.set_model("ct-denoise")
    return dock


def choose(combo: QComboBox, text: str) -> None:
    combo.setCurrentIndex(combo.findText(text))
    combo.activated.emit(combo.currentIndex())


def run(dock, qtbot):
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000):
        dock.run_button.click()
    return dock.activity.target()


def test_all_time_points_are_restored_into_one_layer(viewer, qtbot, series):
    dock = opened(viewer)
    assert not dock.extent.isHidden()
    assert dock.extent.currentText() == ALL
    viewer.dims.set_point(0, 16)  # seconds: the third
    result = run(dock, qtbot)
    assert "of 4 time points" in dock.estimate.text()
    expected = restore(volume_from_layer(series, whole=True), "ct-denoise")
    np.testing.assert_array_equal(result.data, expected.data)
    for name in ("scale", "translate"):
        np.testing.assert_allclose(getattr(result, name), getattr(series, name))
    assert result.units == series.units
    assert result.axis_labels == series.axis_labels
    np.testing.assert_allclose(result.extent.world, series.extent.world)
    dock.compare.difference_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=20_000)
    change = np.asarray(viewer.layers[-1].data)
    np.testing.assert_allclose(change, result.data - series.data, atol=1e-3)


@pytest.mark.slow
def test_finer_voxels_and_affines_line_up_as_well(viewer, qtbot, series):
    affine = np.eye(4)
    affine[:3, 3] = 5, 7, 9
    series.affine = affine
    dock = opened(viewer)
    dock.model_box.set_model("fluo-sr-x2")
    result = run(dock, qtbot)
    assert result.data.shape == (4, 96, 112)
    for index in ((0, 0, 0), (3, 20, 31)):
        fine = (index[0], *(2 * i + 0.5 for i in index[1:]))
        np.testing.assert_allclose(
            result.data_to_world(fine), series.data_to_world(index)
        )


def test_only_the_one_on_screen(viewer, qtbot, series):
    dock = opened(viewer)
    choose(dock.extent, ONE)
    viewer.dims.set_point(0, 13)
    result = run(dock, qtbot)
    assert result.metadata["geosr"]["position"] == {"time": 1}
    alone = restore(volume_from_layer(series, position={"time": 1}), "ct-denoise")
    np.testing.assert_array_equal(result.data, alone.data)


def test_the_preview_is_the_point_on_screen_as_the_run_gives_it(viewer, qtbot, series):
    dock = opened(viewer)
    viewer.dims.set_point(0, 16)
    with qtbot.waitSignal(dock.activity.previewed, timeout=120_000):
        dock.preview_button.setChecked(True)
    ready = dock.activity._ready
    shown = [np.array(preview(viewer).data)]
    with qtbot.waitSignal(dock.activity.previewed, timeout=120_000):
        viewer.dims.set_point(0, 10)
    shown.append(np.array(preview(viewer).data))
    assert dock.activity._ready is ready  # statistics of the series, read once
    whole = run(dock, qtbot).data
    np.testing.assert_array_equal(shown[0], whole[2])
    np.testing.assert_array_equal(shown[1], whole[0])


def preview(viewer):
    (found,) = (layer for layer in viewer.layers if layer.name.endswith("preview"))
    return found


def test_what_was_stopped_is_continued_wherever_the_slider_is(
    viewer, qtbot, series, monkeypatch
):
    whole = restore(volume_from_layer(series, whole=True), "ct-denoise").data
    dock = opened(viewer)
    restoring = dock.activity
    from napari_geosr.operations.restore.series import run as operation

    fill, filled = operation.fill_tiles, []

    def stops(prepared, targets, first, kept, should_stop, *rest):
        filled.append(prepared)
        stop = (lambda: True) if len(filled) == 3 else should_stop
        return fill(prepared, targets, first, kept, stop, *rest)

    monkeypatch.setattr(operation, "fill_tiles", stops)
    result = run(dock, qtbot)
    assert dock.run_button.text() == "&Resume"
    assert np.isfinite(result.data).all(axis=(1, 2)).tolist() == [1, 1, 0, 0]
    viewer.dims.set_point(0, 19)
    assert restoring.unfinished() is result
    assert run(dock, qtbot) is result
    assert len(filled) == 5
    np.testing.assert_array_equal(result.data, whole)
    assert result.name == "cells · ct-denoise"


@pytest.mark.slow
def test_deviations_have_the_same_axes(viewer, qtbot, series):
    dock = opened(viewer)
    combo = dock.uncertainty.combo
    combo.setCurrentIndex(combo.findData("tta"))
    dock.uncertainty.members.setValue(2)
    result = run(dock, qtbot)
    deviation = dock.activity.deviation()
    assert deviation.data.shape == result.data.shape == (4, 48, 56)
    np.testing.assert_allclose(deviation.scale, series.scale)
    np.testing.assert_allclose(deviation.translate, series.translate)
    assert deviation.contrast_limits[1] < np.ptp(series.data)


def test_the_choice_is_there_for_series_alone(viewer, qtbot, rng):
    volume = viewer.add_image(rng.random((6, 20, 20)), name="volume")
    channels = viewer.add_image(
        rng.random((2, 20, 20)), name="channels", axis_labels=("c", "y", "x")
    )
    both = viewer.add_image(
        rng.random((2, 2, 6, 20, 20)),
        name="both",
        axis_labels=("t", "c", "z", "y", "x"),
    )
    dock = opened(viewer)
    for layer, text in ((channels, "channels"), (both, "time points and channels")):
        dock.layer_combo.set_layer(layer)
        assert not dock.extent.isHidden()
        assert not dock.extent.label.isHidden()
        assert dock.extent.itemText(0) == f"All {text}"
    dock.layer_combo.set_layer(volume)
    assert dock.extent.isHidden()
    assert dock.extent.label.isHidden()


def test_the_command_says_the_same(viewer, qtbot, series, tmp_path):
    from qtpy.QtGui import QGuiApplication

    series.metadata["geosr"] = {"source": tmp_path / "cells.ome.tif"}
    dock = opened(viewer)
    viewer.dims.set_point(0, 16)
    dock.copy_command.click()
    assert "--time" not in QGuiApplication.clipboard().text()
    choose(dock.extent, ONE)
    dock.copy_command.click()
    assert "--time 2" in QGuiApplication.clipboard().text()


@pytest.mark.slow
def test_another_strength_is_that_of_the_series(viewer, qtbot, series):
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.ready, timeout=120_000):
        dock.model_box.set_model("porous-denoise")
    config = dock.config()
    assert config.strength == 1
    with qtbot.waitSignal(dock.activity.ready, timeout=120_000):
        dock.activity.set_config(config.model_copy(update={"strength": 0.0}))
    ready = dock.activity._ready
    prepared = ready.at({"time": 1})
    assert prepared.config.strength == 0
    assert ready.prepared.config.strength == 0


def test_what_is_removed_is_that_of_the_point_on_screen(viewer, qtbot, series):
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.ready, timeout=120_000):
        pass
    viewer.dims.set_point(0, 16)
    button = dock.verdict_panel.removed_button
    with qtbot.waitSignal(button.shown, timeout=120_000):
        button.click()
    removed = np.asarray(button.layer().data)
    whole = restore(volume_from_layer(series, whole=True), "ct-denoise").data
    np.testing.assert_allclose(removed, series.data[2] - whole[2], atol=1e-3)
