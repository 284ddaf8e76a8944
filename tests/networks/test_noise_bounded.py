"""Noise-bounded networks never deviate from the scan by more than the bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_geosr.core.errors import ModelError
from napari_geosr.core.noise import Noise
from napari_geosr.networks import build_network, needs_noise, set_network_noise
from napari_geosr.networks.layers.noise_map import interpolate
from napari_geosr.networks.wrappers.bound import NoiseBound

SMALL = {"features": 4, "blocks": 1}
KINDS = [
    {**SMALL, "adjacent_slices": 5},
    {**SMALL, "ndim": 3},
    {"body": "msdnet"},
    {"body": "unet", "adjacent_slices": 3},
]


def wild(network: nn.Module, size: float = 3.0) -> nn.Module:
    """With arbitrary weights."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, size)
    return network.eval()


def bounded_ones() -> list[nn.Module]:
    made = [wild(build_network("noise_bounded", **kwargs)) for kwargs in KINDS]
    old = [
        build_network("msdnet", depth=3, adjacent_slices=5),
        build_network("unet", levels=1, features=3, ndim=3),
    ]
    return [*made, *(NoiseBound(wild(network), 4.0).eval() for network in old)]


BOUNDED = bounded_ones()


def window(network: nn.Module, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    size = (1, network.spec.adjacent_slices, *(8, 12, 12)[-len(network.spec.axes) :])
    return torch.from_numpy(rng.normal(0, 3, size).astype(np.float32))


@pytest.mark.parametrize("network", BOUNDED, ids=lambda n: type(n).__name__)
@settings(max_examples=20, deadline=None)
@given(
    st.floats(0, 2, width=32),
    st.floats(0, 2, width=32),
    st.integers(0, 1000),
)
def test_no_voxel_moves_by_more_than_k_times_the_noise(network, dark, bright, seed):
    noise = Noise(max(dark, bright), 1.0, (-1.0, 1.0), (dark, bright))
    set_network_noise(network, noise)
    x = window(network, seed)
    centre = network.spec.adjacent_slices // 2
    with torch.no_grad():
        moved = (network(x) - x[:, centre : centre + 1]).abs()
        level = network.noise(x)
    assert (moved <= 4.0 * level * (1 + 1e-5) + 1e-5).all()
    assert level.min() >= min(dark, bright) - 1e-5
    assert level.max() <= max(dark, bright) + 1e-5


@pytest.mark.parametrize("network", BOUNDED, ids=lambda n: type(n).__name__)
def test_without_noise_the_scan_comes_back_as_it_is(network):
    set_network_noise(network, Noise(0.0, 1.0))
    x = window(network, 1)
    centre = network.spec.adjacent_slices // 2
    with torch.no_grad():
        assert torch.equal(network(x), x[:, centre : centre + 1])


def test_a_bound_leaves_small_changes_as_they_are():
    """Well within the bound, the result is that of the unbounded network."""
    network = build_network("msdnet", depth=2)
    with torch.no_grad():
        network.final_weight.normal_(0, 1e-4)
    both = NoiseBound(network, 4.0).eval()
    set_network_noise(both, Noise(10.0, 100.0))
    x = window(both, 2)
    with torch.no_grad():
        assert torch.allclose(both(x), network.eval()(x), atol=1e-4)
        assert not torch.equal(both(x), x)


def test_fresh_weights_return_the_input():
    network = build_network("noise_bounded", **SMALL).eval()
    x = window(network, 3)
    with torch.no_grad():
        assert torch.equal(network(x), x)


def test_every_sample_can_have_a_noise_of_its_own():
    network = wild(build_network("noise_bounded", **SMALL), 0.2)
    x = torch.cat([window(network, 4), window(network, 5)])
    level = torch.tensor([0.0, 0.5]).view(2, 1, 1, 1).expand(2, 1, 12, 12)
    with torch.no_grad():
        y = network(x, level, torch.zeros(2, 3))
        told = Noise(0.5, 1.0)
        set_network_noise(network, told)
        alone = network(x[1:])
    assert torch.equal(y[0], x[0])
    assert torch.allclose(y[1:], alone, atol=1e-6)


def test_correlations_matter_to_the_network():
    network = wild(build_network("noise_bounded", **SMALL), 0.2)
    x = window(network, 6)
    found = []
    for along in ({}, {"y": 0.5, "x": 0.5, "z": 0.4}):
        set_network_noise(network, Noise(0.5, 1.0, correlation=along))
        with torch.no_grad():
            found.append(network(x))
    assert not torch.equal(*found)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique=True))
def test_interpolation_is_that_of_numpy(places):
    places = sorted(places)
    if min(np.diff(places)) < 1e-3:
        return
    values = np.cos(places)
    x = np.linspace(-6, 6, 41)
    found = interpolate(*(torch.tensor(np.asarray(v)) for v in (x, places, values)))
    np.testing.assert_allclose(found, np.interp(x, places, values), atol=1e-9)


def test_only_denoisers_can_be_bounded():
    finer = build_network("light_sr", upscale_factor=2, features=4, blocks=1, ndim=2)
    with pytest.raises(ModelError, match="keeps the voxel size"):
        NoiseBound(finer, 4.0)


def test_who_wants_to_know_the_noise():
    assert needs_noise(NoiseBound(build_network("msdnet", depth=2), 4.0))
    assert needs_noise(build_network("noise_bounded", **SMALL))
    assert not needs_noise(build_network("msdnet", depth=2))
