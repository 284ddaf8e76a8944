"""Assumptions of readers are shown on opening and in docks, with a correction."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from opening import opened
from porosity_helpers import open_dock

from napari_geosr.gui.kit.dock_tabs import (
    COMPARE,
    PAIRS,
    SEGMENT,
    SHAPES,
    SIM,
    TRAIN,
)
from napari_geosr.gui.layers import add_image_result, volume_from_layer


@pytest.fixture
def slices(tmp_path, rng):
    """A folder of slices with a pixel size, but without a slice spacing."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for i in range(8):
        tifffile.imwrite(
            folder / f"{i:03}.tif",
            rng.integers(0, 255, (24, 26), np.uint8),
            imagej=True,
            resolution=(1 / 0.8, 1 / 0.8),
            metadata={"unit": "um"},
        )
    return folder


@pytest.fixture
def unnamed(tmp_path, rng):
    path = tmp_path / "stack.tif"
    data = rng.integers(0, 255, (7, 24, 26), np.uint8)
    tifffile.imwrite(path, data, photometric="minisblack", metadata=None)
    return path


def told(before):
    return [(str(n.severity), n.message) for n in notification_manager.records[before:]]


def open_file(viewer, path):
    before = len(notification_manager.records)
    (layer,) = viewer.open(path, plugin="napari-geosr")
    return layer, told(before)


def rows_of(viewer, qtbot, layer):
    """The rows of three docks that use the layer, by the name of the dock."""
    porosity, restore, train = open_dock(viewer, qtbot), opened(viewer), None
    train = opened(viewer, TRAIN)
    data = next(iter(train._rows.values()))
    porosity.settings.image.set_layer(layer)
    restore.layer_combo.set_layer(layer)
    data.combo.set_layer(layer)
    return porosity.settings, restore, data


def test_an_assumed_slice_distance_is_said_and_corrected(viewer, qtbot, slices):
    layer, [(severity, said)] = open_file(viewer, slices)
    assert "warning" in severity
    assert said.startswith("scan: The files do not specify the distance between slices")
    rows = rows_of(viewer, qtbot, layer)
    for row in rows:
        assert "assumed to equal the pixel size, 0.8 µm" in row.notes.text
        assert row.notes.message.icon.accessibleDescription() == "Caution"
        assert not row.notes.isHidden()
        assert row.voxel_size.isHidden()
    for row in rows:
        row.notes.button.click()
        assert not row.voxel_size.isHidden()
        assert row.voxel_size.values() == (0.8, 0.8, 0.8)
        row.voxel_size.set_layer(None)
    rows[2].notes.button.click()
    rows[2].voxel_size.edges[0].setText("2.5")
    rows[2].voxel_size.button.click()
    assert tuple(layer.scale) == (2.5, 0.8, 0.8)
    for row in rows:
        assert row.notes.isHidden()
        assert row.voxel_size.isHidden()


@pytest.mark.slow
def test_keeping_the_slice_distance_answers_too(viewer, qtbot, slices):
    layer, _ = open_file(viewer, slices)
    settings, *_ = rows_of(viewer, qtbot, layer)
    settings.notes.button.click()
    settings.voxel_size.button.click()
    assert tuple(layer.scale) == (0.8, 0.8, 0.8)
    assert settings.notes.isHidden()
    assert settings.voxel_size.isHidden()


def test_a_result_inherits_the_assumption(viewer, qtbot, slices):
    layer, _ = open_file(viewer, slices)
    volume = volume_from_layer(layer)
    result = add_image_result(viewer, volume.replace(name="result"), layer)
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(result)
    assert "assumed to equal the pixel size" in dock.settings.notes.text


def test_a_shape_from_a_scan_keeps_the_assumption(viewer, slices):
    """As napari's *Convert to Labels* does: volumes and surfaces depend on it."""
    layer, _ = open_file(viewer, slices)
    shape = viewer.add_labels(
        np.asarray(layer.data) > 128,
        scale=layer.scale,
        units=layer.units,
        metadata=layer.metadata,
    )
    dock = opened(viewer, SHAPES)
    dock.shape_layer.set_layer(shape)
    assert "assumed to equal the pixel size" in dock.notes.text


def test_an_unnamed_axis_is_said_and_corrected(viewer, qtbot, unnamed):
    layer, [(severity, said)] = open_file(viewer, unnamed)
    assert "info" in severity
    assert said == (
        "stack.tif: The file does not name its axis of length 7; "
        "it was treated as slices (Z)."
    )
    rows = rows_of(viewer, qtbot, layer)
    qtbot.waitUntil(lambda: not any(row.frames.is_checking for row in rows))
    for row in rows:
        row.frames.setVisible(False)  # it may have asked on its own
        row.notes._show()
        assert "does not name its axis" in row.notes.text
        assert row.notes.message.icon.accessibleDescription() == "Note"
    rows[0].notes.button.click()
    assert not rows[0].frames.isHidden()
    assert rows[0].notes.isHidden()
    rows[0].frames.frames_button.click()
    assert tuple(layer.axis_labels) == ("t", "y", "x")
    assert all(row.notes.isHidden() for row in rows)


def test_a_file_without_doubts_says_nothing(viewer, qtbot, tmp_path, rng):
    path = tmp_path / "good.ome.tif"
    tifffile.imwrite(
        path,
        rng.integers(0, 255, (7, 24, 26), np.uint8),
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": 1.0,
            "PhysicalSizeY": 1.0,
            "PhysicalSizeZ": 2.0,
        },
    )
    layer, said = open_file(viewer, path)
    assert said == []
    for row in rows_of(viewer, qtbot, layer):
        assert row.notes.isHidden()


