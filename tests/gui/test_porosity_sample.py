"""Sample masks are previewed at their position and as used in the measurement."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import (
    ORIGIN,
    SHAPE,
    SIZE,
    add,
    measure,
    open_dock,
    physical,
    wait_for_levels,
)
from skimage.draw import polygon2mask

from napari_geosr.core.errors import VolumeError
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity.drawn_sample import filled, sample_volume
from napari_geosr.gui.porosity.measuring import stopped_measurement


def shown(dock) -> np.ndarray:
    return np.asarray(dock.preview.layer._slice.image.raw)


@pytest.mark.every(2)
@pytest.mark.parametrize("kind", ["multiscale", "coarse", "shifted"])
def test_masks_of_other_voxels(viewer, qtbot, kind):
    volume = physical()
    source = add(viewer, volume)
    half = np.zeros(SHAPE, np.uint8)
    half[:, :20] = 1
    place = geometry(volume)
    if kind == "multiscale":
        mask = viewer.add_labels([half, half[::2, ::2, ::2]], name="sample", **place)
    elif kind == "coarse":
        place["scale"] = tuple(2 * v for v in place["scale"])
        place["translate"] = tuple(o + v / 2 for o, v in zip(ORIGIN, SIZE, strict=True))
        mask = viewer.add_labels(half[::2, ::2, ::2], name="sample", **place)
    else:  # the same shape, but shifted by half a field of view
        larger = np.zeros((32, 80, 48), np.uint8)
        larger[:, :40] = 1
        place["translate"] = (ORIGIN[0], ORIGIN[1] - 20 * SIZE[1], ORIGIN[2])
        mask = viewer.add_labels(larger, name="sample", **place)
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(mask)
    wait_for_levels(dock, qtbot)
    viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0])
    expected = source.data[8] < dock.settings.threshold
    expected[20:] = False
    assert 0 < expected.sum() < (source.data[8] < dock.settings.threshold).sum()
    qtbot.waitUntil(lambda: np.array_equal(shown(dock), expected))
    measure(dock, qtbot)
    assert dock.result.report.sample_voxels == half.sum()


def test_a_mask_that_does_not_cover_the_image_is_said_to(viewer, qtbot):
    volume = physical()
    add(viewer, volume)
    place = geometry(volume) | {"translate": (0, 500, 0)}
    mask = viewer.add_labels(np.ones(SHAPE, np.uint8), name="away", **place)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    preview = dock.preview.layer
    dock.settings.sample.set_layer(mask)
    assert "does not cover" in dock.settings.faults.texts["mask"]
    assert not dock.message.text
    assert not preview.visible
    dock.settings.sample.set_layer(None)
    assert not dock.settings.faults.texts
    assert preview.visible


def test_one_mask_for_all_times_of_a_series(viewer, qtbot):
    volume = physical()
    series = np.stack([volume.data] * 2)
    viewer.add_image(
        series,
        name="series",
        scale=(1, *SIZE),
        translate=(0, *ORIGIN),
        units=("s", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    half = np.zeros(SHAPE, np.uint8)
    half[:16] = 1
    mask = viewer.add_labels(half, name="sample", **geometry(volume))
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(mask)
    wait_for_levels(dock, qtbot)
    for plane, is_sample in ((8, True), (22, False)):
        viewer.dims.set_point(1, ORIGIN[0] + plane * SIZE[0])
        qtbot.waitUntil(lambda sample=is_sample: bool(shown(dock).any()) == sample)


def test_outlines_of_shapes_are_a_sample(viewer, qtbot):
    """In the place where they were drawn, and in all slices."""
    volume = physical()
    source = add(viewer, volume)
    # In millimetres with another scale: corners between voxels of the scan.
    shapes = viewer.add_shapes(
        ndim=2,
        name="outline",
        scale=(1e-3, 1e-3),
        translate=(ORIGIN[1] * 1e-3, ORIGIN[2] * 1e-3),
        units=("mm", "mm"),
    )
    dock = open_dock(viewer, qtbot)
    settings = dock.settings
    wait_for_levels(dock, qtbot)
    settings.sample.set_layer(shapes)
    assert "no polygon" in settings.faults.texts["mask"]
    box = np.array([[19.5, 4.5], [19.5, 24.5], [35.5, 24.5], [35.5, 4.5]]) * SIZE[1]
    shapes.add_rectangles(box)
    expected = np.zeros(SHAPE, bool)
    expected[:, 20:36, 5:25] = True
    qtbot.waitUntil(lambda: not settings.faults.texts and dock.preview.layer.visible)
    viewer.dims.set_point(0, ORIGIN[0] + 8 * SIZE[0])
    pores = expected[8] & (source.data[8] < settings.threshold)
    assert pores.any()
    qtbot.waitUntil(lambda: np.array_equal(shown(dock), pores))
    measure(dock, qtbot)
    report = dock.result.report
    assert report.sample_voxels == expected.sum()
    dark = source.data < report.threshold
    assert report.pore_voxels == (dark & expected).sum()
    found = stopped_measurement(settings.layers(), settings.config(), viewer)
    mask = np.asarray(found.volumes["mask"].volume.data)
    np.testing.assert_array_equal(mask > 0, expected)
    _, sample = dock.local_preview._volumes(source)  # with hysteresis
    np.testing.assert_array_equal(np.asarray(sample.data) > 0, expected)


def test_polygons_are_filled_as_by_scikit_image():
    numbers = np.random.default_rng(3)
    for n in range(3, 40):  # these polygons cross themselves and leave the image
        corners = numbers.uniform(-20, 80, (n, 2))
        expected = polygon2mask((50, 60), corners)
        np.testing.assert_array_equal(filled(corners, (50, 60)), expected)
    square = np.array([[1.5, 1.5], [1.5, 4.5], [3.5, 4.5], [3.5, 1.5]])
    assert filled(square, (6, 6)).sum() == 2 * 3


def test_outlines_are_drawn_in_any_slice(viewer, qtbot):
    volume = physical()
    source = add(viewer, volume)
    place = geometry(volume)
    in_slice = np.array([[12, 9, 4], [12, 29, 4], [12, 29, 24], [12, 9, 24]])
    across = np.array([[2, 5, 6], [30, 5, 6], [30, 5, 46], [2, 5, 46]])
    shapes = viewer.add_shapes(name="outline", **place, ndim=3)
    shapes.add_ellipses(in_slice)
    inside = np.asarray(sample_volume(shapes, source, viewer).data) > 0
    assert (inside == inside[:1]).all()
    y, x = np.ogrid[:40, :48]
    disc = ((y - 19) / 10) ** 2 + ((x - 14) / 10) ** 2 <= 1
    assert np.mean(inside[0] != disc) < 0.01
    shapes.add_lines(np.array([[0, 0, 0], [0, 5, 5]]))  # encloses nothing
    shapes.add_polygons(across)
    inside = np.asarray(sample_volume(shapes, source, viewer).data) > 0
    expected = np.repeat(disc[None], 32, axis=0)
    expected[2:30, :, 6:46] = True
    assert np.mean(inside != expected) < 0.01
    shapes.add_polygons(across + np.array([[0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 0]]))
    with pytest.raises(VolumeError, match="Shape 4 .* not parallel"):
        sample_volume(shapes, source, viewer)
