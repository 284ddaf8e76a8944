"""Whatever a conditioned network predicts, its result agrees with the scan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from napari_geosr.core.noise import Noise
from napari_geosr.networks import (
    ConsistentUpscaling,
    Sharpness,
    build_network,
    set_network_noise,
    set_scan_sharpness,
)

KINDS = [
    {"ndim": 3, "upscale_factor": 2, "sharpness": True},
    {"ndim": 3, "upscale_factor": 4},
    {"ndim": 2, "upscale_factor": 8, "adjacent_slices": 3},
]


def made(kind: int) -> nn.Module:
    """A network with arbitrary weights."""
    network = build_network(
        "conditioned_sr", features=4, blocks=1, bound=3.0, **KINDS[kind]
    )
    torch.manual_seed(kind)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.4)
    return network.eval()


NETWORKS = [made(i) for i in range(len(KINDS))]


def scan_and_means(network: nn.Module, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A random scan, and the result averaged over each of its voxels."""
    spec = network.spec
    shape = (1, spec.adjacent_slices, *(6, 7, 9)[-len(spec.axes) :])
    x = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, shape))
    pool = functional.avg_pool3d if len(spec.axes) == 3 else functional.avg_pool2d
    with torch.no_grad():
        means = pool(network.double()(x), spec.upscale_factor[0])
    middle = spec.adjacent_slices // 2
    return x[:, middle : middle + 1], means


@pytest.mark.parametrize("network", NETWORKS, ids=range(len(KINDS)))
@settings(max_examples=15, deadline=None)
@given(st.floats(0, 2, width=32), st.floats(0, 2, width=32), st.integers(0, 1000))
def test_means_differ_from_the_scan_by_less_than_the_bound(network, dark, bright, seed):
    noise = Noise(max(dark, bright), 1.0, (-1.0, 1.0), (dark, bright))
    set_network_noise(network, noise)
    scan, means = scan_and_means(network, seed)
    assert (means - scan).abs().max() <= 3.0 * max(dark, bright) + 1e-9


@pytest.mark.parametrize("network", NETWORKS, ids=range(len(KINDS)))
def test_without_noise_the_means_are_the_scan(network):
    set_network_noise(network, Noise(0.0, 1.0))
    scan, means = scan_and_means(network, 3)
    assert torch.allclose(means, scan, atol=1e-9)
    set_network_noise(network, Noise(0.5, 1.0))
    scan, means = scan_and_means(network, 3)
    assert (means - scan).abs().mean() > 0.1  # and with noise, they are not


def test_noise_and_sharpness_reach_the_network_within_the_consistency_layer():
    network = made(0)
    layer = ConsistentUpscaling(network)
    x = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (1, 1, 8, 8, 8))).float()
    results = []
    for level, sharpness in ((0.1, None), (0.4, None), (0.4, 0.5)):
        set_network_noise(layer, Noise(level, 1.0))
        set_scan_sharpness(layer, sharpness)
        assert float(network.noise.levels[0]) == pytest.approx(level)
        with torch.no_grad():
            results.append(network(x))
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])
    assert layer.sharpness == Sharpness()


def test_untrained_it_spreads_averages_out():
    network = build_network("conditioned_sr", upscale_factor=4, features=4, blocks=1)
    set_network_noise(network, Noise(0.2, 1.0))
    ramp = torch.arange(12.0)[None, None, None, None].expand(1, 1, 8, 8, 12)
    with torch.no_grad():
        fine = network(ramp)
    expected = (torch.arange(48) + 0.5) / 4 - 0.5
    assert torch.allclose(fine[0, 0, 16, 16, 8:-8], expected[8:-8], atol=1e-5)


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_a_part_is_the_same_as_in_the_whole(kind):
    network = made(kind)
    spec, factor = network.spec, network.spec.upscale_factor[0]
    set_network_noise(network, Noise(0.5, 1.0))
    shape = (1, spec.adjacent_slices, *(21, 40, 50)[-len(spec.axes) :])
    x = torch.from_numpy(np.random.default_rng(4).normal(0, 1, shape)).float()
    cores = [
        tuple(slice(factor * 9 + 1, factor * 13 - 1) for _ in spec.axes),
        tuple(slice(0, factor * 5) for _ in spec.axes),
        tuple(slice(factor * (n - 3), factor * n) for n in shape[2:]),
    ]
    with torch.no_grad():
        whole = network(x)
        for core in cores:
            part = network.restore_core(x, core)
            expected = whole[(..., *core)]
            assert part.shape == expected.shape
            assert torch.allclose(part, expected, atol=1e-4 * float(whole.std()))
