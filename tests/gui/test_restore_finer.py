"""At any upscale factor, the layer added by the Restore dock matches its source."""

from __future__ import annotations

import numpy as np
import pytest
from opening import in_front

from napari_geosr.gui.kit.dock_tabs import RESTORE
from napari_geosr.models import bundle, zoo

#: Odd sizes of a layer that is not at the origin and whose voxels are not cubic.
SHAPE = (7, 13, 11)
PLACE = {"scale": (3.0, 0.7, 0.5), "translate": (10.0, -20.0, 30.0), "units": "um"}
CASES = [("light_sr", 3, 2), ("msdnet_sr", 2, 4), ("rep_sr", 3, 8)]


def interpolating(folder, name: str, ndim: int, factor: int) -> None:
    """A user's model that makes voxels finer and adds no detail."""
    import torch

    from napari_geosr.networks import build_network

    network = build_network(name, ndim=ndim, upscale_factor=factor, features=2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    spec = network.spec
    values = {
        "name": folder.name,
        "network": name,
        "network_kwargs": network.config.model_dump(mode="json"),
        "axes": spec.axes,
        "upscale_factor": factor,
        "halo": max(spec.halo),
        "data_consistency": False,  # this would add the detail that the scan requires
    }
    card = zoo.find("foam-sr-x2").card.model_copy(update=values)
    bundle.save(folder, card, network)


def centre(layer) -> np.ndarray:
    """World position of the bright blob of a layer."""
    data = np.asarray(layer.data, float)
    places = [
        float((data.sum(tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() / data.sum())
        for axis, n in enumerate(data.shape)
    ]
    return np.array(layer.data_to_world(places))


def edges(layer) -> np.ndarray:
    """World positions of the outer corners of the first and the last voxel."""
    last = np.array(layer.data.shape) - 0.5
    return np.array([layer.data_to_world((-0.5,) * 3), layer.data_to_world(last)])


@pytest.mark.every(3)
@pytest.mark.parametrize(("name", "ndim", "factor"), CASES)
def test_both_layers_show_the_same_place(
    viewer, qtbot, name: str, ndim: int, factor: int
) -> None:
    own = zoo.user_folder() / "finer"
    interpolating(own, name, ndim, factor)
    data = np.zeros(SHAPE, np.float32)
    # Not symmetric, and two voxels or more from every border.
    data[2:5, 3:7, 4:9] = [[[1, 2, 4, 3, 1]]]
    source = viewer.add_image(data, name="scan", **PLACE)
    dock = in_front(viewer, RESTORE)
    dock.use_model(own)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    result = dock.activity.target()
    factors = (1,) * (3 - ndim) + (factor,) * ndim
    assert result in viewer.layers
    assert result.data.shape == tuple(np.multiply(SHAPE, factors))
    assert result.scale == pytest.approx(np.divide(PLACE["scale"], factors))
    assert result.units == source.units
    np.testing.assert_allclose(edges(result), edges(source), rtol=0, atol=1e-9)
    apart = np.abs(centre(result) - centre(source)) / source.scale
    print(f"{name} ×{factor}: {apart.max():.1g} voxels apart")
    assert apart.max() < 1e-4


def test_a_run_after_a_preview_stays_where_it_was(viewer, qtbot) -> None:
    finer, fine = (zoo.user_folder() / name for name in ("finer", "fine"))
    interpolating(finer, "light_sr", 3, 4)
    interpolating(fine, "light_sr", 3, 2)
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    source = viewer.add_image(data, name="scan", scale=(8.0,) * 3, units="um")
    dock = in_front(viewer, RESTORE)
    dock.use_model(finer)
    point = 40.0  # more preview steps than slices
    viewer.dims.set_point(0, point)
    with qtbot.waitSignal(dock.activity.previewed, timeout=20_000):
        dock.preview_button.click()
    preview = dock.activity._preview.layer
    assert viewer.dims.point[0] == pytest.approx(point, abs=4)
    with qtbot.waitSignal(dock.activity.previewed, timeout=20_000):
        dock.use_model(fine)
    assert preview.scale == pytest.approx(source.scale / 2)
    assert viewer.dims.point[0] == pytest.approx(point, abs=4)
    with qtbot.waitSignal(dock.activity.finished, timeout=20_000):
        dock.run_button.click()
    assert preview not in viewer.layers
    assert dock.activity.target().scale == pytest.approx(source.scale / 2)
    assert viewer.dims.point[0] == pytest.approx(point, abs=4)
