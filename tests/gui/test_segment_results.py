"""Results of the *Segment* dock do not replace those of other scans, or edited ones."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from napari.layers import Image
from scipy import ndimage

from napari_geosr.gui.kit.dock_tabs import SEGMENT

SHAPE = (6, 40, 48)


def phases(seed: int) -> np.ndarray:
    """A dark and a bright phase, 1 and 2."""
    rng = np.random.default_rng(seed)
    return np.where(ndimage.gaussian_filter(rng.standard_normal(SHAPE), 3) > 0, 2, 1)


def scanned(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 8, SHAPE)
    return (60 * phases(seed) + noise).astype(np.float32)


@pytest.fixture
def dock(viewer):
    made = opening.opened(viewer, SEGMENT)
    made.live.setChecked(False)
    return made


def choose(dock, qtbot, scan) -> None:
    """Choose a scan, and add an empty layer for its strokes."""
    before = dock.strokes.layer()
    dock.scan.set_layer(scan)
    qtbot.waitUntil(lambda: dock.scan.layer() is scan and dock.new_button.isEnabled())
    dock.new_button.click()
    qtbot.waitUntil(lambda: dock.strokes.layer() not in (None, before))


def segmented(dock, qtbot, seed: int):
    """Paint some rows of a slice, segment, and return the layer of the result."""
    strokes = dock.strokes.layer()
    painted = np.zeros(SHAPE, np.uint8)
    painted[3, ::4] = phases(seed)[3, ::4]
    strokes.data = painted
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
    dock.message.clear()
    dock.segment_button.click()
    qtbot.waitUntil(lambda: "The result is in" in dock.message.text, timeout=60_000)
    return dock._result()


def agreement(layer, seed: int) -> float:
    return float((np.asarray(layer.data) == phases(seed)).mean())


def test_another_scan_of_the_same_shape_gets_its_own_result(viewer, qtbot, dock):
    first = viewer.add_image(scanned(1), name="first")
    second = viewer.add_image(scanned(2), name="second")
    choose(dock, qtbot, first)
    one = segmented(dock, qtbot, 1)
    first.name = "renamed"  # does not matter: the layer is the same
    choose(dock, qtbot, second)
    other = segmented(dock, qtbot, 2)
    assert other is not one
    assert (one.name, other.name) == ("first segmented", "second segmented")
    assert agreement(one, 1) > 0.9
    assert agreement(other, 2) > 0.9


def test_each_time_point_gets_its_own_result(viewer, qtbot, dock):
    series = np.stack([scanned(1), scanned(2)])
    scan = viewer.add_image(series, name="series", axis_labels=("t", "z", "y", "x"))
    viewer.dims.set_current_step(0, 0)
    choose(dock, qtbot, scan)
    one = segmented(dock, qtbot, 1)
    viewer.dims.set_current_step(0, 1)
    other = segmented(dock, qtbot, 2)
    assert other is not one
    assert other.name != one.name
    assert agreement(one, 1) > 0.9
    assert agreement(other, 2) > 0.9


def test_only_a_result_that_nobody_edited_is_updated(viewer, qtbot, dock):
    scan = viewer.add_image(scanned(1), name="scan")
    choose(dock, qtbot, scan)
    one = segmented(dock, qtbot, 1)
    assert segmented(dock, qtbot, 1) is one
    one.data[2, 5, 5] = 7  # in place, without an event
    edited = one.data.copy()
    again = segmented(dock, qtbot, 1)
    assert again is not one
    assert again.name != one.name
    np.testing.assert_array_equal(one.data, edited)
    assert "changed by hand are kept (scan segmented)" in dock.message.text
    assert repr(again.name) in dock.message.text
    assert segmented(dock, qtbot, 1) is again


def test_a_result_converted_to_an_image_is_not_replaced(viewer, qtbot, dock):
    scan = viewer.add_image(scanned(1), name="scan")
    choose(dock, qtbot, scan)
    one = segmented(dock, qtbot, 1)
    strokes = dock.strokes.layer()
    # As "Convert to Image" of napari does: name, metadata and voxels are kept.
    data, attributes, _ = one.as_layer_data_tuple()
    common = {k: attributes[k] for k in ("name", "metadata", "scale", "translate")}
    viewer.layers.remove(one)
    image = viewer.add_layer(Image(data, **common))
    before = np.asarray(image.data).copy()
    dock.strokes.set_layer(strokes)
    again = segmented(dock, qtbot, 1)
    assert again is not image
    assert again.name != image.name
    np.testing.assert_array_equal(image.data, before)
