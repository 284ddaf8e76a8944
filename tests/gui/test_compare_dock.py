"""The Compare dock: the images, the figures, and navigation to each pore."""

from __future__ import annotations

import numpy as np
import pytest
from opening import opened
from porosity_helpers import add
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QMessageBox

import napari_geosr as geosr
from napari_geosr.core.errors import GeoSRWarning
from napari_geosr.core.volume import Volume
from napari_geosr.gui.compare import CompareDock
from napari_geosr.gui.compare.result import one_line
from napari_geosr.gui.compare.widgets import DONE, READY
from napari_geosr.gui.kit.dock_tabs import COMPARE
from napari_geosr.gui.layers import METADATA, is_helper, volume_from_layer
from napari_geosr.gui.layers.explained import source_entry

EDGE = 24


def balls(voxel: float = 2.0, extra: bool = True) -> Volume:
    """Two pores in a solid; the second may be missing."""
    grid = np.stack(np.mgrid[:EDGE, :EDGE, :EDGE], -1)
    data = np.full((EDGE,) * 3, 200, np.float32)
    data[((grid - (8, 8, 8)) ** 2).sum(-1) < 25] = 50
    if extra:
        data[((grid - (16, 16, 17)) ** 2).sum(-1) < 16] = 50
    return Volume(data, "ZYX", (voxel,) * 3, "µm", name="truth")


def noisy(volume: Volume, rng, name: str) -> Volume:
    data = volume.data + rng.normal(0, 5, volume.shape)
    return volume.replace(data=data.astype(np.float32), name=name)


@pytest.fixture
def dock(viewer, qtbot):
    made = CompareDock(viewer)
    viewer.window.add_dock_widget(made, name="Compare")
    return made


def compare(dock, qtbot):
    dock.compare_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def labels(dock) -> list[str]:
    table = dock.figures
    return [one_line(table.verticalHeaderItem(r)) for r in range(table.rowCount())]


def figure(dock, label: str) -> list[str]:
    table, row = dock.figures, labels(dock).index(label)
    return [one_line(table.item(row, c)) for c in range(table.columnCount())]


