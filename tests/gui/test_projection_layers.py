"""Projections dropped into napari: two views of the same file, read when needed."""

from __future__ import annotations

from copy import deepcopy

import h5py
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from tomography_helpers import ANGLES, PIXEL, ROWS, N, scan, scan_file

from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import add_image_result, is_helper
from napari_geosr.gui.layers.projections import (
    OpenedScan,
    opened_scan,
    projection_layers,
    row_on_screen,
    show_row,
    shows_projections,
    view_of,
)
from napari_geosr.gui.readers import get_reader, read_layers


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"))


def views(viewer, layers):
    """Add the layers of a scan; return projections and sinograms."""
    added = {}
    for data in layers:
        layer = viewer.add_layer(Layer.create(*data))
        added[view_of(layer)] = layer
    return added["projections"], added["sinogram"]


def test_both_views_lie_where_slices_will(path):
    assert get_reader(str(path)) is read_layers
    viewer = ViewerModel()
    projections, sinogram = views(viewer, read_layers(str(path)))
    columns = sinogram.data.shape[-1]
    assert sinogram.data.shape == (1, ROWS, ANGLES, columns)
    assert projections.data.shape == (ANGLES, 1, ROWS, columns)
    assert columns > N
    assert sinogram.axis_labels[:2] == projections.axis_labels[:2] == ("angle", "z")
    height, width = PIXEL
    np.testing.assert_allclose(projections.scale, (1, ROWS * height, height, width))
    # As high as a slice.
    np.testing.assert_allclose(
        sinogram.scale, (ANGLES, height, width * columns / ANGLES, width)
    )
    assert viewer.layers.units is not None
    units = ["pixel", *["micrometer"] * 3]
    assert [str(u) for u in viewer.layers.units] == units
    assert all(is_helper(layer) for layer in viewer.layers)
    assert shows_projections(projections)
    assert not shows_projections(sinogram)
    found = opened_scan(projections)
    assert found is opened_scan(sinogram)
    assert found.path == path
    assert found.scan.n_angles == ANGLES


def test_sliders_end_with_the_last_slice_and_the_last_projection(path):
    viewer = ViewerModel()
    projections, sinogram = views(viewer, read_layers(str(path)))
    voxels = np.zeros((ROWS, N, N), np.float32)
    volume = Volume(voxels, "ZYX", (PIXEL[0], PIXEL[1], PIXEL[1]), "µm")
    for layers in (2, 3):
        assert len(viewer.layers) == layers
        angle, z = viewer.dims.range[:2]
        np.testing.assert_allclose(angle, (0, ANGLES - 1, 1))
        np.testing.assert_allclose(z, (0, (ROWS - 1) * PIXEL[0], PIXEL[0]))
        assert viewer.dims.axis_labels[:2] == ("angle", "z")
        add_image_result(viewer, volume, like=None)
    # Each view shows data at any position of the other slider.
    data = np.asarray(sinogram.data)
    sinogram.visible = projections.visible = True
    for angle, row in ((0, 0), (7, ROWS - 1), (ANGLES - 1, 2)):
        viewer.dims.set_point(0, angle)
        show_row(viewer, projections, row)
        assert row_on_screen(viewer, projections) == row
        np.testing.assert_array_equal(sinogram._slice.image.raw, data[0, row])
        frame = data[0, :, angle]
        np.testing.assert_array_equal(projections._slice.image.raw, frame)


@pytest.mark.parametrize(("rows", "shown"), [(4, "sinogram"), (20, "projections")])
def test_the_view_that_shows_more_is_visible(rows, shown):
    first, second = projection_layers(OpenedScan(scan(rows=rows)))
    assert (first[1]["visible"], second[1]["visible"]) == (True, False)
    assert first[1]["name"].endswith(shown)


def test_a_copy_of_a_layer_shows_the_same_scan(path):
    layer = Layer.create(*read_layers(str(path))[0])
    twin = Layer.create(*deepcopy(layer.as_layer_data_tuple()))
    assert opened_scan(twin) is opened_scan(layer)
    np.testing.assert_array_equal(np.asarray(twin.data), np.asarray(layer.data))


def test_a_cone_beam_is_shown_as_large_as_its_slices():
    made = scan().replace(
        geometry="cone", source_distance=100.0, detector_distance=100.0
    )
    layers = {data[1]["name"]: data[1] for data in projection_layers(OpenedScan(made))}
    np.testing.assert_allclose(layers["discs · projections"]["scale"][2:], (1.5, 1.0))


def test_other_hdf5_files_open_as_before(tmp_path):
    other = tmp_path / "volume.h5"
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros((4, 5, 6), np.float32)
    (layer,) = read_layers(str(other))
    assert layer[1]["axis_labels"] == ("z", "y", "x")
    assert opened_scan(Layer.create(*layer)) is None
