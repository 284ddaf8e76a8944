"""Projections dropped into napari: two views of the same file, read when needed."""

from __future__ import annotations

from copy import deepcopy

import h5py
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from tomography_helpers import ANGLES, PIXEL, ROWS, N, scan, scan_file

from napari_geosr.gui._layers import is_helper
from napari_geosr.gui._projection_layers import (
    OpenedScan,
    Sinograms,
    opened_scan,
    projection_layers,
    shows_projections,
)
from napari_geosr.gui.readers import get_reader, read_layers


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"))


def test_both_views_lie_where_slices_will(path):
    assert get_reader(str(path)) is read_layers
    viewer = ViewerModel()
    for data in read_layers(str(path)):
        viewer.add_layer(Layer.create(*data))
    sinogram, projections = viewer.layers
    columns = sinogram.data.shape[-1]
    assert sinogram.data.shape == (ROWS, ANGLES, columns)
    assert projections.data.shape == (ANGLES, ROWS, columns)
    assert columns > N
    assert (sinogram.visible, projections.visible) == (False, True)
    assert sinogram.axis_labels == ("row", "angle", "column")
    assert projections.axis_labels == ("angle", "row", "column")
    np.testing.assert_allclose(sinogram.scale, (PIXEL[0], PIXEL[1], PIXEL[1]))
    np.testing.assert_allclose(projections.scale, (PIXEL[0], *PIXEL))
    assert viewer.layers.units is not None
    assert [str(u) for u in viewer.layers.units] == ["micrometer"] * 3
    assert all(is_helper(layer) for layer in viewer.layers)
    assert [shows_projections(layer) for layer in viewer.layers] == [False, True]
    found = opened_scan(projections)
    assert found is opened_scan(sinogram)
    assert found.path == path
    assert found.scan.n_angles == ANGLES


def test_a_copy_of_a_layer_shows_the_same_scan(path):
    (_, layer) = (Layer.create(*data) for data in read_layers(str(path)))
    twin = Layer.create(*deepcopy(layer.as_layer_data_tuple()))
    assert opened_scan(twin) is opened_scan(layer)


def test_sinograms_read_what_is_asked_for_alone(rng):
    frames = rng.random((7, 5, 6))
    asked = []

    class Frames:
        shape, dtype = frames.shape, frames.dtype

        def __getitem__(self, key):
            asked.append(key)
            return frames[key]

    lazy = Sinograms(Frames())
    swapped = frames.swapaxes(0, 1)
    for key in (
        2,
        -1,
        (2, slice(None), slice(1, 4)),
        (slice(1, 3), 4),
        (..., 5),
        (slice(None), slice(0, 7, 2)),
    ):
        np.testing.assert_array_equal(lazy[key], swapped[key])
    assert asked[0][1] == slice(2, 3)
    np.testing.assert_array_equal(np.asarray(lazy), swapped)
    assert (lazy.size, len(lazy), lazy.ndim) == (210, 5, 3)


def test_a_cone_beam_is_shown_as_large_as_its_slices():
    made = scan().replace(
        geometry="cone", source_distance=100.0, detector_distance=100.0
    )
    (_, sinogram, _), _ = projection_layers(OpenedScan(made))
    np.testing.assert_allclose(sinogram["scale"], (1.5, 1.0, 1.0))


def test_other_hdf5_files_open_as_before(tmp_path):
    other = tmp_path / "volume.h5"
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros((4, 5, 6), np.float32)
    (layer,) = read_layers(str(other))
    assert layer[1]["axis_labels"] == ("z", "y", "x")
    assert opened_scan(Layer.create(*layer)) is None
