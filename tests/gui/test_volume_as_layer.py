"""napari displays a volume, and accepts it as layer data."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import geometry, layer_metadata, volume_from_layer


def scan(**changes):
    data = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8)
    place = {"voxel_size": (3.0, 2.0, 1.0), "unit": "µm", "origin": (5.0, 0.0, 1.0)}
    return Volume(data, "ZYX", **place, name="scan", **changes)


def test_a_volume_is_shown_as_an_array_is():
    viewer = ViewerModel()
    layer = viewer.add_image(scan())
    assert layer.data.shape == (4, 8, 8)
    assert viewer.dims.range[0].stop == 3


def test_a_layer_made_of_a_volume_gives_the_volume_again():
    volume = scan(provenance=({"operation": "test"},))
    layer = ViewerModel().add_layer(Layer.create(*volume.to_layer_data()))
    found = volume_from_layer(layer)
    assert found.data is volume.data
    for name in ("axes", "voxel_size", "unit", "origin", "name", "provenance"):
        assert getattr(found, name) == getattr(volume, name)


def test_labels_are_a_layer_of_labels():
    layer = Layer.create(*scan(metadata={"kind": "labels"}).to_layer_data())
    assert layer._type_string == "labels"


def test_docks_make_layers_alike():
    volume = scan()
    _, attributes, _ = volume.to_layer_data()
    expected = {"name": "scan", **geometry(volume), "metadata": layer_metadata(volume)}
    assert attributes == expected
