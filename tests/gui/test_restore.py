"""The Restore dock with the real engine and the bundled model, in real napari."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from held_runs import hold_runs
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
    QSlider,
    QWidget,
)

from napari_geosr import restore
from napari_geosr.core.units import parse_unit
from napari_geosr.gui.kit import remembered as _remembered
from napari_geosr.gui.kit.progress import format_duration
from napari_geosr.gui.restore import RestoreDock
from napari_geosr.operations.restore import RestoreConfig

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def scan(rng) -> np.ndarray:
    data = np.full((12, 60, 80), 100, np.float32)
    data[:, 20:40, 30:50] = 40
    return data + rng.normal(0, 10, data.shape).astype(np.float32)


def opened(viewer) -> RestoreDock:
    dock = opening.opened(viewer)
    return dock


def choose(combo: QComboBox, text: str) -> None:
    combo.setCurrentIndex(combo.findText(text))
    combo.activated.emit(combo.currentIndex())


def layer_named(viewer, part: str):
    found = [layer for layer in viewer.layers if part in layer.name]
    return found[0] if found else None


def test_from_opened_stack_to_result_with_one_click(viewer, qtbot, scan):
    source = viewer.add_image(scan, name="scan", colormap="viridis", **PLACE)
    source.contrast_limits = (20, 120)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        pass
    assert dock.layer_combo.layer() is source
    assert dock.model_box.model() == "ct-denoise"
    assert "s and" in dock.estimate.text()
    assert "on CPU" in dock.estimate.text() or "on CUDA" in dock.estimate.text()
    assert dock.verdict.text

    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    result = layer_named(viewer, "scan · ct-denoise")
    np.testing.assert_array_equal(result.scale, source.scale)
    np.testing.assert_array_equal(result.translate, source.translate)
    assert result.units == source.units
    assert result.colormap.name == "viridis"
    assert tuple(result.contrast_limits) == (20, 120)
    record = result.metadata["geosr"]
    assert record["source_layer"] == "scan"
    assert record["source_id"] == str(source.unique_id)
    assert record["provenance"][-1]["model"]["name"] == "ct-denoise"
    assert record["provenance"][-1]["complete"] is True
    from napari_geosr.gui.layers import volume_from_layer

    whole = restore(volume_from_layer(source), "ct-denoise")
    np.testing.assert_allclose(result.data, whole.data, atol=1e-3)
    assert "Done in" in dock.message.text
    assert not dock.measure_button.isHidden()
    dock.measure_button.click()
    assert viewer.layers.selection.active is result
    assert "Porosity (GeoSR)" in viewer.window.dock_widgets


def test_the_preview_follows_the_slider_in_its_place(viewer, qtbot, scan):
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer)
    viewer.dims.set_current_step(0, 4)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    preview = layer_named(viewer, "preview")
    assert preview.data.shape == (1, 60, 80)
    assert preview.translate == pytest.approx((18.0, 20.0, 30.0))
    assert preview.scale == pytest.approx(source.scale)
    assert preview.units == source.units
    assert viewer.layers.selection.active is source
    with qtbot.waitSignal(dock.activity.previewed, timeout=30_000):
        viewer.dims.set_current_step(0, 5)
        viewer.dims.set_current_step(0, 9)
    assert preview.translate[0] == pytest.approx(28.0)
    assert sum("preview" in layer.name for layer in viewer.layers) == 1
    whole = restore(_volume(source)).data
    np.testing.assert_allclose(preview.data[0], whole[9], atol=1e-3)
    assert dock.layer_combo.count() == 1
    dock.preview_button.click()
    assert not preview.visible
    qtbot.waitUntil(lambda: layer_named(viewer, "preview") is None)


def test_super_resolution_lies_over_the_original(viewer, qtbot, scan):
    source = viewer.add_image(scan[:, :24, :30], name="scan", **PLACE)
    dock = opened(viewer)
    dock.model_box.set_model("foam-sr-x2")
    viewer.dims.set_current_step(0, 4)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    preview = layer_named(viewer, "preview")
    assert preview.data.shape == (2, 48, 60)
    assert preview.scale == pytest.approx((1.0, 0.25, 0.25))
    assert preview.translate == pytest.approx((17.5, 19.875, 29.875))
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    result = dock.activity.target()
    assert result.data.shape == (24, 48, 60)
    for which in (0, 1):
        edge = (2 * which - 1) / 2
        np.testing.assert_allclose(
            result.extent.world[which] + edge * result.scale,
            source.extent.world[which] + edge * source.scale,
        )


def test_of_a_turned_series_what_is_on_screen_is_restored(viewer, qtbot, scan):
    series = np.stack([scan[:6, :24, :30] + t for t in range(3)])
    affine = np.eye(5)
    affine[1:4, 4] = 7, 8, 9
    source = viewer.add_image(
        series,
        name="series",
        axis_labels=("t", "z", "y", "x"),
        units=("s", "um", "um", "um"),
        scale=(1, 2, 0.5, 0.5),
        affine=affine,
    )
    source.rotate = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.8, -0.6], [0, 0, 0.6, 0.8]]
    viewer.dims.set_point(0, 2)
    dock = opened(viewer)
    choose(dock.extent, "Only the current one")
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    result = dock.activity.target()
    assert result.metadata["geosr"]["position"] == {"time": 2}
    assert result.data.shape == (6, 24, 30)
    for corner in ((0, 0, 0), (5, 3, 20)):
        np.testing.assert_allclose(
            result.data_to_world(corner), source.data_to_world((0, *corner))[1:]
        )
    viewer.dims.set_point(0, 0)
    dock.compare.difference_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=20_000)
    change = np.asarray(viewer.layers[-1].data)
    np.testing.assert_allclose(change, result.data - series[2], atol=1e-3)


def _volume(layer):
    from napari_geosr.gui.layers import volume_from_layer

    return volume_from_layer(layer)


def test_layers_that_go_end_the_run(viewer, qtbot, scan, monkeypatch):
    hold_runs(monkeypatch)
    source = viewer.add_image(np.tile(scan, (8, 2, 2)), name="scan", **PLACE)
    dock = opened(viewer)
    for doomed in ("result", "source"):
        dock.run_button.click()
        qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
        target = dock.activity.target()
        viewer.layers.remove(target if doomed == "result" else source)
        qtbot.waitUntil(lambda: dock.activity.busy != "run", timeout=10_000)
        del target
    assert not dock.run_button.isEnabled() or dock.layer_combo.layer() is not source
    assert "Error" not in dock.message.text


def test_unknown_voxel_sizes_and_unfit_layers(viewer, qtbot, scan):
    dock = opened(viewer)
    assert not dock.run_button.isEnabled()
    viewer.add_image(np.zeros((8, 8, 3), np.uint8), rgb=True, name="colours")
    qtbot.waitUntil(lambda: "RGB" in dock.message.text)
    assert not dock.run_button.isEnabled()
    layer = viewer.add_image(scan, name="plain")
    dock.layer_combo.set_layer(layer)
    assert dock.message.isHidden()
    assert not dock.voxel_size.isHidden()
    dock.voxel_size.edges[0].setText("3")
    dock.voxel_size.edges[0].textEdited.emit("3")
    dock.voxel_size.button.click()
    assert dock.voxel_size.isHidden()
    assert tuple(layer.scale) == (3, 3, 3)
    assert parse_unit(str(layer.units[0])) == "µm"
    flat = viewer.add_image(np.full((5, 9, 9), 7.0), name="flat", **PLACE)
    dock.layer_combo.set_layer(flat)
    with qtbot.waitSignal(dock.activity.failed, timeout=60_000):
        dock.run_button.click()
    assert dock.message.text.startswith("Error: ")
    assert not dock.message.details_button.isHidden()
    assert dock.run_button.isEnabled()


def test_a_3d_model_is_not_offered_for_a_single_image(viewer, scan):
    viewer.add_image(scan[0], name="plane", scale=(2, 2), units="um")
    dock = opened(viewer)
    combo = dock.model_box.combo
    rows = {combo.itemData(i): i for i in range(combo.count())}
    last = rows["foam-sr-x2"]
    assert not combo.model().item(last).isEnabled()
    assert "needs a volume" in combo.itemText(last)
    assert last > rows["foam-denoise"]


def test_settings_and_copies(viewer, qtbot, scan, tmp_path):
    layer = viewer.add_image(scan, name="scan", **PLACE)
    layer.metadata["geosr"] = {"source": tmp_path / "my scan.tif"}
    last = RestoreConfig(device="cpu", memory="2GB", strength=1.5)
    _remembered.remember("restore", last)
    dock = opened(viewer)
    # The strength was chosen for another scan.
    assert dock.config() == RestoreConfig(device="cpu", memory="2GB")
    dock.copy_command.click()
    command = QGuiApplication.clipboard().text()
    assert command.startswith("napari-geosr restore '")
    for part in ("--device cpu", "--memory 2GB", "--voxel-size 2.0,0.5,0.5 --unit µm"):
        assert part in command
    dock.copy_python.click()
    assert "restore(volume, model='ct-denoise'" in QGuiApplication.clipboard().text()
    layer.metadata.clear()
    dock.copy_command.click()
    assert "Save it first" in dock.message.text
    dock.form.editor("memory").setText("plenty")
    dock.form.editor("memory").editingFinished.emit()
    assert "'plenty' is not an amount of memory" in dock.form.faults["memory"]
    assert not dock.settings.content.isHidden()
    dock.run_button.click()
    assert set(dock.form.faults) == {"memory"}
    assert "plenty" not in dock.message.text
    _remembered.settings_path("restore").write_text("schema_version: 99\n")
    again = RestoreDock(viewer)
    qtbot.addWidget(again)
    assert again.config() == RestoreConfig()
    assert "schema version 99" in again.message.text


def test_everything_has_a_name_a_tool_tip_and_a_key(viewer, scan):
    viewer.add_image(scan, name="scan")
    dock = opened(viewer)
    dock.settings.set_open(True)
    dock.card.set_open(True)
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit)
    found = [
        child
        for child in dock.findChildren(QWidget)
        if isinstance(child, (*kinds, QSlider, QProgressBar))
    ]
    assert len(found) > 20
    for child in found:
        what = f"{type(child).__name__} {child.objectName()} {child.accessibleName()}"
        assert child.accessibleName(), what
        assert child.toolTip(), what
    keys = []
    for button in dock.findChildren(QAbstractButton):
        assert "&" in button.text() or not button.shortcut().isEmpty(), button.text()
        keys.append(button.shortcut().toString())
    assert len(set(keys)) == len(keys)
    assert "Alt+Shift+U" not in keys  # of the menu of the uncertainty


def test_it_fits_small_screens(viewer, qtbot, scan):
    viewer.add_image(scan, name="a rather long name of a scan of some rock", **PLACE)
    dock = opened(viewer)
    dock.setParent(None)
    dock.resize(360, 680)
    dock.show()
    qtbot.waitExposed(dock)
    bottom = dock.run_button.mapTo(dock, dock.run_button.rect().bottomRight())
    assert bottom.y() < 680
    assert bottom.x() < 360
    dock.settings.set_open(True)
    dock.card.set_open(True)
    dock.resize(300, 680)
    qtbot.wait(50)
    assert dock.minimumSizeHint().width() <= 300
    inner = dock.run_button.parentWidget()
    assert inner.minimumSizeHint().width() <= 300
    dock.close()
    dock.deleteLater()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than 1 s"), (12.3, "12 s"), (200, "3 min"), (9000, "2.5 h")],
)
def test_durations_have_sensible_digits(seconds, text):
    assert format_duration(seconds) == text


def test_the_preview_goes_with_the_dock(viewer, qtbot, scan):
    layer = viewer.add_image(scan, name="scan")
    dock = opened(viewer)
    dock.preview_button.setChecked(True)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=60_000)
    viewer.window.remove_dock_widget(dock.parent())
    qtbot.waitUntil(lambda: list(viewer.layers) == [layer])


@pytest.mark.parametrize("is_open", [False, True])
def test_rare_actions_are_in_a_section_and_keep_their_keys(
    viewer, qtbot, scan, is_open
):
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer)
    rare = (
        dock.live.widget,
        dock.verdict_panel.adapt_button,
        dock.copy_command,
        dock.copy_python,
        dock.cluster.widget,
    )
    assert not any(button.isVisible() for button in rare)
    assert [b.text() for b in dock.findChildren(QAbstractButton)].count("&Cancel") == 1
    assert "Copy as Python" in dock.more.button.toolTip()
    QGuiApplication.clipboard().clear()
    window = viewer.window._qt_window
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    dock.setFocus()
    alt = Qt.KeyboardModifier.AltModifier
    if is_open:
        QTest.keyClick(window.windowHandle(), Qt.Key.Key_N, alt)
    qtbot.waitUntil(lambda: dock.copy_python.isVisible() == is_open)
    both = alt | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(window.windowHandle(), Qt.Key.Key_P, both)
    qtbot.waitUntil(lambda: "restore(" in QGuiApplication.clipboard().text())
    assert all(button.isVisible() for button in rare)