def test_images_are_compared_with_the_truth(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    good = add(viewer, noisy(balls(), rng, "good"))
    poor = add(viewer, noisy(balls(extra=False), rng, "poor"))
    qtbot.wait(50)
    dock.images.touched = True
    dock.images.choose(good, poor)
    dock.reference.set_layer(truth)
    compare(dock, qtbot)
    heads = [
        dock.figures.horizontalHeaderItem(c).text()
        for c in range(dock.figures.columnCount())
    ]
    assert set(heads[:2]) == {"good", "poor"}
    assert heads[2] == "truth"
    psnr = dict(zip(heads, figure(dock, "PSNR"), strict=True))
    assert float(psnr["good"].split()[0]) == pytest.approx(29.5, abs=0.5)
    lost = dict(zip(heads, figure(dock, "Pores lost"), strict=True))
    assert (lost["good"], lost["poor"]) == ("0", "1")
    cells = [dock.figures.item(r, c) for r in range(3) for c in range(3)]
    cells += [dock.figures.horizontalHeaderItem(c) for c in range(3)]
    assert all(cell.textAlignment() & Qt.AlignmentFlag.AlignRight for cell in cells)
    # The lost pore is listed, and a click moves to it.
    assert dock.tabs.isTabEnabled(2)
    dock.compared.setCurrentIndex(dock.compared.findData("poor"))
    assert dock.pores.image.text() == "Image: poor"
    assert dock.pores.kind.currentText() == "Lost pores (1)"
    # The narrow table shows the column of this image.
    place = dock.figures.columnViewportPosition(heads.index("poor"))
    assert 0 <= place < dock.figures.viewport().width()
    item = dock.pores.list.topLevelItem(0)
    for row in (item, dock.pores.list.headerItem()):
        assert row.textAlignment(1) & Qt.AlignmentFlag.AlignRight
    dock.pores.list.setCurrentItem(item)
    assert viewer.dims.point[0] == pytest.approx(32.0, abs=1.5)
    assert viewer.scene.camera.center[-2:] == pytest.approx((32.0, 34.0), abs=1.5)
    assert dock.view.pair() == (truth, poor)


def test_the_difference_is_a_layer_that_can_be_taken_away(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    add(viewer, noisy(balls(), rng, "good"))
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    assert dock.bar.state.text() == READY
    compare(dock, qtbot)
    qtbot.waitUntil(lambda: dock.bar.state.text() == DONE)
    assert dock.export_button.property("primary")
    dock.difference_button.click()
    layer = viewer.layers[-1]
    assert layer.name.startswith("difference (good")
    np.testing.assert_allclose(layer.extent.world, truth.extent.world)
    assert np.std(np.asarray(layer.data)) == pytest.approx(1.0, rel=0.5)
    dock.difference_button.click()
    assert layer not in viewer.layers
    dock.difference_button.click()
    viewer.layers.remove(viewer.layers[-1])
    assert not dock.difference_button.isChecked()
    dock.common.set_values({"pores": not dock.common.values()["pores"]})
    assert dock.bar.state.text() == READY
    assert dock.compare_button.property("primary")


@pytest.mark.slow
def test_a_finer_result_needs_no_setting(viewer, qtbot, dock, rng):
    scan = add(viewer, noisy(balls(), rng, "scan"))
    fine = balls().data.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    size, origin = balls().upscaled_geometry(2)
    result = add(viewer, Volume(fine, "ZYX", size, "µm", origin, name="result"))
    result.metadata[METADATA] = source_entry(scan)
    viewer.layers.selection.active = result
    qtbot.waitUntil(lambda: dock.images.layers() == [result, scan])
    assert dock.compare_button.isEnabled()
    compare(dock, qtbot)
    assert float(figure(dock, "PSNR")[0].split()[0]) > 28
    assert "averaged over blocks of 2 × 2 × 2" in dock.remarks.text()


def test_what_cannot_be_compared_is_said(viewer, qtbot, dock, rng):
    one = add(viewer, balls())
    assert not dock.compare_button.isEnabled()
    far = balls().replace(origin=(1e4, 0, 0), name="far")
    other = add(viewer, far)
    dock.choose_images(one, other)
    assert dock.compare_button.isEnabled()
    compare(dock, qtbot)
    assert dock.message.text
    assert not dock.tabs.isTabEnabled(1)


def test_removed_images_leave_their_figures(viewer, qtbot, dock, rng):
    add(viewer, balls())
    good = add(viewer, noisy(balls(), rng, "good"))
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    compare(dock, qtbot)
    viewer.layers.remove(good)
    assert dock.view.pair() is None
    assert dock.figures.rowCount()
    qtbot.waitUntil(lambda: not dock.compare_button.isEnabled())


def test_a_comparison_can_be_cancelled(viewer, qtbot, dock, rng):
    add(viewer, balls())
    add(viewer, noisy(balls(), rng, "good"))
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    dock.compare_button.click()
    assert dock.cancel_button.isEnabled()
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
    assert "Cancelled" in dock.message.text
    assert dock.compare_button.isEnabled()


def test_the_report_is_written(viewer, qtbot, dock, rng, tmp_path, monkeypatch):
    add(viewer, balls())
    add(viewer, noisy(balls(), rng, "good"))
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    compare(dock, qtbot)
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_: f"{tmp_path / 'out'}"
    )
    enabled, usual = [], dock.export_button.setEnabled
    monkeypatch.setattr(
        dock.export_button,
        "setEnabled",
        lambda on: (enabled.append(on), usual(on)),
    )
    for _ in range(2):
        dock.export_button.click()
        qtbot.waitUntil(lambda: dock.export_button.isEnabled(), timeout=60_000)
        monkeypatch.setattr(
            QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes
        )
    assert (tmp_path / "out" / "report.html").exists()
    assert "report.html" in dock.message.text
    assert enabled == [False, True, False, True]  # once per export
    text = dock.figures.selected_text()
    assert text.splitlines()[0].startswith("PSNR\t")
    assert any(line.startswith("PSNR, range-invariant\t") for line in text.split("\n"))
    dock.figures.setFocus()
    qtbot.keyClick(dock.figures, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)


def test_a_restored_layer_is_checked_against_its_scan(viewer, qtbot, dock, rng):
    scan = add(viewer, noisy(balls(), rng, "scan"))
    clean = geosr.restore(volume_from_layer(scan, viewer), "gaussian", device="cpu")
    result = add(viewer, clean.replace(name="clean"))
    result.metadata[METADATA] = {
        **source_entry(scan),
        "provenance": list(clean.provenance),
    }
    scan.name = "renamed"
    add(viewer, noisy(balls(), rng, "scan"))  # another scan has its name now
    viewer.layers.selection.active = result
    qtbot.waitUntil(lambda: dock.images.layers() == [result, scan])
    compare(dock, qtbot)
    level, base = figure(dock, "Consistency with the scan")
    assert level in ("ok", "caution", "harmful")
    assert base == "–"
    with pytest.warns(GeoSRWarning):  # the filter is not perfect
        check = geosr.check_consistency(volume_from_layer(scan, viewer), clean).figures
    residual = float(figure(dock, "Residual (noise: 1)")[0])
    assert residual == pytest.approx(check.residual_rms / check.noise_rms, rel=0.01)
    contrast = figure(dock, "Contrast relative to the scan")[0]
    assert contrast.startswith(f"{check.slope:.2f} ± ")
    said = dock.remarks.text() + dock.message.text
    assert "Consistency of 'clean' with its scan 'renamed'" in said


@pytest.mark.slow
def test_graphs_are_an_advanced_setting(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    add(viewer, noisy(balls(extra=False), rng, "poor"))
    dock.reference.set_layer(truth)
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    compare(dock, qtbot)
    assert "Branch recall" not in labels(dock)
    dock.rare.set_values({**dock.rare.values(), "graph": True, "graph_distance": 3.0})
    compare(dock, qtbot)
    assert figure(dock, "Branch recall")[0].endswith(" %")
    assert figure(dock, "Branches")[1]
    head = dock.figures.verticalHeaderItem(labels(dock).index("Branch recall"))
    assert "within 3 µm" in head.toolTip()
    # Without a graph, the distance in the form has no effect.
    dock.rare.set_values({**dock.rare.values(), "graph": False})
    compare(dock, qtbot)
    assert "requires --graph" not in dock.message.text
    assert "Branch recall" not in labels(dock)


@pytest.mark.slow
def test_a_coarse_image_beside_does_not_change_the_figures(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    good = add(viewer, noisy(balls(), rng, "good"))
    data = truth.data.reshape(12, 2, 12, 2, 12, 2).mean((1, 3, 5))
    scan = Volume(data, "ZYX", (4.0,) * 3, "µm", (1.0,) * 3, name="scan")
    coarse = add(viewer, scan)
    dock.reference.set_layer(truth)
    dock.choose_images(good)
    compare(dock, qtbot)
    alone = figure(dock, "PSNR")[0]
    dock.choose_images(good, coarse)
    compare(dock, qtbot)
    heads = [dock.figures.horizontalHeaderItem(c).text() for c in range(3)]
    both = dict(zip(heads, figure(dock, "PSNR"), strict=True))
    assert both["good"] == alone
    voxels = dict(zip(heads, figure(dock, "Compared on voxels of"), strict=True))
    assert (voxels["good"], voxels["scan"]) == ("2 µm", "4 µm")


@pytest.mark.slow
def test_the_base_is_named_as_it_is_chosen(viewer, qtbot, dock, rng):
    below = add(viewer, noisy(balls(), rng, "below"))
    above = add(viewer, noisy(balls(), rng, "above"))
    dock.choose_images(above, below)
    assert dock.reference.currentText() == "none"
    assert dock.images.layers() == [above, below]
    dock.rare.set_values({**dock.rare.values(), "fsc": "pair"})
    dock._on_settings()
    assert not dock.pair_note.isHidden()
    assert dock.pair_note.text() == "Computed from 'below' and 'above'."
    compare(dock, qtbot)
    assert "below and above" in dock.resolution.text()
    assert dock.figures.horizontalHeaderItem(1).text() == "below"


def test_the_threshold_is_chosen_in_the_dock(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    add(viewer, noisy(balls(), rng, "good"))
    dock.reference.set_layer(truth)
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    compare(dock, qtbot)
    assert figure(dock, "Pores matched")[0] == "2"
    menu = dock.common.findChildren(QComboBox)[0]
    assert menu.currentText() == "Otsu"
    menu.setCurrentText("20")
    compare(dock, qtbot)
    assert figure(dock, "Threshold") == ["20", "20"]
    assert figure(dock, "Pores matched")[0] == "0"
    # A grey value of these images is meaningless for others.
    again = CompareDock(viewer)
    qtbot.addWidget(again)
    assert again.config().threshold == "otsu"


@pytest.mark.slow
def test_only_compared_images_are_side_by_side(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    good = add(viewer, noisy(balls(), rng, "good"))
    other = add(viewer, noisy(balls(), rng, "other"))
    hidden = add(viewer, noisy(balls(), rng, "hidden"))
    hidden.visible = False
    dock.choose_images(truth, good)
    compare(dock, qtbot)
    dock.view.curtain_button.click()
    dock.grid_button.click()
    assert not dock.view.curtain_button.isChecked()
    grid = viewer.canvas.grid
    assert grid.enabled
    assert grid.actual_shape(viewer.layers) == (1, 2)
    layers = truth, good, other, hidden
    assert [la.visible for la in layers] == [True, True, False, False]
    compare(dock, qtbot)  # the same images again
    assert dock.grid_button.isChecked()
    assert grid.actual_shape(viewer.layers) == (1, 2)
    grid.enabled = False  # napari's own button
    assert not dock.grid_button.isChecked()
    assert [la.visible for la in layers] == [True, True, True, False]


def side_by_side(dock, qtbot, title: str) -> list:
    """Choose slices, and return the layers that were added for them."""
    dock.slices.setCurrentText(title)
    dock.grid_button.setChecked(True)
    n = len(dock.compared_layers())
    qtbot.waitUntil(lambda: len(dock._montage.layers()) == n, timeout=60_000)
    qtbot.waitUntil(lambda: dock._viewer.canvas.grid.enabled)
    return dock._montage.layers()


def test_several_slices_are_side_by_side(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    small = balls().data.reshape(12, 2, 12, 2, 12, 2).mean((1, 3, 5))
    coarse = add(
        viewer, Volume(small, "ZYX", (4.0,) * 3, "µm", (1.0,) * 3, name="coarse")
    )
    other = add(viewer, noisy(balls(), rng, "other"))
    dock.choose_images(coarse, truth)
    compare(dock, qtbot)
    before = list(viewer.layers)
    camera = viewer.scene.camera.center, viewer.scene.camera.zoom
    point = viewer.dims.point
    shape_before = viewer.canvas.grid.shape
    rows = side_by_side(dock, qtbot, "3 slices")
    # A row of slices for each compared image, the base first.
    assert [row.name for row in rows] == ["truth · slices", "coarse · slices"]
    qtbot.waitUntil(lambda: not truth.visible)
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (2, 1)
    assert not coarse.visible
    assert not other.visible
    for row, layer, edge in zip(rows, (truth, coarse), (24, 12), strict=True):
        image = row.data
        parts = [image[:, :edge], image[:, -edge:]]
        planes = [layer.data[edge // 6], layer.data[5 * edge // 6]]
        for part, plane in zip(parts, planes, strict=True):
            np.testing.assert_array_equal(part, plane)
        assert np.isnan(image).any(axis=0).sum() >= 1  # between the slices
        world = row.extent.world
        np.testing.assert_allclose(world[0], layer.extent.world[0][1:], atol=1e-6)
        assert is_helper(row)
    # Both rows have the same length, whatever their voxel sizes.
    ends = [row.extent.world[1][1] for row in rows]
    assert ends[0] == pytest.approx(ends[1], abs=4.0)
    truth.contrast_limits = (40, 120)
    assert tuple(rows[0].contrast_limits) == (40, 120)
    # More slices, one slice, and back to the previous view.
    longer = side_by_side(dock, qtbot, "5 slices")
    qtbot.waitUntil(lambda: dock._montage.layers()[0].data.shape[1] > 5 * 24)
    assert not any(row in viewer.layers for row in rows)
    dock.slices.setCurrentText("current slice")
    assert [la.visible for la in before] == [True, True, False]
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)
    side_by_side(dock, qtbot, "3 slices")
    dock.grid_button.click()
    assert list(viewer.layers) == before
    assert all(layer.visible for layer in before)
    assert not viewer.canvas.grid.enabled
    assert viewer.canvas.grid.shape == shape_before
    assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == camera
    assert viewer.dims.point == point
    assert longer


@pytest.mark.slow
def test_slices_go_with_their_view(viewer, qtbot, rng):
    made = CompareDock(viewer)
    frame = viewer.window.add_dock_widget(made, name="Compare")
    truth = add(viewer, balls())
    add(viewer, noisy(balls(), rng, "good"))
    qtbot.waitUntil(lambda: made.compare_button.isEnabled())
    compare(made, qtbot)
    for leave in (
        lambda: setattr(viewer.canvas.grid, "enabled", False),  # napari's own button
        made.view.curtain_button.click,
        lambda: viewer.layers.remove("truth · slices"),
    ):
        side_by_side(made, qtbot, "3 slices")
        qtbot.waitUntil(lambda: not truth.visible)
        leave()
        assert not made.grid_button.isChecked()
        made.view.curtain_button.setChecked(False)
        assert [la.name for la in viewer.layers] == ["truth", "good"]
        assert all(la.visible for la in viewer.layers)
    side_by_side(made, qtbot, "3 slices")
    qtbot.waitUntil(lambda: not truth.visible)
    viewer.window.remove_dock_widget(frame)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2)
    assert all(la.visible for la in viewer.layers)


@pytest.mark.slow
def test_images_have_no_slices_to_choose(viewer, qtbot, dock, rng):
    image = balls().data[8]
    truth = Volume(image, "YX", (2.0, 2.0), "µm", name="truth")
    add(viewer, truth)
    add(viewer, noisy(truth, rng, "good"))
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    dock.slices.setCurrentText("3 slices")
    compare(dock, qtbot)
    assert not dock.slices.isEnabled()
    dock.grid_button.click()
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (1, 2)


def test_values_are_not_cut(viewer, qtbot, dock, rng):
    truth = add(viewer, balls())
    name = "a long name of a file that would fill the dock"
    add(viewer, noisy(balls(), rng, name))
    dock.reference.set_layer(truth)
    qtbot.waitUntil(lambda: dock.compare_button.isEnabled())
    compare(dock, qtbot)
    table = dock.figures
    metrics = table.fontMetrics()
    for column in range(table.columnCount()):
        texts = [table.item(row, column).text() for row in range(table.rowCount())]
        lines = "\n".join(texts).split("\n")
        widest = max(metrics.horizontalAdvance(line) for line in lines)
        assert widest < table.columnWidth(column) < widest + 110
    rows = range(table.rowCount())
    names = "\n".join(table.verticalHeaderItem(row).text() for row in rows).split("\n")
    widest = max(metrics.horizontalAdvance(line) for line in names)
    assert widest < table.verticalHeader().maximumWidth()
    # Only titles may be truncated, as their tool tips show them in full.
    assert table.columnWidth(0) < metrics.horizontalAdvance(name)
    start, end = table.horizontalHeaderItem(0).text().split("…")
    assert name.startswith(start)
    assert name.endswith(end)
    # The dock scrolls, not the table.
    qtbot.waitUntil(lambda: table.verticalScrollBar().maximum() == 0)
    bottom = table.visualItemRect(table.item(table.rowCount() - 1, 0)).bottom()
    assert 0 <= table.viewport().height() - bottom < 5


def test_messages_name_fields_and_no_options(viewer, qtbot, dock):
    flat = balls().replace(data=np.full((EDGE,) * 3, 7, np.float32))
    dock.choose_images(add(viewer, flat), add(viewer, flat.replace(name="same")))
    compare(dock, qtbot)
    said = dock.rare.faults | dock.common.faults
    assert "Give the data range." in said["data_range"]
    assert not dock.message.text
    assert dock.tabs.currentIndex() == 0
    small = balls().replace(unit="pixel", voxel_size=(1.0,) * 3)
    cut = small.replace(data=small.data[:20], name="cut")
    dock.choose_images(add(viewer, small), add(viewer, cut))
    compare(dock, qtbot)
    assert not dock.rare.faults | dock.common.faults
    assert "--" not in dock.message.text
    assert "Set both voxel sizes, or crop" in dock.message.text
    one, two = balls(), balls().replace(name="two")
    dock.choose_images(add(viewer, one), add(viewer, two))
    compare(dock, qtbot)
    assert "MS-SSIM was left out" in dock.remarks.text()
    assert "--" not in dock.remarks.text()


def test_an_empty_list_says_what_to_do(viewer, qtbot, dock, rng):
    qtbot.wait(50)

    def written() -> int:
        """Number of colours of the list; text differs from the background."""
        picture = dock.images.viewport().grab().toImage()
        return len(
            {
                picture.pixel(x, y)
                for x in range(picture.width())
                for y in range(picture.height())
            }
        )

    assert dock.images.count() == 0
    assert written() > 2
    add(viewer, noisy(balls(), rng, ""))
    qtbot.waitUntil(lambda: dock.images.count() == 1)


def test_three_images_fit_into_the_dock(viewer, qtbot):
    window = viewer.window._qt_window
    window.resize(1366, 768)
    dock = opened(viewer, COMPARE)
    for name in ("truth", "long name", "other name"):
        add(viewer, balls().replace(name=name))
    dock.images.choose(viewer.layers["long name"], viewer.layers["other name"])
    dock.reference.set_layer(viewer.layers["truth"])
    compare(dock, qtbot)
    frame = dock.parentWidget().parentWidget()
    sideways = dock.figures.horizontalScrollBar()
    window.resizeDocks([frame], [360], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() <= 360)
    qtbot.waitUntil(lambda: sideways.maximum() == 0)
    assert dock.export_button.visibleRegion().boundingRect().height() > 10