def test_compare_says_the_notes_of_each_image(viewer, qtbot, slices, unnamed):
    layer, _ = open_file(viewer, slices)
    other, _ = open_file(viewer, unnamed)
    dock = opened(viewer, COMPARE)
    dock.images.choose(layer, other)
    assert "scan: The files do not specify the distance between" in dock.notes.text
    assert "stack: The file does not name its axis" in dock.notes.text
    row = next(r for r in dock.notes.rows if "distance" in r.text)
    assert row.message.icon.accessibleDescription() == "Caution"
    row.button.click()
    voxel_size = row._voxel_size
    assert not voxel_size.isHidden()
    dock.images.chosen.emit()  # nothing else is chosen, so it stays open
    assert not voxel_size.isHidden()
    voxel_size.edges[0].setText("2.5")
    voxel_size.button.click()
    assert tuple(layer.scale) == (2.5, 0.8, 0.8)
    assert "distance" not in dock.notes.text
    dock.images.choose()
    assert dock.notes.text == ""


@pytest.mark.slow
def test_a_layer_that_is_shown_no_more_is_let_go(viewer, qtbot, rng):
    """However often layers are chosen, each row is connected once, to one of them."""
    layers = [viewer.add_image(rng.random((5, 20, 20)), name=n) for n in "ab"]
    dock = open_dock(viewer, qtbot)
    settings = dock.settings
    rows = {
        settings.notes: ("metadata", "units", "axis_labels", "name", "scale"),
        settings.frames: ("axis_labels", "metadata"),
        settings.voxel_size: ("units",),
    }

    def listening(row, layer) -> int:
        emitters = [getattr(layer.events, name) for name in rows[row]]
        return sum(ref() is row for e in emitters for ref, _ in _callbacks(e))

    for _ in range(3):
        for layer in layers:
            settings.image.set_layer(layer)
    for row, names in rows.items():
        assert listening(row, layers[0]) == 0, row
        assert listening(row, layers[1]) == len(names), row
        assert len(row._connections._ends) == len(names), row
    settings.image.set_layer(None)
    for row in rows:
        row.set_layer(None)
        assert listening(row, layers[1]) == 0, row


def _callbacks(emitter):
    """Bound methods are kept as a weak reference and a name."""
    return [c for c in emitter.callbacks if isinstance(c, tuple)]


@pytest.mark.parametrize("name", [SEGMENT, SIM])
def test_docks_with_a_single_scan_show_it_too(viewer, qtbot, slices, name):
    layer, _ = open_file(viewer, slices)
    dock = opened(viewer, name)
    box = dock.scan if name == SEGMENT else dock.combo
    box.set_layer(layer)
    row = dock.notes.rows[0]
    qtbot.waitUntil(lambda: "assumed to equal the pixel size" in row.text)
    row.button.click()
    voxel_size = dock.notes._corrections[0][0]
    voxel_size.edges[0].setText("2.5")
    voxel_size.button.click()
    assert tuple(layer.scale) == (2.5, 0.8, 0.8)
    assert dock.notes.text == ""


@pytest.fixture
def unitless(tmp_path, rng):
    """A scan with a voxel size, but without a unit."""
    path = tmp_path / "bone.tif"
    data = rng.integers(0, 255, (7, 24, 26), np.uint8)
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(1 / 1.95, 1 / 1.95),
        metadata={"axes": "ZYX", "spacing": 1.95},
    )
    return path


@pytest.mark.parametrize("name", [COMPARE, PAIRS, SEGMENT, SIM, TRAIN])
def test_an_unknown_unit_is_said_and_given(viewer, qtbot, unitless, name):
    layer, _ = open_file(viewer, unitless)
    dock = opened(viewer, name)
    if name in (TRAIN, PAIRS):
        row = next(iter(dock._rows.values())) if name == TRAIN else dock.low
        row.combo.set_layer(layer)
        notes, voxel_size = row.notes, row.voxel_size
    else:
        if name == COMPARE:
            dock.images.choose(layer)
        else:
            (dock.scan if name == SEGMENT else dock.combo).set_layer(layer)
        notes, (voxel_size, _) = dock.notes.rows[0], dock.notes._corrections[0]
    assert "voxel size without a unit" in notes.text
    assert voxel_size.isHidden()
    notes.button.click()
    assert notes.isHidden()  # replaced by the question
    assert voxel_size.values() == (1.95, 1.95, 1.95)
    voxel_size.button.click()
    assert str(layer.units[0]) == "micrometer"
    assert (notes.text, voxel_size.isHidden()) == ("", True)


def test_docks_that_ask_for_the_unit_do_not_say_it_twice(viewer, qtbot, unitless):
    layer, _ = open_file(viewer, unitless)
    porosity, restore = open_dock(viewer, qtbot), opened(viewer)
    porosity.settings.image.set_layer(layer)
    restore.layer_combo.set_layer(layer)
    for row in (porosity.settings, restore):
        assert (row.notes.text, row.voxel_size.isHidden()) == ("", False)


def test_an_implausible_voxel_size_is_said_and_confirmed(viewer, qtbot, tmp_path, rng):
    path = tmp_path / "screen.tif"
    data = rng.integers(0, 255, (7, 24, 26), np.uint8)
    tifffile.imwrite(
        path, data, metadata={"axes": "ZYX"}, resolution=(72, 72), resolutionunit=2
    )
    layer, _ = open_file(viewer, path)
    dock = opened(viewer, SEGMENT)
    dock.scan.set_layer(layer)
    notes, (voxel_size, _) = dock.notes.rows[0], dock.notes._corrections[0]
    assert "is implausible and was not used" in notes.text
    notes.button.click()
    assert "is implausible" in voxel_size.question.text()
