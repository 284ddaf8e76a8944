"""Results are aligned with layers that are moved, rotated or in other units."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_geosr.core.units import convert_length, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.gui import layers as _layers
from napari_geosr.gui.layers.camera import centre_on
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.position import (
    index_on_screen,
    indices_at,
    position_of,
    unit_factors,
)
from napari_geosr.gui.porosity.pore_layers import label_at
from napari_geosr.gui.restore.preview import region_on_screen

MOVED = np.eye(4)
MOVED[:3, 3] = 100, 50, 25
SKEWED = np.eye(4)
SKEWED[0, 1] = 0.4
PLACES = {
    "plain": {},
    "moved": {"affine": MOVED},
    "stretched": {"affine": np.diag([2.0, 3.0, 4.0, 1.0])},
    "turned": {"rotate": (10, 20, 30)},
    "turned about the origin": {"affine": SKEWED.T @ MOVED},
    "sheared": {"shear": (0.1, 0.2, 0.3)},
    "mirrored": {"scale": (2, -0.5, 0.7)},
    "mixed units": {"units": ("mm", "um", "nm")},
    "mixed and moved": {"units": ("mm", "um", "nm"), "affine": MOVED},
}


def upscaled(volume: Volume, factor: int = 2) -> Volume:
    size, origin = volume.upscaled_geometry(factor)
    shape = tuple(factor * n for n in volume.shape)
    return volume.replace(data=np.zeros(shape), voxel_size=size, origin=origin)


def in_micrometres(layer, corner) -> np.ndarray:
    place = layer.data_to_world(corner)
    units = [parse_unit(str(u)) for u in layer.units]
    return np.array(
        [convert_length(v, u, "µm") for v, u in zip(place, units, strict=True)]
    )


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@pytest.mark.parametrize("kind", PLACES)
def test_results_lie_over_their_source(viewer, kind):
    options = {"scale": (2, 0.5, 0.7), "translate": (10, -20, 30), "units": "um"}
    source = viewer.add_image(np.zeros((6, 7, 8)), **(options | PLACES[kind]))
    volume = _layers.volume_from_layer(source)
    fine = _layers.add_image_result(viewer, upscaled(volume), like=source)
    part = volume.replace(
        data=volume.data[2:4, 1:],
        origin=tuple(np.add(volume.origin, np.multiply(volume.voxel_size, (2, 1, 0)))),
    )
    preview = _layers.add_image_result(viewer, part, like=source)
    for corner in ((-0.5, -0.5, -0.5), (5.5, -0.5, 3.0), (2.0, 6.5, 7.5)):
        expected = in_micrometres(source, corner)
        twice = 2 * np.add(corner, 0.5) - 0.5
        np.testing.assert_allclose(in_micrometres(fine, twice), expected, rtol=1e-9)
        moved = np.subtract(corner, (2, 1, 0))
        np.testing.assert_allclose(in_micrometres(preview, moved), expected, rtol=1e-9)
    # The volume of a voxel is preserved.
    place = geometry_of_layer(source)
    corners = [in_micrometres(source, c) for c in np.eye(3)]
    edges = np.subtract(corners, in_micrometres(source, (0, 0, 0)))
    assert convert_length(1, place.unit, "µm") ** 3 * np.prod(
        place.voxel_size
    ) == pytest.approx(abs(np.linalg.det(edges)))


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")
@pytest.mark.parametrize("kind", PLACES)
def test_a_crop_begins_along_the_axes_of_its_source(viewer, kind):
    options = {"scale": (2, 0.5, 0.7), "translate": (10, -20, 30), "units": "um"}
    source = viewer.add_image(np.zeros((6, 7, 8)), **(options | PLACES[kind]))
    volume = _layers.volume_from_layer(source)
    start = np.add(volume.origin, np.multiply(volume.voxel_size, (2, 1, 0)))
    part = volume.replace(data=volume.data[2:4, 1:], origin=tuple(start))
    crop = _layers.add_image_result(viewer, part, like=source)
    found = _layers.volume_beside(crop, source, viewer)
    np.testing.assert_allclose(found.origin, start, rtol=1e-9)
    same = _layers.volume_beside(source, source, viewer)
    np.testing.assert_allclose(same.origin, volume.origin, rtol=1e-12)


def test_a_stretched_layer_has_larger_voxels():
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    layer = Image(np.zeros((2, 3, 4)), scale=(1, 2, 3), affine=affine, units="um")
    volume = _layers.volume_from_layer(layer)
    assert (volume.voxel_size, volume.unit) == ((2, 6, 12), "µm")
    assert geometry_of_layer(layer).is_upright


@pytest.mark.parametrize("kind", ["plain", "moved", "stretched"])
def test_typed_sizes_are_those_of_the_voxels(kind):
    layer = Image(np.zeros((2, 3, 4)), translate=(1, 2, 3), **PLACES[kind])
    before = _layers.volume_from_layer(layer)
    _layers.set_voxel_size(layer, (5.0, 0.25, 0.5), "µm")
    after = _layers.volume_from_layer(layer)
    assert (after.unit, after.voxel_size) == ("µm", pytest.approx((5, 0.25, 0.5)))
    assert np.divide(after.origin, after.voxel_size) == pytest.approx(
        np.divide(before.origin, before.voxel_size)
    )


@pytest.fixture
def mixed(viewer):
    """A layer in µm and another one in nm: the viewer uses nm."""
    data = np.random.default_rng(0).random((20, 700, 300))
    layer = viewer.add_image(
        data, scale=(2, 1, 1), translate=(4, 0, 0), units="um", affine=MOVED
    )
    viewer.add_image(
        np.zeros((20, 7, 3)), scale=(2000, 1e5, 1e5), units="nm", translate=(1e5, 0, 0)
    )
    viewer.dims.set_point(0, 1e3 * (100 + 4 + 9 * 2))
    return layer


def test_the_slice_on_screen_of_layers_of_different_units(viewer, mixed):
    assert str(viewer.layers.units[0]) == "nanometer"
    np.testing.assert_allclose(unit_factors(viewer, mixed), 1000)
    assert index_on_screen(viewer, mixed, 0) == pytest.approx(9)
    shown = mixed._slice.image.raw
    np.testing.assert_array_equal(shown, mixed.data[9])
    assert region_on_screen(mixed, viewer)[0] == slice(9, 10)
    place = position_of(viewer, mixed, (9, 0, 0))
    assert place[0] == pytest.approx(viewer.dims.point[0])
    assert indices_at(viewer, mixed, place) == pytest.approx((9, 0, 0), abs=1e-9)


def test_previews_of_layers_of_different_units_are_around_the_camera(viewer, mixed):
    centre = position_of(viewer, mixed, (9, 600, 20))
    viewer.scene.camera.center = (0, *centre[1:])
    region = region_on_screen(mixed, viewer, 64)
    assert region == (slice(9, 10), slice(568, 632), slice(0, 64))


def test_the_time_point_on_screen_beside_other_units(viewer):
    series = viewer.add_image(
        np.arange(4.0)[:, None, None, None] * np.ones((4, 3, 5, 6)),
        axis_labels=("t", "z", "y", "x"),
        scale=(60, 1, 1, 1),
        units=("s", "um", "um", "um"),
    )
    other = viewer.add_image(
        np.zeros((4, 3, 5, 6)),
        scale=(1000, 1000, 1000, 1000),
        units=("ms", "nm", "nm", "nm"),
    )
    viewer.dims.set_point(0, 2 * 60_000)
    assert np.unique(series._slice.image.raw) == [2]
    assert _layers.chosen_position(series, viewer) == {"time": 2}
    viewer.layers.remove(other)
    viewer.dims.set_point(0, 60)
    assert _layers.chosen_position(series, viewer) == {"time": 1}


def test_pores_are_found_in_layers_of_different_units(viewer, mixed):
    labels = np.zeros((20, 700, 300), np.int32)
    labels[12, 400, 100] = 7
    pores = _layers.add_labels_result(
        viewer,
        labels,
        _layers.volume_from_layer(mixed),
        **_layers.alignment_with(mixed),
    )
    centre_on(viewer, pores, (12, 400, 100))
    assert index_on_screen(viewer, pores, 0) == pytest.approx(12)
    assert index_on_screen(viewer, mixed, 0) == pytest.approx(12)
    at = (viewer.dims.point[0], *viewer.scene.camera.center[-2:])
    assert at[1] == pytest.approx(1000 * (50 + 400))
    assert label_at(viewer, pores, at) == 7
    assert label_at(viewer, pores, np.add(at, (0, 5000, 0))) == 0


def test_helpers_are_known():
    assert not _layers.is_helper(Image(np.zeros((2, 2))))
    metadata = _layers.helper_metadata("threshold")
    assert _layers.is_helper(Labels(np.zeros((2, 2), int), metadata=metadata))
