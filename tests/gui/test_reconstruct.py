"""The Reconstruct dock: open, find the axis, try a slice, reconstruct all."""

from __future__ import annotations

import time

import numpy as np
import pytest
from tomography_helpers import (
    PIXEL,
    ROWS,
    N,
    axis_of,
    idle,
    opened,
    phantom,
    scan,
    scan_file,
)

from napari_geosr import reconstruct
from napari_geosr.core.steps import IterationDone, StepIterator, TileDone
from napari_geosr.gui.kit.remembered import recall
from napari_geosr.gui.layers import is_helper
from napari_geosr.gui.layers.projections import OpenedScan, projection_layers
from napari_geosr.gui.reconstruct import activity as _reconstructing
from napari_geosr.gui.reconstruct.steps import volume_steps
from napari_geosr.gui.reconstruct.widgets import RESUME, RUN
from napari_geosr.operations.reconstruct.config import ReconstructConfig


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def made():
    return scan()


def preview(dock, qtbot):
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000) as shown:
        dock.preview_button.click()
    idle(dock, qtbot)
    return shown.args[0]


def test_without_projections_it_says_what_to_do(viewer):
    dock = opened(viewer)
    assert "Open projections" in dock.bar.state.text()
    assert dock.facts.text() == ""
    assert not dock.run_button.isEnabled()
    assert not dock.preview_button.isEnabled()


def test_the_axis_is_found(viewer, qtbot, path, made):
    dock = opened(viewer, path)
    assert "60 projections over 180°" in dock.facts.text()
    assert "3 × 2 µm" in dock.facts.text()
    assert dock.centre.value() is None
    with qtbot.waitSignal(dock.activity.centreFound, timeout=60_000):
        dock.centre.find_button.click()
    idle(dock, qtbot)
    assert dock.centre.value() == pytest.approx(axis_of(made), abs=0.3)
    assert "determined from the projections" in dock.centre.known.text()
    # The axis as found, with its source in the record.
    assert dock.config().centre == "auto"
    dock.centre.slider.setValue(dock.centre.slider.value() + 20)
    assert dock.config().centre == pytest.approx(axis_of(made) + 2, abs=0.3)
    assert "set manually (column" in dock.centre.known.text()


def test_a_column_that_is_typed_is_said_to_be_given(viewer, path):
    dock = opened(viewer, path)
    assert "Not known yet" in dock.centre.known.text()
    dock.centre.spin.setValue(29.5)
    assert dock.centre.known.text() == "Column 29.50, set manually."
    dock.centre.set_value(None)
    assert "Not known yet" in dock.centre.known.text()


def test_a_slice_is_previewed_in_its_place(viewer, qtbot, path):
    dock = opened(viewer, path)
    sinogram, projections = viewer.layers
    assert (sinogram.visible, projections.visible) == (True, False)
    camera = viewer.scene.camera
    before = camera.center, camera.zoom
    dock.row.setValue(4)
    tried = preview(dock, qtbot)
    layer = dock.activity.preview.layer
    assert layer in viewer.layers
    assert not sinogram.visible
    # The whole slice is visible.
    edge = layer.data.shape[-1] * PIXEL[1]
    np.testing.assert_allclose(camera.center[-2:], (edge - PIXEL[1]) / 2)
    room = min(viewer.canvas.size)
    assert 0.9 * room < camera.zoom * edge < room
    assert layer.data.shape[0] == 1
    np.testing.assert_allclose(layer.scale, (PIXEL[0], PIXEL[1], PIXEL[1]))
    assert layer.translate[0] == pytest.approx(4 * PIXEL[0])
    assert viewer.dims.point[1] == pytest.approx(4 * PIXEL[0])
    assert str(layer.units[0]) == "micrometer"
    assert "6 slices" in dock.estimate.text()
    known = dock.activity.known_centre()
    whole = reconstruct(path, centre=known.column, threads=1)
    np.testing.assert_allclose(tried.volume.data[0], whole.data[4], atol=1e-6)
    dock.preview_button.click()
    assert layer not in viewer.layers
    assert (sinogram.visible, projections.visible) == (True, False)
    assert (camera.center, camera.zoom) == before


def test_the_preview_follows_slider_axis_and_settings(viewer, qtbot, path):
    dock = opened(viewer, path)
    preview(dock, qtbot)
    layer = dock.activity.preview.layer
    for change in (
        lambda: viewer.dims.set_point(1, 4 * PIXEL[0]),
        lambda: dock.row.setValue(5),
        lambda: dock.centre.slider.setValue(30),
        lambda: dock.above.set_values({"every": 3}),
        lambda: dock.algorithm.combo.setCurrentIndex(1),
    ):
        before = np.array(layer.data)
        with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
            change()
        idle(dock, qtbot)
        assert dock.activity.preview.layer is layer
        assert not np.array_equal(before, layer.data)
    assert dock.row.value() == 5
    assert layer.translate[0] == pytest.approx(5 * PIXEL[0])


