"""Radii of the attribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .conftest import ask, relu_network, request_at, scene_of, with_spec


def ring_network(radius: int, share: float) -> Any:
    """The centre, and four voxels `radius` away with this fraction of the weights."""
    import torch
    from torch import nn

    network = nn.Conv2d(1, 1, 2 * radius + 1, padding=radius)
    with torch.no_grad():
        network.weight.zero_()
        network.weight[0, 0, radius, radius] = 1 - share
        for y, x in ((0, radius), (2 * radius, radius), (radius, 0), (radius, -1)):
            network.weight[0, 0, y, x] = -share / 4
    return with_spec(network, radius + 2)


@pytest.mark.parametrize(
    ("share", "radii"),
    [(0.05, (0, 0, 18)), (0.3, (0, 18, 18)), (0.7, (18, 18, 18)), (0.005, (0, 0, 0))],
)
def test_radii_hold_their_shares(
    share: float, radii: tuple[float, ...], scan: Any
) -> None:
    request = request_at(
        scene_of(ring_network(6, share), scan(40, 40)),
        20,
        20,
        voxel_size=(3.0, 3.0, 3.0),
    )
    figures = ask("reach", request).figures
    assert list(figures["radius"].values()) == pytest.approx(list(radii))
    assert figures["receptive_field"]["y"] == 8 * 3


def test_distances_are_physical_and_from_the_nearest_voxel_of_the_place(
    scan: Any,
) -> None:
    """Voxels are 4 µm apart along Z, so that neighbour is the farthest of the three."""
    scene = scene_of(relu_network(3), scan(12, 14, 16))
    region = (slice(5, 6), slice(6, 7), slice(6, 9))
    request = request_at(
        scene,
        5,
        6,
        6,
        region=region,
        mask=np.array([[[True, False, True]]]),
        voxel_size=(4.0, 2.0, 1.0),
    )
    distances = request.distances()
    z, y, x = (
        5 - p.start if a == 0 else 6 - p.start
        for a, p in enumerate(request.window.place)
    )
    assert distances[z, y, x] == 0
    assert distances[z, y, x + 1] == 1
    assert distances[z, y, x + 2] == 0
    assert distances[z + 1, y, x] == 4
    assert distances[z, y + 1, x] == 2


def test_fine_voxels_lie_where_they_are(scan: Any) -> None:
    from torch import nn

    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2))
    scene = scene_of(with_spec(layers, 1, upscale_factor=(2, 2)), scan(20, 24))
    request = request_at(scene, 10, 13)
    place = request.window.place
    distances = request.distances()[0]
    # Fine voxel (10, 13) is at (-1/4, +1/4) of coarse voxel (5, 6).
    y, x = 5 - place[1].start, 6 - place[2].start
    assert distances[y, x] == pytest.approx(np.hypot(0.25, 0.25))
    assert distances[y - 1, x + 1] == pytest.approx(np.hypot(0.75, 0.75))


def test_a_result_that_ignores_the_scan_is_said_to(scan: Any) -> None:
    import torch
    from torch import nn

    network = nn.Conv2d(1, 1, 3, padding=1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(0.5)
    request = request_at(scene_of(with_spec(network, 1), scan(20, 20)), 10, 10)
    for method in ("reach", "lam", "filter"):
        sentence = ask(method, request).sentence
        assert "does not depend on the scan" in sentence
        assert "90 %" not in sentence
        assert "linear filter" not in sentence
    assert set(ask("reach", request).figures["radius"].values()) == {None}
