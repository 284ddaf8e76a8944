"""The voxel size is requested once if a file does not state it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from npe2 import PluginManager

from napari_geosr.core.units import parse_unit
from napari_geosr.gui.layers import set_voxel_size
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow


@pytest.fixture
def viewer(qapp) -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def row(viewer, qtbot) -> VoxelSizeRow:
    row = VoxelSizeRow(viewer)
    qtbot.addWidget(row)
    return row


def test_one_number_is_enough(viewer, row, qtbot):
    layer = viewer.add_image(np.zeros((4, 5, 6)), translate=(1, 2, 3))
    row.set_layer(layer)
    assert not row.isHidden()
    assert not row.button.isEnabled()
    qtbot.keyClicks(row.edges[0], "2.5")
    assert [edge.text() for edge in row.edges] == ["2.5"] * 3
    qtbot.keyClicks(row.edges[2], "x1")
    assert row.values() == (2.5, 2.5, 2.51)
    row.unit.setCurrentText("nm")
    with qtbot.waitSignal(row.voxelSizeSet) as said:
        row.button.click()
    assert said.args == [layer]
    assert row.isHidden()
    assert tuple(layer.scale) == (2.5, 2.5, 2.51)
    assert tuple(layer.translate) == pytest.approx((2.5, 5.0, 7.53))
    assert parse_unit(str(layer.units[0])) == "nm"
    row.set_layer(layer)
    assert row.isHidden()


def test_numbers_without_a_unit_need_the_unit_only(viewer, row):
    layer = viewer.add_image(np.zeros((5, 6)), scale=(0.5, 0.25))
    row.set_layer(layer)
    assert row.edges[0].isHidden()
    assert row.values() == (0.5, 0.25)
    assert "unit" in row.question.text()
    row.button.click()
    assert tuple(layer.scale) == (0.5, 0.25)
    assert parse_unit(str(layer.units[0])) == "µm"


@pytest.mark.parametrize("text", ["", "0", "-", "1,5"])
def test_what_is_no_size_cannot_be_set(viewer, row, text):
    layer = viewer.add_image(np.zeros((4, 5, 6)))
    row.set_layer(layer)
    for edge in row.edges:
        edge.setText(text)
        edge.textEdited.emit(text)
    assert not row.button.isEnabled()
    row.apply()
    assert tuple(layer.scale) == (1, 1, 1)


def test_a_size_from_elsewhere_ends_the_question(viewer, row, qtbot):
    layer = viewer.add_image(np.zeros((4, 5, 6)))
    other = viewer.add_image(np.zeros((4, 5, 6)))
    row.set_layer(layer)
    row.set_layer(other)
    set_voxel_size(layer, (1, 1, 1), "µm")
    assert not row.isHidden()
    with qtbot.waitSignal(row.voxelSizeSet):
        set_voxel_size(other, (1, 1, 1), "µm")
    assert row.isHidden()


def test_what_another_reader_left_out_the_file_says(viewer, qtbot, tmp_path):
    # as a window does, because this is only a viewer model
    PluginManager.instance().discover()
    row = VoxelSizeRow(viewer)
    qtbot.addWidget(row)
    data = np.zeros((4, 5, 6), np.uint8)
    for name, more in (
        ("told", {"metadata": {"axes": "ZYX", "spacing": 0.7, "unit": "nm"}}),
        ("silent", {"metadata": {"axes": "ZYX"}}),
    ):
        resolution = (2, 4) if name == "told" else None
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, data, imagej=True, resolution=resolution, **more)
        viewer.open(path, plugin="napari")
    told, silent = viewer.layers
    row.set_layer(silent)
    assert row._reading is not None
    qtbot.waitUntil(lambda: row._reading is None)
    assert "unknown" in row.question.text()
    assert not row.button.isEnabled()

    row.set_layer(told)
    qtbot.keyClicks(row.edges[2], "3")
    qtbot.waitUntil(lambda: row._reading is None)
    assert [edge.text() for edge in row.edges] == ["", "", "3"]

    row.set_layer(told)
    qtbot.waitUntil(row.button.isEnabled)
    assert "in the file, 0.7 × 0.25 × 0.5 nm" in row.question.text()
    row.button.click()
    assert tuple(told.scale) == (0.7, 0.25, 0.5)
    assert parse_unit(str(told.units[0])) == "nm"
    assert row.isHidden()


def test_a_long_number_is_whole_in_a_narrow_dock(viewer, row):
    """Otherwise 1.953125 reads as 953125."""
    layer = viewer.add_image(np.zeros((4, 5, 6)), scale=(1.953125,) * 3)
    row.set_layer(layer)
    row.resize(284, 100)
    row.show()
    for edge in row.edges:
        assert edge.text() == "1.953125"
        assert edge.width() > edge.fontMetrics().horizontalAdvance(edge.text()) + 8