def test_the_latest_of_many_wishes_is_shown(viewer, qtbot, path):
    dock = opened(viewer, path)
    preview(dock, qtbot)
    shown = []
    dock.activity.previewed.connect(lambda tried, _: shown.append(tried))
    for value in range(40):
        dock.centre.slider.setValue(value)
        qtbot.wait(2)
    idle(dock, qtbot)
    assert 1 <= len(shown) < 20
    last = reconstruct(path, centre=dock.centre.value(), threads=1)
    row = dock.row.value()
    np.testing.assert_allclose(shown[-1].volume.data[0], last.data[row], atol=1e-6)


def test_the_volume_is_reconstructed(viewer, qtbot, path):
    dock = opened(viewer, path)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000) as finished:
        dock.run_button.click()
    layer, done, _ = finished.args
    idle(dock, qtbot)
    assert done.complete
    assert layer.name == "discs · fbp"
    assert layer.data.shape[0] == ROWS
    np.testing.assert_allclose(layer.scale, (PIXEL[0], PIXEL[1], PIXEL[1]))
    assert layer.axis_labels == ("z", "y", "x")
    assert viewer.layers.units is not None
    # One slider covers the slices, and ends with the last one.
    np.testing.assert_allclose(
        viewer.dims.range[1], (0, (ROWS - 1) * PIXEL[0], PIXEL[0])
    )
    low, high = layer.contrast_limits
    assert -0.1 < low < high < 1
    record = layer.metadata["geosr"]["provenance"][-1]
    assert record["operation"] == "reconstruct"
    assert record["complete"] is True
    assert record["centre"]["method"] == "wedge"
    assert layer.metadata["geosr"]["info"]["values"] == "attenuation per µm"
    edge = (layer.data.shape[1] - N) // 2
    found = np.asarray(layer.data)[:, edge : edge + N, edge : edge + N]
    assert np.corrcoef(found.ravel(), phantom().ravel())[0, 1] > 0.9
    assert dock.message.text.startswith("Done")
    assert dock.save_button.isVisibleTo(dock)
    assert dock.measure_button.isVisibleTo(dock)
    assert dock.measure_button.property("primary")
    qtbot.waitUntil(lambda: dock.bar.state.text().startswith("Done."))
    assert dock.run_button.text() == RUN[0]


def test_what_belongs_to_one_scan_is_not_remembered(viewer, qtbot, path):
    dock = opened(viewer, path)
    own = {"every": 2, "size": 16, "incident": 0.9, "saturation": 40.0}
    for form in (dock.above, dock.form):
        form.set_values({**own, "zingers": 0.5})
    used = dock.config().model_dump(exclude_defaults=True, exclude={"threads"})
    assert used == {**own, "zingers": 0.5}
    dock.run_button.click()
    idle(dock, qtbot)
    kept = recall("reconstruct", ReconstructConfig)
    assert kept.model_dump(exclude_defaults=True, exclude={"threads"}) == {
        "zingers": 0.5
    }


def test_the_progress_counts_iterations(viewer, qtbot, path):
    dock = opened(viewer, path)
    idle(dock, qtbot)
    dock.activity._on_run_step(IterationDone(24, 200, None, 24, 200))
    assert dock.progress_label.text().startswith("12 % done, iteration 24 of 200")
    # a preview of FBP, which has none
    dock.activity._on_run_step(IterationDone(30, 200))
    assert dock.progress_label.text().startswith("15 % done")
    assert "iteration" not in dock.progress_label.text()


@pytest.mark.slow
def test_the_volume_takes_the_layer_of_the_preview(viewer, qtbot, path):
    dock = opened(viewer, path)
    preview(dock, qtbot)
    shown = dock.activity.preview.layer
    assert is_helper(shown)
    zoom = viewer.scene.camera.zoom
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000) as finished:
        dock.run_button.click()
    idle(dock, qtbot)
    layer, done, _ = finished.args
    assert layer is shown
    assert not is_helper(layer)
    assert viewer.layers.selection.active is layer
    assert [other.name for other in viewer.layers][-1] == "discs · fbp"
    np.testing.assert_array_equal(layer.data, done.volume.data)
    np.testing.assert_allclose(layer.translate, done.volume.origin)
    assert viewer.scene.camera.zoom == zoom
    # Another preview is a separate layer.
    preview(dock, qtbot)
    assert dock.activity.preview.layer is not layer
    assert layer in viewer.layers


def test_a_run_that_fails_leaves_no_preview(viewer, qtbot, path):
    dock = opened(viewer, path)
    preview(dock, qtbot)
    dock.form.set_values({"memory": "1k"})
    dock.form.changed.emit()
    idle(dock, qtbot)
    with qtbot.waitSignal(dock.activity.failed, timeout=60_000):
        dock.run_button.click()
    idle(dock, qtbot)
    assert "memory" in dock.form.faults["memory"]
    assert [layer.visible for layer in viewer.layers] == [True, False]


