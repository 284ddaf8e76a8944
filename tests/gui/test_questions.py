"""Docks ask about implausible voxel sizes, and about frames that look like slices."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from opening import opened
from porosity_helpers import measure, open_dock, wait_for_levels
from scipy.ndimage import gaussian_filter

from napari_geosr.core.questions import UNNAMED_AXIS, voxel_size_question
from napari_geosr.core.units import parse_unit
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.reproduce import as_command, as_python


@pytest.fixture
def inches(tmp_path):
    """As ImageJ saves a stack whose scale was never set."""
    rng = np.random.default_rng(0)
    pores = gaussian_filter(rng.normal(size=(16, 32, 32)), 2) > 0.05
    data = (np.where(pores, 180, 60) + rng.normal(0, 5, pores.shape)).astype(np.uint8)
    path = tmp_path / "inches.tif"
    metadata = {"axes": "ZYX", "unit": "inch"}
    tifffile.imwrite(path, data, imagej=True, resolution=(100, 100), metadata=metadata)
    return path


def frames_of(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    scene = gaussian_filter(rng.normal(size=(30, 40)), 1.5)
    frames = 100 + 20 * (scene / scene.std() + rng.normal(0, 0.3, (n, 30, 40)))
    return frames.astype(np.float32)


@pytest.fixture
def frames(tmp_path):
    """A time series of small frames that is not marked as such."""
    path = tmp_path / "frames.tif"
    tifffile.imwrite(path, frames_of(600), photometric="minisblack", metadata=None)
    return path


@pytest.mark.parametrize("plugin", ["napari-geosr", "napari"])
def test_inches_are_asked_for(plugin, viewer, qtbot, inches):
    row = VoxelSizeRow(viewer)
    qtbot.addWidget(row)
    (layer,) = viewer.open(inches, plugin=plugin)
    row.set_layer(layer)
    qtbot.waitUntil(lambda: "implausible" in row.question.text())
    assert "1 × 0.01 × 0.01 in" in row.question.text()
    assert "inches" in row.question.text()
    assert row.values() is None
    assert not row.button.isEnabled()
    qtbot.keyClicks(row.edges[0], "5")
    row.button.click()
    assert tuple(layer.scale) == (5, 5, 5)
    assert parse_unit(str(layer.units[0])) == "µm"
    assert voxel_size_question(volume_from_layer(layer).metadata) is None
    row.set_layer(layer)
    assert row.isHidden()


def test_uneven_voxels_are_confirmed_by_one_click(viewer, qtbot, tmp_path):
    row = VoxelSizeRow(viewer)
    qtbot.addWidget(row)
    path = tmp_path / "sections.tif"
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 50.0}
    data = np.zeros((4, 5, 6), np.uint8)
    tifffile.imwrite(
        path, data, imagej=True, resolution=(0.25, 0.25), metadata=metadata
    )
    (layer,) = viewer.open(path, plugin="napari-geosr")
    row.set_layer(layer)
    assert "factor of 12.5" in row.question.text()
    assert row.values() == (50, 4, 4)
    row.button.click()
    assert tuple(layer.scale) == (50, 4, 4)
    assert parse_unit(str(layer.units[0])) == "nm"


def test_porosity_in_inches_is_in_voxels_until_asked(viewer, qtbot, inches):
    viewer.open(inches, plugin="napari-geosr")
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    assert not dock.settings.voxel_size.isHidden()
    measure(dock, qtbot)
    (report,) = dock._measured.reports.values()
    assert report.pores_per_mm3 is None
    assert "1 × 0.01 × 0.01 in" in dock.message.text
    dock.tabs.setCurrentIndex(0)
    for edge in dock.settings.voxel_size.edges:
        edge.setText("5")
    dock.settings.voxel_size.apply()
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    (report,) = dock._measured.reports.values()
    assert report.pores_per_mm3 is not None


@pytest.mark.every(2)
@pytest.mark.parametrize("how", ["napari-geosr", "napari", "array"])
def test_frames_become_a_time_series_by_one_click(how, viewer, qtbot, frames):
    row = FramesRow()
    qtbot.addWidget(row)
    if how == "array":
        layer = viewer.add_image(frames_of(600))
    else:
        (layer,) = viewer.open(frames, plugin=how)
    row.set_layer(layer)
    assert row.is_checking
    qtbot.waitUntil(lambda: not row.is_checking, timeout=60_000)
    assert not row.isHidden()
    assert "600 planes look like frames" in row.question.text()
    assert UNNAMED_AXIS in volume_from_layer(layer).metadata
    with qtbot.waitSignal(row.answered) as said:
        row.frames_button.click()
    assert said.args == [layer]
    assert row.isHidden()
    assert tuple(layer.axis_labels) == ("t", "y", "x")
    viewer.dims.set_current_step(0, 7)
    frame = volume_from_layer(layer, viewer)
    assert frame.axes == "YX"
    assert np.array_equal(frame.data, layer.data[7])
    row.set_layer(layer)
    assert not row.is_checking


def test_slices_stay_slices(viewer, qtbot, frames):
    row, other = FramesRow(), FramesRow()
    (layer,) = viewer.open(frames, plugin="napari-geosr")
    for each in (row, other):
        qtbot.addWidget(each)
        each.set_layer(layer)
    qtbot.waitUntil(lambda: not (row.is_checking or other.is_checking), timeout=60_000)
    row.slices_button.click()
    assert row.isHidden()
    volume = volume_from_layer(layer)
    assert volume.axes == "ZYX"
    assert UNNAMED_AXIS not in volume.metadata
    row.set_layer(layer)
    assert not row.is_checking
    config = RestoreConfig(model="foam-denoise")
    assert "--axes ZYX" in as_command(volume, config)
    assert "axes='ZYX'" in as_python(volume, config)


def test_a_volume_is_not_asked_about(viewer, qtbot):
    row = FramesRow()
    qtbot.addWidget(row)
    noise = np.random.default_rng(0).normal(size=(40, 48, 48))
    row.set_layer(viewer.add_image(gaussian_filter(noise, 2)))
    qtbot.waitUntil(lambda: not row.is_checking, timeout=60_000)
    assert row.isHidden()


def test_the_restore_dock_refuses_frames_until_they_are_called_slices(
    viewer, qtbot, frames
):
    viewer.open(frames, plugin="napari-geosr")
    dock = opened(viewer)
    qtbot.waitUntil(lambda: not dock.frames.isHidden(), timeout=60_000)
    qtbot.waitUntil(lambda: "mix time points" in dock.message.text, timeout=60_000)
    with qtbot.waitSignal(dock.activity.ready, timeout=300_000):
        dock.frames.slices_button.click()
    assert dock.frames.isHidden()
    assert "mix time points" not in dock.message.text
