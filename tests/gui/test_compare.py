"""Before and after: curtain, blink, difference, linked contrast."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.curtain_line import CurtainLine, canvas_of
from napari_geosr.gui.layers.difference import difference_steps


@pytest.fixture
def box(viewer, qtbot, rng):
    data = rng.random((6, 20, 30)).astype(np.float32)
    place = {"units": "um", "scale": (2, 1, 1), "translate": (5, 6, 7)}
    source = viewer.add_image(data, name="source", **place)
    result = viewer.add_image(data + 1, name="result", contrast_limits=(0, 1), **place)
    box = CompareBox(viewer)
    qtbot.addWidget(box)
    box.set_pair(source, result)
    return box


def curtain(viewer):
    found = [layer for layer in viewer.layers if "curtain" in layer.name]
    return found[0] if found else None


def test_the_curtain_shows_the_source_up_to_the_slider(viewer, box):
    source, result = box.pair()
    viewer.scene.camera.zoom /= 2  # all columns are visible in any window
    box.curtain_button.click()
    layer = curtain(viewer)
    assert viewer.layers.index(layer) == 2
    for attribute in ("scale", "translate"):
        np.testing.assert_array_equal(
            getattr(layer, attribute), getattr(source, attribute)
        )
    for value, columns in ((0, 1), (500, 15), (1000, 30)):
        box.slider.setValue(value)
        assert layer.data.shape == (6, 20, columns)
    assert np.shares_memory(layer.data, source.data)
    viewer.dims.order = (1, 2, 0)
    box.slider.setValue(500)
    assert layer.data.shape == (3, 20, 30)
    source.contrast_limits = (0.2, 0.4)
    assert tuple(layer.contrast_limits) == tuple(result.contrast_limits) == (0.2, 0.4)
    box.curtain_button.click()
    assert curtain(viewer) is None
    box.curtain_button.click()
    viewer.layers.remove(curtain(viewer))
    assert not box.curtain_button.isChecked()


@pytest.mark.slow
def test_curtain_and_blinking_exclude_each_other(viewer, box):
    box.blink_button.click()
    box.curtain_button.click()
    assert not box.blink_button.isChecked()
    assert not box._blinker.isActive()
    assert box.pair()[1].visible
    box.blink_button.click()
    assert not box.curtain_button.isChecked()
    assert box._blinker.isActive()
    box.blink_button.click()


def test_blinking_ends_with_the_result_shown(viewer, box, qtbot):
    _, result = box.pair()
    box.blink_button.click()
    qtbot.waitUntil(lambda: not result.visible, timeout=3000)
    box.blink_button.click()
    assert result.visible


def test_the_difference_becomes_a_layer(viewer, box, qtbot):
    _, result = box.pair()
    box.difference_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=10_000)
    layer = viewer.layers["result · difference"]
    np.testing.assert_allclose(np.asarray(layer.data), 1, rtol=1e-6)
    np.testing.assert_array_equal(layer.translate, result.translate)
    low, high = layer.contrast_limits
    assert low == -high


def test_a_difference_and_a_curtain_are_not_shown_at_once(viewer, box, qtbot):
    box.curtain_button.click()
    box.difference_button.click()
    assert curtain(viewer) is None
    qtbot.waitUntil(lambda: "result · difference" in viewer.layers)
    qtbot.waitUntil(box.difference_button.isEnabled)
    box.curtain_button.click()
    assert "result · difference" not in viewer.layers
    assert curtain(viewer) is not None


def test_a_second_click_takes_the_difference_away(viewer, box, qtbot):
    for _ in range(2):
        box.difference_button.click()
        qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=10_000)
        qtbot.waitUntil(box.difference_button.isEnabled)
        assert box.difference_button.isChecked()
        box.difference_button.click()
        assert len(viewer.layers) == 2
    box.difference_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=10_000)
    viewer.layers.remove(viewer.layers["result · difference"])
    assert not box.difference_button.isChecked()


def moved(line, x):
    """Drag the line to `x` pixels from the left edge of the canvas."""
    place = QPointF(line.mapFromParent(QPoint(x, 50)))
    none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
    keys = Qt.KeyboardModifier.NoModifier
    for kind, button in (
        (QEvent.Type.MouseButtonPress, left),
        (QEvent.Type.MouseMove, none),
    ):
        where = line.mapToGlobal(place)
        QApplication.sendEvent(
            line, QMouseEvent(kind, place, where, button, left, keys)
        )


def line_of(box):
    canvas = canvas_of(box)
    return canvas.findChild(CurtainLine) if canvas is not None else None


def test_the_line_in_the_canvas_is_dragged(viewer, box, qtbot):
    viewer.window.add_dock_widget(box)
    viewer.reset_view()
    assert line_of(box) is None
    box.curtain_button.click()
    line = line_of(box)
    canvas = line.parentWidget()
    assert line.isVisible()
    assert abs(line.position - canvas.width() / 2) <= 1  # the image is in the middle
    assert line._labels == ("before", "after")
    zoom = viewer.scene.camera.zoom
    moved(line, round(canvas.width() / 2 + 5 * zoom))
    assert curtain(viewer).data.shape == (6, 20, 20)
    assert abs(line.position - (canvas.width() / 2 + 5 * zoom)) <= 1
    moved(line, -100)
    assert curtain(viewer).data.shape == (6, 20, 1)
    box.slider.setValue(500)
    center = viewer.scene.camera.center
    viewer.scene.camera.center = (*center[:-1], center[-1] + 3)
    qtbot.waitUntil(lambda: curtain(viewer).data.shape[-1] > 15)
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(line.isHidden)
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(line.isVisible)
    box.curtain_button.click()
    qtbot.waitUntil(lambda: line_of(box) is None)


def test_the_line_goes_with_the_dock(viewer, qtbot, rng):
    source, result = (viewer.add_image(rng.random((4, 20, 30))) for _ in range(2))
    box = CompareBox(viewer)
    viewer.window.add_dock_widget(box)
    box.set_pair(source, result)
    box.curtain_button.click()
    canvas = canvas_of(box)
    assert canvas.findChild(CurtainLine) is not None
    viewer.window.remove_dock_widget(box)
    box.deleteLater()
    qtbot.waitUntil(lambda: canvas.findChild(CurtainLine) is None)


def test_names_differ_when_they_are_shortened(viewer, qtbot, rng):
    scan = "a_scan_of_a_sample_with_a_long_name_0001_rec"
    names = [scan, f"{scan} · foam-denoise", f"{scan} · tv"]
    combo = LayerCombo(viewer, lambda _layer: True)
    qtbot.addWidget(combo)
    combo.resize(160, 24)
    shown = []
    for name in names:
        combo.set_layer(viewer.add_image(rng.random((4, 4)), name=name))
        combo.grab()
        shown.append(combo.shown_text())
    assert len(set(shown)) == 3
    assert all("…" in text and text.startswith("a_scan") for text in shown)


def test_a_name_with_a_line_break_is_one_line(qtbot):
    model = ViewerModel()
    layer = model.add_image(np.zeros((2, 2)), name="two\nlines")
    combo = LayerCombo(model, lambda _layer: True)
    qtbot.addWidget(combo)
    assert combo.currentText() == "two lines"
    assert combo.layer() is layer


def test_there_is_no_line_over_a_turned_layer(viewer, box):
    viewer.window.add_dock_widget(box)
    for layer in box.pair():
        layer.rotate = 30
    box.curtain_button.click()
    assert line_of(box) is None
    assert curtain(viewer) is not None


def test_there_is_no_line_over_the_tiles_of_a_grid(viewer, box, qtbot):
    viewer.window.add_dock_widget(box)
    box.curtain_button.click()
    line = line_of(box)
    assert not line.isHidden()
    viewer.canvas.grid.enabled = True
    qtbot.waitUntil(line.isHidden)
    viewer.canvas.grid.enabled = False
    qtbot.waitUntil(lambda: not line.isHidden())


def test_a_preview_is_compared_until_it_goes(viewer, box, qtbot, rng):
    source, result = box.pair()
    part = rng.random((1, 10, 10)).astype(np.float32)
    preview = viewer.add_image(part, name="source · preview", units="um")
    box.curtain_button.click()
    box.set_preview(source, preview)
    assert box.pair() == (source, preview)
    assert box.curtain_button.isChecked()
    assert viewer.layers[-1] is curtain(viewer)
    assert not box.difference_button.isEnabled()
    box.set_preview(source, preview)
    viewer.layers.remove(preview)
    qtbot.waitUntil(lambda: box.pair() == (source, result))
    assert box.curtain_button.isChecked()
    assert box.difference_button.isEnabled()


def test_a_preview_alone_is_compared(viewer, qtbot, rng):
    source = viewer.add_image(rng.random((6, 20, 30)), name="source")
    box = CompareBox(viewer)
    qtbot.addWidget(box)
    assert not box.isEnabled()
    preview = viewer.add_image(rng.random((1, 10, 10)), name="preview")
    box.set_preview(source, preview)
    assert box.isEnabled()
    viewer.layers.remove(preview)
    qtbot.waitUntil(lambda: not box.isEnabled())


@pytest.mark.parametrize("position", [{"time": 2}, None])
def test_the_difference_of_a_series_is_to_what_was_restored(
    viewer, qtbot, rng, position
):
    data = rng.random((3, 4, 20, 30)).astype(np.float32)
    place = {"scale": (1, 2, 1, 1), "units": ("s", "um", "um", "um")}
    labels = ("t", "z", "y", "x")
    source = viewer.add_image(data, name="series", axis_labels=labels, **place)
    result = viewer.add_image(
        data[2] + 1, name="result", scale=(2, 1, 1), units="um", axis_labels=labels[1:]
    )
    box = CompareBox(viewer)
    qtbot.addWidget(box)
    box.set_pair(source, result)
    if position is None:  # of unknown origin: use what is on screen
        viewer.dims.set_point(0, 2)
    else:
        result.metadata["geosr"] = {"position": position}
        viewer.dims.set_point(0, 1)
    box.difference_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=10_000)
    layer = viewer.layers["result · difference"]
    np.testing.assert_allclose(np.asarray(layer.data), 1, rtol=1e-6)


def test_a_layer_that_goes_ends_the_comparison(viewer, box, qtbot):
    source, result = box.pair()
    box.curtain_button.click()
    viewer.layers.remove(result)
    assert box.pair() is None
    qtbot.waitUntil(lambda: curtain(viewer) is None)
    assert not box.isEnabled()
    source.contrast_limits = (0.3, 0.5)


@pytest.mark.every(3)
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("doomed", ["source", "result"])
def test_only_the_layer_that_was_removed_goes(viewer, box, qtbot, doomed, place):
    """napari removes layers by index, which removing a curtain would shift."""
    kept = {layer.name: layer for layer in viewer.layers}
    box.curtain_button.click()
    viewer.layers.move(viewer.layers.index(curtain(viewer)), place)
    viewer.layers.remove(kept.pop(doomed))
    qtbot.waitUntil(lambda: not box.isEnabled())
    assert list(viewer.layers) == list(kept.values())


@pytest.mark.parametrize("how", ["all selected", "cleared"])
def test_all_layers_can_go_at_once(viewer, box, qtbot, how):
    box.curtain_button.click()
    if how == "cleared":
        viewer.layers.clear()
    else:
        viewer.layers.select_all()
        viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not box.isEnabled())
    assert not viewer.layers


def test_linked_contrast_is_that_of_the_source(viewer, box):
    """The contrast is equal from the start; napari links only later changes."""
    source, result = box.pair()
    assert tuple(result.contrast_limits) == tuple(source.contrast_limits)
    box.link_box.click()
    result.contrast_limits, result.gamma, result.colormap = (0.5, 2), 0.5, "viridis"
    box.link_box.click()
    assert tuple(result.contrast_limits) == tuple(source.contrast_limits) != (0.5, 2)
    assert result.gamma == source.gamma == 1
    assert result.colormap.name == source.colormap.name == "gray"
    result.gamma = 0.7
    assert source.gamma == 0.7


def test_contrast_is_unlinked_on_request(box):
    source, result = box.pair()
    box.link_box.click()
    source.contrast_limits = (0.25, 0.5)
    assert tuple(result.contrast_limits) != (0.25, 0.5)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_differences_of_upscaled_volumes(kind, rng):
    before = rng.random((3, 4, 5)).astype(np.float32)
    after = rng.random((6, 8, 10)).astype(np.float32)
    expected = after - before.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    convert = {
        "numpy": np.asarray,
        "dask": da.from_array,
        "zarr": lambda a: zarr.array(a, chunks=(2, 4, 4)),
    }[kind]
    steps = difference_steps(convert(before), convert(after), never_stop)
    difference, limit = run_to_end(steps)
    np.testing.assert_allclose(difference.compute(), expected, rtol=1e-6)
    assert 0 < limit <= np.abs(expected).max()


def test_unlike_shapes_are_refused(rng):
    with pytest.raises(VolumeError, match="cannot be subtracted"):
        run_to_end(difference_steps(np.zeros((3, 4)), np.zeros((4, 5)), never_stop))