def test_a_run_stopped_before_its_first_slice_leaves_nothing(viewer, qtbot, path):
    dock = opened(viewer, path)
    dock.centre.set_value(29.5)
    dock.algorithm.combo.setCurrentIndex(dock.algorithm.combo.findData("sirt"))
    dock.algorithm.form.set_values({"iterations": 100_000})
    dock.algorithm.form.changed.emit()
    working = dock.activity
    before = list(viewer.layers)
    with qtbot.waitSignal(working.stopped, timeout=60_000):
        dock.run_button.click()
        qtbot.waitUntil(lambda: working.target() is not None, timeout=60_000)
        dock.cancel_button.click()
    idle(dock, qtbot)
    assert list(viewer.layers) == before
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert "Nothing is kept" in dock.message.text
    assert dock.run_button.text() == RUN[0]


@pytest.mark.slow
def test_what_was_stopped_is_kept_where_going_on_is_stopped_too(viewer, qtbot, path):
    """Before the first step of the second run, as while the first run is loading."""
    dock = opened(viewer, path)
    dock.centre.set_value(29.5)
    working = dock.activity
    with qtbot.waitSignal(working.finished, timeout=60_000) as finished:
        dock.run_button.click()
    idle(dock, qtbot)
    layer, done, _ = finished.args
    volume = working._volume
    volume._stopped = stopped = done.volume
    assert working.unfinished() is layer
    assert volume.begin(working._volume_key()) is stopped
    assert working.unfinished() is None
    volume.abandon()
    assert working.unfinished() is layer
    assert layer in viewer.layers


@pytest.mark.slow
def test_a_harmless_remark_is_no_caution(viewer):
    made = scan()
    said = "The angles were read from entry/tomo/angles."
    doubt = "Floats were taken as line integrals."
    dock = opened(viewer)
    for notes, start in (((said,), "The angles"), ((said, doubt), "Caution: The")):
        told = {"notes": notes, "remarks": (said,)}
        layers = projection_layers(OpenedScan(made.replace(metadata=told), {}))
        for data, options, _ in layers:
            layer = viewer.add_image(data, **options)
        dock._on_opened(layer)
        assert dock.message.text.startswith(start)
    dock._on_warned(said)
    assert dock._warnings == []


def held_after_the_first_tile(*arguments):
    """Steps of a run that is stopped before it ends, even if the window is slow."""
    should_stop = arguments[-1]
    with StepIterator(volume_steps(*arguments)) as iterator:
        for step in iterator:
            if not isinstance(step, TileDone):
                yield step
                continue
            # otherwise, it would be held back and sent with the next one
            time.sleep(0.1)
            yield step
            while not should_stop():
                time.sleep(0.01)
    return iterator.result


def test_what_was_stopped_is_gone_on_with(viewer, qtbot, tmp_path, monkeypatch):
    dock = opened(viewer, scan_file(tmp_path, rows=20))
    index = dock.algorithm.combo.findData("sirt")
    dock.algorithm.combo.setCurrentIndex(index)
    dock.algorithm.form.set_values({"iterations": 20})
    dock.algorithm.form.changed.emit()
    working = dock.activity
    with (
        monkeypatch.context() as patched,
        qtbot.waitSignal(working.finished, timeout=60_000) as finished,
    ):
        patched.setattr(_reconstructing, "volume_steps", held_after_the_first_tile)
        dock.run_button.click()
        qtbot.waitUntil(
            lambda: (
                working.target() is not None
                and bool(np.isfinite(working.target().data).any())
            ),
            timeout=60_000,
        )
        dock.cancel_button.click()
    layer, done, _ = finished.args
    assert not done.complete
    idle(dock, qtbot)
    finite = np.isfinite(layer.data)
    assert 0 < finite.mean() < 1
    kept = int(np.isfinite(layer.data).all((1, 2)).sum())
    assert f"{kept} of 20 slices are finished" in dock.message.text
    assert "Resume" in dock.message.text
    assert dock.run_button.text() == RESUME[0]
    before = np.where(finite, layer.data, 0)
    dock.above.set_values({"every": 2})
    assert dock.run_button.text() == RUN[0]
    dock.above.set_values({"every": 1})
    assert dock.run_button.text() == RESUME[0]
    with qtbot.waitSignal(working.finished, timeout=60_000) as finished:
        dock.run_button.click()
    assert finished.args[0] is layer
    assert finished.args[1].complete
    assert (np.asarray(layer.data)[finite] == before[finite]).all()
    assert np.isfinite(layer.data).all()
    assert layer.name == "discs · sirt"
    assert dock.run_button.text() == RUN[0]
