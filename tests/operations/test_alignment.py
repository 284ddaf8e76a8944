"""Restored and super-resolved volumes are aligned with their originals.

A sphere with a known centre is restored, written, read again and shown as a layer; its
centre of mass must be within 0.1 input voxels of the truth, in physical coordinates.
"""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig, restore_steps

VOXEL = (3.0, 2.0, 2.5)
ORIGIN = (10.0, -4.0, 7.0)
CENTRE = np.array((40.3, 27.4, 53.1))
RADIUS = 17.0
SHAPE = (21, 31, 37)


def positions(shape, voxel, origin):
    axes = [o + v * np.arange(n) for n, v, o in zip(shape, voxel, origin, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


@pytest.fixture(scope="module")
def ball() -> Volume:
    """A dark sphere in a bright block with partial voxels and weak noise."""
    distance = np.linalg.norm(positions(SHAPE, VOXEL, ORIGIN) - CENTRE, axis=-1)
    edge = np.clip((distance - RADIUS) / 2.5 + 0.5, 0, 1)
    noise = np.random.default_rng(3).normal(0, 0.03, SHAPE)
    data = (0.2 + 0.6 * edge + noise).astype(np.float32)
    return Volume(data, "ZYX", VOXEL, "µm", ORIGIN, name="ball")


def centre_of_mass(volume: Volume) -> np.ndarray:
    """The weight is the darkness, near the sphere only, so that distant noise does not
    count.
    """
    where = positions(volume.shape, volume.voxel_size, volume.origin)
    data = np.asarray(volume.data[...], dtype=np.float64)
    weight = np.clip(0.8 - data, 0, None)
    weight[np.linalg.norm(where - CENTRE, axis=-1) > RADIUS + 6] = 0
    return (where * weight[..., None]).sum((0, 1, 2)) / weight.sum()


@pytest.mark.every(4)
@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".ome.zarr"])
@pytest.mark.parametrize(("model", "factor"), [("foam-denoise", 1), ("foam-sr-x2", 2)])
def test_the_ball_stays_where_it_is(ball, tmp_path, model, factor, suffix):
    assert np.abs(centre_of_mass(ball) - CENTRE).max() < 0.1
    out = tmp_path / f"result{suffix}"
    result = run_to_end(restore_steps(ball, RestoreConfig(model=model), out=out))
    written = io.read(out)
    size, origin = ball.upscaled_geometry(factor)
    for volume in (result.volume, written):
        assert volume.shape == tuple(n * factor for n in SHAPE)
        assert volume.voxel_size == pytest.approx(size, rel=1e-6)
        assert volume.origin == pytest.approx(origin, rel=1e-6)
        assert volume.unit == "µm"
        off = np.abs(centre_of_mass(volume) - CENTRE) / VOXEL
        assert off.max() < 0.1, off
    record = written.provenance[-1]
    assert record["model"]["name"] == model
    assert record["inputs"]["input"]["checksum"]
    assert record["complete"] is True


@pytest.mark.gui
def test_the_ball_stays_where_it_is_in_napari(ball):
    from napari.components import ViewerModel

    from napari_geosr.gui.layers import add_image_result, geometry, volume_from_layer

    viewer = ViewerModel()
    source = viewer.add_image(ball.data, name="ball", **geometry(ball))
    config = RestoreConfig(model="foam-sr-x2")
    result = run_to_end(restore_steps(volume_from_layer(source), config)).volume
    layer = add_image_result(viewer, result, source)
    off = np.abs(centre_of_mass(volume_from_layer(layer)) - CENTRE) / VOXEL
    assert off.max() < 0.1, off
    outer = np.asarray(VOXEL) / 4
    for fine, coarse in zip(layer.extent.world, source.extent.world, strict=True):
        np.testing.assert_allclose(fine, coarse, atol=outer.max() + 1e-9)
    assert viewer.layers.units is not None
