from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network
from napari_geosr.networks.light_sr import (
    cubic_kernel,
    initialise_icnr,
    pixel_shuffle,
)

SHAPES = [(2, 2), (2, 4), (3, 2), (3, 4)]


def test_shuffle_agrees_with_torch_in_2d() -> None:
    x = torch.randn(2, 12, 5, 7)
    assert torch.equal(pixel_shuffle(x, 2), torch.pixel_shuffle(x, 2))


def test_shuffle_puts_sub_voxels_in_order() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1, 1)
    assert torch.equal(pixel_shuffle(x, 2)[0, 0].flatten(), torch.arange(8.0))


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_icnr_starts_without_checkerboard(ndim: int, factor: int) -> None:
    weight = torch.empty(factor**ndim, 3, *(3,) * ndim)
    initialise_icnr(weight, factor)
    x = torch.randn(1, 3, *(6,) * ndim)
    conv = torch.nn.functional.conv3d if ndim == 3 else torch.nn.functional.conv2d
    low = conv(x, weight[:1], padding=1)
    high = pixel_shuffle(conv(x, weight, padding=1), factor)
    for axis in range(ndim):
        low = low.repeat_interleave(factor, dim=2 + axis)
    torch.testing.assert_close(high, low)
    assert weight.abs().sum() > 0


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_fresh_network_has_icnr_in_its_last_layer(ndim: int, factor: int) -> None:
    network = build_network("light_sr", ndim=ndim, upscale_factor=factor, features=4)
    groups = network.tail.weight.reshape(1, factor**ndim, -1)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_interpolation_reproduces_parabolas(ndim: int, factor: int) -> None:
    """At the right places: sub-voxel i of voxel k lies at k + (i + 1/2) / s - 1/2."""
    network = build_network("light_sr", ndim=ndim, upscale_factor=factor, features=2)
    network = network.double()
    network.kernel = cubic_kernel(factor, ndim)
    n = 8
    for axis in range(ndim):
        coarse = torch.arange(n, dtype=torch.float64)
        fine = (torch.arange(n * factor, dtype=torch.float64) + 0.5) / factor - 0.5
        shape = [1] * (2 + ndim)
        shape[2 + axis] = -1
        x = (coarse**2 - 3 * coarse + 1).view(shape).expand(1, 1, *(n,) * ndim)
        expected = (
            (fine**2 - 3 * fine + 1).view(shape).expand(1, 1, *(factor * n,) * ndim)
        )
        inner = (..., *(slice(2 * factor, -2 * factor),) * ndim)
        torch.testing.assert_close(network.interpolate(x)[inner], expected[inner])


def test_interpolation_lies_near_scipy_grid_mode() -> None:
    smooth = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(20, 20)), 2.5
    )
    network = build_network("light_sr", ndim=2, features=2)
    x = torch.from_numpy(smooth.astype(np.float32))[None, None]
    ours = network.interpolate(x)[0, 0].numpy()
    theirs = ndimage.zoom(smooth, 2, order=3, grid_mode=True, mode="nearest")
    assert np.abs(ours - theirs).max() < 0.02 * np.ptp(smooth)


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_constants_stay(ndim: int, factor: int) -> None:
    network = build_network("light_sr", ndim=ndim, upscale_factor=factor, features=2)
    x = torch.full((1, 1, *(5,) * ndim), 0.7)
    torch.testing.assert_close(
        network.interpolate(x), torch.full((1, 1, *(5 * factor,) * ndim), 0.7)
    )


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_default_networks_are_light(ndim: int, factor: int) -> None:
    network = build_network("light_sr", ndim=ndim, upscale_factor=factor, features=24)
    assert sum(p.numel() for p in network.parameters()) < 1_000_000


def test_it_beats_interpolation_soon() -> None:
    """A few steps on blurred disks: better than the cubic start."""
    torch.manual_seed(0)
    network = build_network("light_sr", ndim=2, features=8, blocks=2)
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    gains = []
    for _ in range(120):
        centre, r = 48 * torch.rand(4, 2, 1, 1), 6 + 8 * torch.rand(4, 1, 1)
        fine = (((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt() < r).float()
        coarse = torch.nn.functional.avg_pool2d(fine[:, None], 2)
        error = (network(coarse) - fine[:, None]).square().mean()
        cubic = (network.interpolate(coarse) - fine[:, None]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        gains.append(float((cubic / error).detach().log10() * 10))
    assert sum(gains[-20:]) / 20 > 1.0


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="upscale factor"):
        build_network("light_sr", upscale_factor=3)
