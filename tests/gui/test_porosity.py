"""The Porosity dock in real napari: threshold, table, picture, export."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from porosity_helpers import (
    BALLS,
    ORIGIN,
    SHAPE,
    SIZE,
    add,
    measure,
    open_dock,
    physical,
    scan,
    wait_for_levels,
)
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLabel

from napari_geosr.gui.kit.remembered import recall
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity import measuring as _export
from napari_geosr.operations import storage
from napari_geosr.operations.measure import MeasureConfig


def test_from_threshold_to_table_and_back_to_the_picture(viewer, qtbot):
    source = add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    settings, result = dock.settings, dock.result
    wait_for_levels(dock, qtbot)

    # The preview is above its source and shows the spheres of this slice.
    assert 70 < settings.threshold < 165
    assert settings.value.value() == pytest.approx(settings.threshold, abs=0.1)
    preview = dock.preview.layer
    assert np.array_equal(preview.extent.world, source.extent.world)
    viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0])
    shown = np.asarray(preview._slice.image.raw)
    assert shown.sum() == (source.data[8] < 120).sum()

    # Dragging makes the threshold manual; the picture follows.
    x = round(settings.histogram.x_of(185))
    qtbot.mousePress(settings.histogram, Qt.MouseButton.LeftButton, pos=QPoint(x, 30))
    assert settings.method.currentText() == "Manual"
    assert settings.config().threshold == pytest.approx(185, abs=1)
    qtbot.waitUntil(lambda: np.asarray(preview._slice.image.raw).sum() > 500)
    settings.method.setCurrentText("Otsu")
    assert settings.config().threshold == "otsu"
    assert 70 < settings.threshold < 165
    settings.preview.setChecked(False)
    assert dock.preview.layer is None
    settings.preview.setChecked(True)
    assert dock.preview.layer is not None
    assert settings.smallest.text() == "= 128 µm³, Ø 6.25 µm"

    measure(dock, qtbot)
    assert not dock.preview.layer.visible
    assert not dock.message.text
    pores = viewer.layers["scan · pores"]
    assert np.array_equal(pores.extent.world, source.extent.world)
    assert np.array_equal(pores.scale, source.scale)
    assert np.array_equal(pores.translate, source.translate)
    assert pores.units == source.units
    assert pores.axis_labels == source.axis_labels
    assert list(pores.features["index"]) == [0, 1, 2, 3]
    assert {"volume", "sphericity", "centroid_z"} <= set(pores.features)
    record = pores.metadata["geosr"]["provenance"][-1]
    assert record["operation"] == "measure"
    assert record["settings"]["threshold"] == "otsu"

    # The table, sorted by volume, with the smallest sphere first.
    table = result.table
    assert table.model().rowCount() == 3
    heads = [table.model().headerData(i, Qt.Orientation.Horizontal) for i in range(5)]
    assert "volume\n(µm³)" in heads
    table.sortByColumn(heads.index("volume\n(µm³)"), Qt.SortOrder.AscendingOrder)
    report = dock.result.report
    smallest = int(np.argmin(report.table["volume"])) + 1
    assert table.pores.label_at(0) == smallest

    # Choosing a row moves slices and camera to the pore in the viewer.
    table.selectRow(0)
    centre = [o + c * v for o, c, v in zip(ORIGIN, BALLS[2][0], SIZE, strict=True)]
    assert viewer.dims.point[0] == pytest.approx(centre[0], abs=SIZE[0] / 2)
    assert viewer.scene.camera.center[-2:] == pytest.approx(centre[1:], abs=0.5)
    assert pores.selected_label == smallest

    # Choosing a pore in the viewer selects its row.
    for centre, _ in BALLS:
        at = [o + c * v for o, c, v in zip(ORIGIN, centre, SIZE, strict=True)]
        viewer.dims.set_point(0, at[0])
        dock.pores.pick(at)
        label = pores.data[centre]
        assert label > 0
        assert table.selected_label() == label == pores.selected_label
    before = table.selected_label()
    dock.pores.pick([ORIGIN[0], ORIGIN[1], ORIGIN[2]])
    assert table.selected_label() == before

    # Colours: by volume, the largest pore is brightest; by label, they are napari's.
    sizes = report.table["volume"]
    by_volume = [pores.get_color(int(label)) for label in np.argsort(sizes) + 1]
    luminance = [c[:3] @ (0.21, 0.72, 0.07) for c in by_volume]
    assert luminance == sorted(luminance)
    assert pores.get_color(0) is None
    result.colour.setCurrentText("label")
    assert not np.allclose(pores.get_color(1), by_volume[0])
    result.only_selected.setChecked(True)
    assert pores.show_selected_label

    # Small pores can be hidden; the selection is kept.
    result.least.setValue(200)
    assert table.model().rowCount() == 2
    assert table.pores.row_of(smallest) is None
    result.least.setValue(0)
    assert table.model().rowCount() == 3

    # Measuring again replaces the layer.
    settings.form.editor("min_voxels").setValue(200)
    measure(dock, qtbot)
    names = [layer.name for layer in viewer.layers]
    assert names == ["scan", "pores (preview)", "scan · pores"]
    dock.tabs.setCurrentIndex(0)
    assert dock.preview.layer.visible
    # The next session starts with these settings.
    assert recall("porosity", MeasureConfig).min_voxels == 200
    assert viewer.layers["scan · pores"].data.max() == 2


def test_a_click_in_the_canvas_selects_the_row(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0])
    centre = BALLS[0][0]
    callback = viewer.mouse_drag_callbacks[-1]

    class Event:
        type, button, pos = "mouse_press", 1, (200, 100)
        position = tuple(
            o + c * v for o, c, v in zip(ORIGIN, centre, SIZE, strict=True)
        )

    press = callback(viewer, Event)
    next(press)
    Event.type, Event.pos = "mouse_move", (203, 100)  # no hand is that steady
    next(press)
    Event.type = "mouse_release"
    assert list(press) == []
    label = viewer.layers["scan · pores"].data[centre]
    assert dock.result.table.selected_label() == label


def test_two_images_side_by_side_and_exported(viewer, qtbot, tmp_path, monkeypatch):
    add(viewer, physical(name="clean"))
    add(viewer, physical(name="noisy", noise=25, seed=1))
    dock = open_dock(viewer, qtbot)
    assert dock.settings.image.layer().name == "noisy"
    dock.settings.other.setCurrentText("clean")
    measure(dock, qtbot)
    result = dock.result
    assert [result.which.itemText(i) for i in range(2)] == ["noisy", "clean"]
    assert len(result.histogram.series) == 2
    texts = [label.text() for label in result.figures.findChildren(QLabel)]
    assert any(text.startswith("Porosity") for text in texts)
    assert not viewer.layers["clean · pores"].visible
    result.which.setCurrentText("clean")
    assert viewer.layers["clean · pores"].visible
    assert not viewer.layers["noisy · pores"].visible
    assert result.table.model().rowCount() == 3

    monkeypatch.setattr(
        _export, "ask_report_path", lambda *_: tmp_path / "foam_report.html"
    )
    result.export.click()
    qtbot.waitUntil(lambda: "report is in" in dock.message.text, timeout=60_000)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "foam_histogram.png",
        "foam_pores.csv",
        "foam_pores_clean.csv",
        "foam_report.html",
        "foam_report.json",
        "foam_values.csv",
    ]
    assert "volume (µm³)" in (tmp_path / "foam_pores.csv").read_text("utf-8")

    # Nothing is overwritten without asking.
    asked = []
    monkeypatch.setattr(
        _export, "confirm_overwrite", lambda *args: bool(asked.append(args[2]))
    )
    before = (tmp_path / "foam_report.json").stat().st_mtime_ns
    qtbot.waitUntil(result.export.isEnabled)
    result.export.click()
    assert [sorted(found) for found in asked] == [names]
    assert (tmp_path / "foam_report.json").stat().st_mtime_ns == before

    # An export without a second image leaves no files of the first, except edited ones.
    before = (tmp_path / "foam_report.json").stat().st_mtime
    for name, age in (("network.csv", 0), ("pores.ome.tif", 120), ("pores_my.csv", 0)):
        (tmp_path / f"foam_{name}").write_text("x")
        os.utime(tmp_path / f"foam_{name}", (before + age, before + age))
    (tmp_path / "network.csv").write_text("x")  # not of this export
    dock.settings.other.setCurrentIndex(0)
    measure(dock, qtbot)
    monkeypatch.setattr(
        _export, "confirm_overwrite", lambda *args: not asked.append(args[2])
    )
    qtbot.waitUntil(result.export.isEnabled)
    result.export.click()
    qtbot.waitUntil(lambda: "Removed from" in dock.message.text, timeout=60_000)
    assert {"foam_pores_clean.csv", "foam_network.csv"} <= set(asked[-1])
    assert "foam_pores.ome.tif" not in asked[-1]
    kept = {"foam_pores.ome.tif", "foam_pores_my.csv", "network.csv"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names, *kept} - {"foam_pores_clean.csv"}
    assert "have been modified: foam_pores.ome.tif" in dock.message.text


def test_voxel_size_is_asked_for_and_bad_layers_are_refused(viewer, qtbot):
    image = add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    assert dock.settings.voxel_size.isVisible()
    wait_for_levels(dock, qtbot)
    assert dock.settings.smallest.text() == "Physical size unknown."
    dock.settings.voxel_size.edges[0].setText("2")
    for edge in dock.settings.voxel_size.edges:
        edge.setText("2")
    viewer.dims.set_point(0, 8)
    dock.settings.voxel_size.apply()
    # The slice is the same, and preview and image have the same unit.
    assert viewer.dims.point[0] == 16
    assert np.array_equal(image._slice.image.raw, image.data[8])
    assert dock.preview.layer.units == image.units
    assert not dock.settings.voxel_size.isVisible()
    assert str(image.units[0]) == "micrometer"
    assert dock.settings.smallest.text() == "= 64 µm³, Ø 4.96 µm"

    constant = viewer.add_image(np.full((6, 7, 8), 3.0), name="constant", units="um")
    began = time.perf_counter()
    dock.settings.image.set_layer(constant)
    qtbot.waitUntil(lambda: "one grey value" in dock.message.text, timeout=5000)
    print(f"refused after {time.perf_counter() - began:.2f} s")
    assert "constant" in dock.message.text
    many = viewer.add_image(np.zeros((2, 2, 2, 2, 4, 4)), name="many axes")
    dock.settings.image.set_layer(many)
    assert "6 axes" in dock.message.text
    assert not dock.settings.voxel_size.isVisible()
    assert not dock.measure_button.isEnabled()
    dock.settings.image.set_layer(image)
    wait_for_levels(dock, qtbot)
    assert not dock.message.text
    dock.preview.hide()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.measure_button.isEnabled())


def test_a_sample_mask_and_labels_on_disk(viewer, qtbot, monkeypatch):
    monkeypatch.setattr(storage, "_RESULT_SHARE", 0.0)
    volume = physical()
    add(viewer, volume)
    half = np.zeros(SHAPE, np.uint8)
    half[:16] = 1
    mask = viewer.add_labels(half, name="sample", **geometry(volume))
    viewer.layers.selection.active = viewer.layers["scan"]
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(mask)
    wait_for_levels(dock, qtbot)
    viewer.dims.set_point(0, ORIGIN[0] + 22 * SIZE[0])
    assert np.asarray(dock.preview.layer._slice.image.raw).sum() == 0
    measure(dock, qtbot)
    assert dock.result.report.sample_voxels == half.sum()
    assert dock.result.report.pore_count == 2
    pores = viewer.layers["scan · pores"]
    assert type(pores.data).__module__.startswith("zarr")
    viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0])
    dock.pores.pick(
        [o + c * v for o, c, v in zip(ORIGIN, BALLS[0][0], SIZE, strict=True)]
    )
    assert dock.result.table.selected_label() == pores.selected_label
