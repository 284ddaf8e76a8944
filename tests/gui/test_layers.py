"""Layers and volumes have the same position in both directions; parts on screen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from qtpy.QtCore import QObject

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.gui import layers as _layers
from napari_geosr.gui.layers.refresh import rename
from napari_geosr.gui.restore.preparation import RunPreparation, preview_edge
from napari_geosr.gui.restore.preview import (
    PREVIEW_EDGES,
    PreviewLayer,
    region_on_screen,
)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


sizes = st.floats(1e-3, 1e3)
origins = st.floats(-1e4, 1e4)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(sizes, sizes, sizes),
    st.tuples(origins, origins, origins),
    st.sampled_from(["nm", "µm", "mm", "cm", "pixel", "Å", "in", "m", "pm"]),
)
def test_a_volume_comes_back_from_its_layer(voxel_size, origin, unit):
    viewer = ViewerModel()
    volume = Volume(np.zeros((2, 3, 4)), "ZYX", voxel_size, unit, origin, name="v")
    layer = _layers.add_image_result(viewer, volume, None, contrast_limits=(0, 1))
    back = _layers.volume_from_layer(layer)
    assert back.voxel_size == pytest.approx(voxel_size, rel=1e-9)
    assert back.origin == pytest.approx(origin, rel=1e-9)
    assert back.unit == unit
    assert back.axes == "ZYX"
    assert back.data is layer.data


def test_of_a_series_the_part_on_screen_is_taken(viewer, rng):
    data = rng.random((3, 2, 4, 5, 6))
    layer = viewer.add_image(
        data,
        axis_labels=("t", "c", "z", "y", "x"),
        scale=(1, 1, 2, 0.5, 0.5),
        units=("s", "pixel", "um", "um", "um"),
    )
    viewer.dims.set_point((0, 1), (2, 1))
    assert _layers.chosen_position(layer, viewer) == {"time": 2, "channel": 1}
    volume = _layers.volume_from_layer(layer, viewer)
    np.testing.assert_array_equal(volume.data, data[2, 1])
    assert volume.voxel_size == (2, 0.5, 0.5)
    assert volume.unit == "µm"
    assert _layers.spatial_ndim(layer) == 3
    with pytest.raises(VolumeError, match="time points"):
        _layers.volume_from_layer(layer)


def test_colours_are_refused_with_a_remedy(viewer):
    layer = viewer.add_image(np.zeros((5, 6, 3), np.uint8), rgb=True, name="photo")
    with pytest.raises(VolumeError, match=r"'photo' is RGB.*Split RGB"):
        _layers.volume_from_layer(layer)


def test_typed_voxel_sizes_move_the_origin_along(viewer):
    layer = viewer.add_image(np.zeros((3, 4, 5)), translate=(0, 10, 20))
    assert not _layers.has_physical_size(layer)
    _layers.set_voxel_size(layer, (4.0, 0.5, 0.5), "µm")
    assert _layers.has_physical_size(layer)
    assert tuple(layer.scale) == (4, 0.5, 0.5)
    assert tuple(layer.translate) == (0, 5, 10)
    assert _layers.volume_from_layer(layer).unit == "µm"


def test_a_result_looks_like_its_source_and_remembers(viewer, rng):
    source = viewer.add_image(rng.random((3, 4, 5)), colormap="fire", gamma=0.7)
    source.contrast_limits = (0.1, 0.6)
    volume = Volume(np.zeros((3, 4, 5)), "ZYX", provenance=({"operation": "restore"},))
    layer = _layers.add_image_result(viewer, volume, like=source)
    assert layer.colormap.name == "fire"
    assert (layer.gamma, tuple(layer.contrast_limits)) == (0.7, (0.1, 0.6))
    back = _layers.volume_from_layer(layer)
    assert back.provenance == volume.provenance
    assert back.source is None


def test_an_image_made_from_a_volume_is_a_layer_of_two_axes(viewer, rng):
    """Such as the generated image that shows the progress of a diffusion model."""
    turn = np.eye(4)
    turn[1:3, 1:3] = ((0, 1), (-1, 0))
    source = viewer.add_image(rng.random((3, 4, 5)), colormap="fire", affine=turn)
    volume = Volume(np.zeros((6, 6)), "YX", (0.5, 0.5), "µm")
    for values in (volume.data, volume.data.astype(np.uint8)):
        kind = {"kind": "labels"} if values.dtype == np.uint8 else {}
        made = volume.replace(data=values, metadata=kind)
        layer = _layers.add_result(viewer, made, like=source, name="generated")
        np.testing.assert_allclose(layer.affine.linear_matrix, turn[1:3, 1:3])
        assert tuple(layer.scale) == (0.5, 0.5)
    assert viewer.layers.extent.world.shape == (2, 3)


def test_the_region_on_screen(viewer):
    layer = viewer.add_image(np.zeros((9, 700, 300)), scale=(2, 1, 1))
    viewer.dims.set_point(0, 6)
    layer.corner_pixels = np.array([[0, 100, 0], [0, 399, 299]])
    assert region_on_screen(layer, viewer) == (
        slice(3, 4),
        slice(100, 400),
        slice(0, 300),
    )
    assert region_on_screen(layer, viewer, 512) == (
        slice(3, 4),
        slice(0, 512),
        slice(0, 300),
    )
    assert region_on_screen(layer, viewer, 128)[1] == slice(186, 314)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 650)
    layer.corner_pixels = np.array([[0, 0, 0], [8, 0, 299]])
    assert region_on_screen(layer, viewer) == (
        slice(0, 9),
        slice(650, 651),
        slice(0, 300),
    )


def test_a_preview_moves_instead_of_piling_up(viewer, rng, qtbot):
    source = viewer.add_image(rng.random((5, 6, 7)), units="um", name="s")
    parent = QObject()
    preview = PreviewLayer(viewer, parent)
    for z in (1.0, 3.0):
        plane = Volume(
            np.zeros((1, 6, 7)), "ZYX", (1, 1, 1), "µm", (z, 0, 0), name="s · m"
        )
        preview.show(plane, source)
        assert len(viewer.layers) == 2
        assert tuple(preview.layer.translate) == (z, 0, 0)
    assert preview.layer.metadata["geosr"]["helper"] == "preview"
    layer = preview.layer
    preview.remove()
    assert not layer.visible
    qtbot.waitUntil(lambda: list(viewer.layers) == [source])
    preview.remove()


@pytest.mark.parametrize(
    ("seconds", "edge"), [(1.0, PREVIEW_EDGES[0]), (1e6, PREVIEW_EDGES[-1])]
)
def test_slow_models_preview_less(seconds, edge):
    class Anything:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    ready = RunPreparation(
        (),
        Anything(
            volume=Volume(np.zeros((50, 600, 600), np.uint8), "ZYX"),
            model=Anything(card=Anything(axes="ZYX", halo=9)),
        ),
        Anything(seconds=seconds, cost_factor=1.2),
    )
    assert preview_edge(ready) == edge


def test_a_renamed_layer_has_its_new_name_in_the_status_bar_too(viewer, rng):
    layer = viewer.add_image(rng.random((4, 5)), name="a (unfinished)")
    viewer.status = "Ready"
    rename(viewer, layer, "a")
    assert (layer.name, viewer.status) == ("a", "Ready")
    viewer.status = {"layer_base": "a", "coordinates": " [1 2]: 0.5"}
    rename(viewer, layer, "b")
    assert viewer.status == {"layer_base": "b", "coordinates": " [1 2]: 0.5"}
    viewer.status = {"layer_base": "another layer"}
    rename(viewer, layer, "c")
    assert viewer.status == {"layer_base": "another layer"}
    viewer.status = "[1 2] » b: 0.5; c: 0.5"  # several layers are selected
    rename(viewer, layer, "d")
    assert viewer.status == "[1 2] » b: 0.5; d: 0.5"
