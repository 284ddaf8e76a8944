"""Previews of the *Shapes* dock: direction of view, look of the input, and errors."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from qtpy.QtWidgets import QLabel

from napari_geosr.gui.kit.dock_tabs import SHAPES
from napari_geosr.gui.shapes.widgets import COMPLETE, REFINE
from napari_geosr.operations.shapes.layers import PREVIEW_SMOOTHING
from napari_geosr.operations.shapes.simulation import simulated_skull

SIZE, ORIGIN = 0.5, (10.0, 20.0, 30.0)
EDGE = 56


def idle(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=120_000)


def previewed(dock, qtbot):
    dock.preview_button.click()
    idle(dock, qtbot)
    assert dock.preview.layer is not None, dock.message.text


def look(layer):
    return layer.opacity, layer.blending


def add_skull(viewer, flipped: int = 1, **more):
    values = simulated_skull(3, EDGE, "sphere").incomplete.astype(np.uint8)
    place = {"scale": (SIZE,) * 3, "translate": ORIGIN, "units": "mm", **more}
    # The model needs this orientation, so the layer is rotated, not the voxels.
    if flipped < 0:
        turn = np.diag([1.0, -1.0, -1.0, 1.0])
        place = {**place, "affine": turn}
    return viewer.add_labels(values, name="skull", **place)


def corners(layer) -> np.ndarray:
    """Corners of the box of the voxels of a shape, in world coordinates."""
    voxels = np.argwhere(np.asarray(layer.data))
    low, high = voxels.min(0) - 0.5, voxels.max(0) + 0.5
    places = np.stack(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T
    return np.array([layer.data_to_world(place) for place in places])


def check_view(viewer, labels, surface) -> None:
    """The camera looks at the surface from outside, and all of the shape is shown."""
    points = np.array([surface.data_to_world(p) for p in surface.data[0][::50]])
    box = corners(labels)
    outward = points.mean(0) - box.mean(0)
    camera = viewer.scene.camera
    ahead, above = np.array(camera.view_direction), np.array(camera.up_direction)
    assert ahead @ outward / np.linalg.norm(outward) < -0.97
    offsets = box - np.array(camera.center)
    canvas = viewer.canvas.viewbox_size(viewer.layers)
    half = np.array(canvas) / camera.zoom / 2
    spans = [np.abs(offsets @ axis).max() for axis in (above, np.cross(ahead, above))]
    assert (spans <= half).all()
    assert max(spans / half) > 0.85


@pytest.mark.parametrize("flipped", [1, -1])
def test_a_completed_part_faces_the_camera(viewer, qtbot, flipped):
    labels = add_skull(viewer, flipped)
    dock = opening.opened(viewer, SHAPES)
    dock.task.setCurrentText(COMPLETE)
    previewed(dock, qtbot)
    check_view(viewer, labels, dock.preview.layer)
    # A view that the user chose is kept when the preview is repeated …
    viewer.scene.camera.angles = (1.0, 2.0, 3.0)
    previewed(dock, qtbot)
    np.testing.assert_allclose(viewer.scene.camera.angles, (1, 2, 3), atol=1e-6)
    # … but not after another task.
    dock.task.setCurrentText(REFINE)
    dock.forms[REFINE].set_values({"model": "trilinear", "upscale_factor": 2})
    viewer.scene.camera.center = tuple(
        labels.data_to_world(np.argwhere(labels.data)[0])
    )
    previewed(dock, qtbot)
    np.testing.assert_allclose(viewer.scene.camera.angles, (1, 2, 3), atol=1e-6)
    dock.task.setCurrentText(COMPLETE)
    previewed(dock, qtbot)
    check_view(viewer, labels, dock.preview.layer)


def test_a_refined_block_is_seen_from_outside(viewer, qtbot):
    labels = add_skull(viewer)
    dock = opening.opened(viewer, SHAPES)
    dock.forms[REFINE].set_values({"model": "trilinear", "upscale_factor": 2})
    voxels = np.argwhere(labels.data)
    for at in (voxels[voxels[:, 0].argmax()], voxels[voxels[:, 1].argmin()]):
        viewer.dims.ndisplay = 2
        place = np.array(ORIGIN) + SIZE * at
        viewer.dims.set_point(0, place[0])
        viewer.scene.camera.center = tuple(place)
        previewed(dock, qtbot)
        points = dock.preview.layer.data[0]
        outward = (points.min(0) + points.max(0)) / 2 - labels.extent.world.mean(0)
        ahead = np.array(viewer.scene.camera.view_direction)
        assert ahead @ outward / np.linalg.norm(outward) < -0.97


def test_the_surface_of_a_block_may_be_smoother_than_that_of_the_shape(viewer, qtbot):
    labels = add_skull(viewer)
    dock = opening.opened(viewer, SHAPES)
    dock.forms[REFINE].set_values({"model": "trilinear", "upscale_factor": 2})
    viewer.dims.set_point(0, ORIGIN[0] + SIZE * EDGE / 2)
    previewed(dock, qtbot)
    assert PREVIEW_SMOOTHING in dock.message.text
    labels.data = labels.data[8:40, 8:40, 8:40]  # one block is the whole shape
    dock.message.clear()
    previewed(dock, qtbot)
    assert PREVIEW_SMOOTHING not in dock.message.text


def test_the_input_is_faded_while_a_preview_is_shown(viewer, qtbot):
    labels = add_skull(viewer, opacity=0.8)
    dock = opening.opened(viewer, SHAPES)
    dock.forms[REFINE].set_values({"model": "trilinear", "upscale_factor": 2})
    place = labels.data_to_world(np.argwhere(labels.data)[0])
    viewer.dims.set_point(0, place[0])
    viewer.scene.camera.center = tuple(place)
    before = look(labels)
    previewed(dock, qtbot)
    faded = look(labels)
    assert faded == (0.5, "translucent_no_depth")
    previewed(dock, qtbot)
    assert look(labels) == faded
    dock.task.setCurrentText(COMPLETE)
    assert look(labels) == before
    # Also if the user removes the preview, runs the task, or closes the dock.
    dock.task.setCurrentText(REFINE)
    previewed(dock, qtbot)
    viewer.layers.remove(dock.preview.layer)
    assert look(labels) == before
    previewed(dock, qtbot)
    dock.run_button.click()
    idle(dock, qtbot)
    assert look(labels) == before
    # What the user changes is kept.
    dock.shape_layer.set_layer(labels)
    previewed(dock, qtbot)
    labels.opacity = 0.9
    dock.preview.clear()
    assert look(labels) == (0.9, before[1])


def test_an_error_ends_with_its_layer(viewer, qtbot):
    several = np.ones((8, 8, 8), np.uint8)
    several[4:], several[0] = 2, 0
    wrong = viewer.add_labels(several, name="several")
    right = add_skull(viewer)
    dock = opening.opened(viewer, SHAPES)
    dock.shape_layer.set_layer(wrong)
    dock.forms[REFINE].set_values({"model": "trilinear", "upscale_factor": 2})
    dock.run_button.click()
    idle(dock, qtbot)
    shown = [dock.message.text, *(w.text() for w in dock.findChildren(QLabel))]
    assert any("has 2 labels" in text for text in shown)
    dock.shape_layer.set_layer(right)
    shown = [dock.message.text, *(w.text() for w in dock.findChildren(QLabel))]
    assert not any("has 2 labels" in text for text in shown)
    # The message about a result remains.
    dock.run_button.click()
    idle(dock, qtbot)
    told = dock.message.text
    assert "skull refined 2×" in told
    dock.shape_layer.set_layer(wrong)
    assert dock.message.text == told


def test_the_preview_of_a_removed_shape_is_removed_during_a_run(viewer, qtbot):
    labels = add_skull(viewer)
    dock = opening.opened(viewer, SHAPES)
    dock.task.setCurrentText(COMPLETE)
    previewed(dock, qtbot)
    dock.run_button.click()
    assert dock.activity.busy
    viewer.layers.remove(labels)
    idle(dock, qtbot)
    assert dock.preview.layer is None
    assert not any(layer.name.endswith("preview") for layer in viewer.layers)


def test_warnings_of_a_preview_end_with_its_task(viewer, qtbot):
    add_skull(viewer)
    dock = opening.opened(viewer, SHAPES)
    dock.task.setCurrentText(COMPLETE)
    previewed(dock, qtbot)
    assert "orientation" in dock.message.text
    dock.task.setCurrentText(REFINE)
    assert not dock.message.text
