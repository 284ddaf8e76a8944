"""Results that no longer belong to what is shown: another voxel size or time point."""

from __future__ import annotations

import threading

import numpy as np
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

from napari_geosr.gui.kit.remembered import recall
from napari_geosr.gui.layers.position import position_of
from napari_geosr.gui.porosity import measuring
from napari_geosr.gui.porosity.pore_layers import label_at
from napari_geosr.operations.measure import MeasureConfig


def is_shown(layer) -> bool:
    """Whether napari shows pores in the current slice."""
    return bool(np.asarray(layer._slice.image.raw).any())


def test_results_follow_the_voxel_size_and_are_outdated(viewer, qtbot):
    source = add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.boxes["anisotropy"].click()
    measure(dock, qtbot)
    pores, result = dock.pores.layer(), dock.result
    row = dock.settings.voxel_size
    for edge in row.edges:
        edge.setText("2.5")
    row.apply()
    qtbot.waitUntil(lambda: np.array_equal(pores.scale, source.scale))
    rose = viewer.layers["scan · anisotropy"]
    for layer in (pores, rose):
        assert layer.units == source.units
        np.testing.assert_array_equal(layer.scale, (2.5, 2.5, 2.5))
    assert "voxel size" in result.stale_note.text()
    assert "voxel size" in result.plot.stale_note.text()
    for centre, _ in BALLS:
        place = position_of(viewer, source, centre)
        label = int(pores.data[centre])
        dock.pores.go_to(label)
        shown = (viewer.dims.point[0], *viewer.scene.camera.center[-2:])
        np.testing.assert_allclose(shown, place, atol=1.3)
        assert label == label_at(viewer, pores, place)
        assert is_shown(pores)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert not result.stale_note.text()
    source.scale = (5, 5, 5)  # with a script
    qtbot.waitUntil(lambda: bool(result.stale_note.text()))
    np.testing.assert_array_equal(pores.scale, source.scale)
    source.scale = (2.5, 2.5, 2.5)
    qtbot.waitUntil(lambda: not result.stale_note.text())
    source.translate = (10, 0, 0)  # the results are the same elsewhere
    qtbot.waitUntil(lambda: np.array_equal(pores.translate, source.translate))
    assert not result.stale_note.text()


