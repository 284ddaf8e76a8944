"""The thin NaN probe agrees with a brute-force probe of the full window."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.inference.receptive_field import check_spec, probe
from napari_geosr.networks import build_network
from napari_geosr.networks.spec import NetworkSpec


def brute_halo(network, length: int) -> tuple[int, ...]:
    """Largest reach of one NaN voxel, over every phase of every axis."""
    import torch

    spec = network.spec
    n = len(spec.axes)
    middle = length // 2 // max(spec.stride) * max(spec.stride)
    reach = np.zeros(n, int)
    for phases in np.ndindex(*spec.stride):
        x = torch.randn(1, spec.adjacent_slices, *(length,) * n)
        position = [middle + p for p in phases]
        x[(0, slice(None), *position)] = torch.nan
        with torch.inference_mode():
            hit = network(x)[0, 0].isnan().nonzero().numpy()
        hit = hit // np.array(spec.upscale_factor)
        reach = np.maximum(reach, np.abs(hit - position).max(0))
    return tuple(int(r) for r in reach)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    "kind", ["conv", "dilated", "strided", "shuffle", "reflecting"]
)
def test_thin_probe_equals_brute_probe(make_network, kind, ndim):
    network = make_network(kind, ndim)
    found = check_spec(network)
    assert found.local
    assert found.halo == brute_halo(network, 24 if ndim == 3 else 32)
    assert found.stride == network.spec.stride


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("msdnet", {"depth": 12}),
        ("msdnet", {"depth": 5, "adjacent_slices": 5, "width": 2}),
        ("msdnet", {"depth": 4, "ndim": 3}),
        ("light_sr", {"ndim": 2, "blocks": 2, "upscale_factor": 4}),
        ("light_sr", {"ndim": 3, "blocks": 2}),
        ("light_sr", {"ndim": 3, "features": 2, "upscale_factor": 8}),
        ("rep_sr", {"ndim": 2, "features": 4, "upscale_factor": 8}),
        ("rep_sr", {"ndim": 3, "features": 3, "merged": True}),
        ("msdnet_sr", {"ndim": 2, "upscale_factor": 4, "adjacent_slices": 3}),
    ],
)
def test_registered_networks_declare_their_halo(name, kwargs):
    network = build_network(name, **kwargs).eval()
    assert check_spec(network).halo == network.spec.halo
    assert network.spec.local


def test_a_promise_that_is_too_small_is_refused(make_network):
    network = make_network("dilated")
    network.spec = dataclasses.replace(network.spec, halo=(6, 5))
    with pytest.raises(ModelError, match="halo of 5 along X, but voxels 6 away"):
        check_spec(network)
    network = make_network("strided")
    network.spec = dataclasses.replace(network.spec, stride=(4, 8), minimum_size=(8, 8))
    check_spec(network)  # wasteful, but correct


def test_probing_changes_nothing(make_network):
    import torch

    network = make_network("conv").train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    probe(network)
    assert network.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_layers_that_see_the_whole_are_found(make_network):
    network = make_network("normalised")
    found = probe(network)
    assert not found.local
    assert "whole image" in found.reason
    network.spec = dataclasses.replace(network.spec, local=True)
    with pytest.raises(ModelError, match="cannot be tiled exactly"):
        check_spec(network)


def test_layers_that_depend_on_the_position_are_found():
    from torch import nn

    class Resizing(nn.Module):
        spec = NetworkSpec("YX", (4, 4), (2, 2), (1, 1), minimum_size=(4, 4))

        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            small = nn.functional.avg_pool2d(self.layer(x), 2)
            return nn.functional.interpolate(
                small, scale_factor=2, mode="bilinear", align_corners=True
            )

    found = probe(Resizing())
    assert not found.local
    assert "position" in found.reason or "reaches" in found.reason


def test_layers_that_swallow_nan_do_not_hide_their_reach(make_network):
    import torch

    class Swallows(torch.nn.Conv2d):
        spec = NetworkSpec("YX", (3, 3), (1, 1), (1, 1))

        def forward(self, x):
            return super().forward(torch.nan_to_num(x))

    assert probe(Swallows(1, 1, 7, padding=3)).halo == (3, 3)