def test_results_name_their_time_point(viewer, qtbot):
    volume = physical()
    data = np.stack([volume.data, volume.data[::-1]])
    viewer.add_image(
        data,
        name="series",
        scale=(1, *SIZE),
        translate=(0, *ORIGIN),
        units=("pixel", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    viewer.dims.set_point(0, 0)
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.setCurrentText("automatic mask")
    result = dock.result
    for time in (0, 1):
        viewer.dims.set_point(0, time)
        dock.levels.check_data()
        wait_for_levels(dock, qtbot)
        measure(dock, qtbot)
        assert result.image.text() == f"Image: series, time {time}"
        assert f"in series, time {time}." in dock.stage.text()
        assert not result.stale_note.text()
    for kind in ("pores", "sample"):
        shown = [viewer.layers[f"series · {kind} (time {t})"].visible for t in (0, 1)]
        assert shown == [False, True]
    viewer.dims.set_point(0, 0)
    qtbot.waitUntil(lambda: bool(result.stale_note.text()))
    assert result.stale_note.text().startswith("These results belong to time 1, but")
    viewer.dims.set_point(0, 1)
    qtbot.waitUntil(lambda: not result.stale_note.text())


def test_a_minimum_size_that_leaves_no_pores_is_not_kept(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    for size, kept in ((20, 20), (10**9, 20)):
        dock.settings.form.set_values({"min_voxels": size})
        measure(dock, qtbot)
        assert recall("porosity", MeasureConfig).min_voxels == kept
    assert dock.result.report.pore_count == 0


def test_results_are_outdated_after_edits_of_their_inputs(viewer, qtbot):
    source = add(viewer, physical())
    part = np.ones(source.data.shape, np.uint8)
    part[:, :4] = 0
    mask = viewer.add_labels(
        part,
        name="part",
        scale=source.scale,
        translate=source.translate,
        units=source.units,
    )
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(source)
    dock.settings.sample.set_layer(mask)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    note = dock.result.stale_note
    assert not note.text()
    dock.settings.sample.set_layer(None)
    qtbot.waitUntil(lambda: note.text().startswith("The sample was changed"))
    dock.settings.sample.set_layer(mask)
    qtbot.waitUntil(lambda: not note.text())
    mask.data_setitem((np.array([5]), np.array([6]), np.array([6])), 0)
    qtbot.waitUntil(lambda: note.text().startswith("The sample was changed"))
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert not note.text()
    source.data[:] = source.data[::-1].copy()
    source.refresh()
    qtbot.waitUntil(lambda: note.text().startswith("The grey values of 'scan' were"))
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert not note.text()
    dock.settings.method.setCurrentText("Li")
    qtbot.waitUntil(lambda: note.text().startswith("The threshold settings were"))
    assert dock.result.plot.stale_note.text() == note.text()


def test_edited_pores_no_longer_match_the_table(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    pores, note = dock.pores.layer(), dock.result.stale_note
    assert not note.text()
    original, (centre, _) = pores.data, BALLS[0]
    pores.n_edit_dimensions = 3
    pores.fill(centre, 0)
    qtbot.waitUntil(lambda: "was edited after the measurement" in note.text())
    pores.undo()
    qtbot.waitUntil(lambda: not note.text())
    pores.data[:] += 1
    pores.refresh()
    qtbot.waitUntil(lambda: "was edited after the measurement" in note.text())
    pores.data[:] -= 1
    pores.refresh()
    qtbot.waitUntil(lambda: not note.text())
    pores.data = np.zeros_like(original)
    qtbot.waitUntil(lambda: "was edited after the measurement" in note.text())
    measure(dock, qtbot)  # in a new layer
    assert not note.text()


def test_a_mask_that_does_not_fit_starts_no_measurement(viewer, qtbot):
    source = add(viewer, physical())
    mask = viewer.add_labels(np.ones(source.data.shape[1:], np.uint8), name="slice")
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(source)
    wait_for_levels(dock, qtbot)
    dock.settings.sample.set_layer(mask)
    for start in (dock.measure_button.click, dock.plan_scan):
        start()
        assert not dock.is_running
        assert "has axes Y, X" in dock.settings.faults.texts["mask"]


def test_layers_edited_during_the_measurement_are_named(viewer, qtbot, monkeypatch):
    source = add(viewer, physical())
    roi = viewer.add_labels(
        np.ones(SHAPE, np.uint8), name="roi", scale=SIZE, translate=ORIGIN, units="um"
    )
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(roi)
    wait_for_levels(dock, qtbot)
    begun, goes_on = threading.Event(), threading.Event()
    steps = measuring.measured_steps

    def held(*args, **more):
        begun.set()
        assert goes_on.wait(60)
        return (yield from steps(*args, **more))

    monkeypatch.setattr(measuring, "measured_steps", held)

    def edited(edit) -> list[str]:
        begun.clear()
        goes_on.clear()
        dock.measure_button.click()
        qtbot.waitUntil(begun.is_set)
        edit()
        goes_on.set()
        qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
        found = [w for w in dock.result.report.warnings if "was edited during" in w]
        assert dock.result.stale_note.text() == "".join(found)
        return found

    (warning,) = edited(lambda: roi.paint((8, 20, 20), 0))
    assert warning.startswith("'roi' was edited during the measurement")
    (warning,) = edited(lambda: np.multiply(source.data, 2, out=source.data))
    assert warning.startswith("'scan' was edited during the measurement")
    roi.paint((8, 20, 22), 0)  # before the measurement
    assert not edited(lambda: viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0]))
