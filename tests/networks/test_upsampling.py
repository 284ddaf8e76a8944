"""Common properties of all networks that make voxels finer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_geosr.networks import NETWORKS, build_network
from napari_geosr.networks.layers.upsampling import (
    count_doublings,
    cubic_kernel,
    end_reach,
    enlarged,
    initialise_icnr,
    interpolated,
    make_end,
    pixel_shuffle,
    plain_layer,
)

SHAPES = [(2, 2), (2, 4), (2, 8), (3, 2), (3, 4), (3, 8)]
UPSCALING = [
    name
    for name in NETWORKS.names()
    if "upscale_factor" in NETWORKS.load(name).NetworkConfig.model_fields
]
#: U-Nets interpolate first; they are large.
LIGHT = [n for n in UPSCALING if n not in ("unet", "residual_diffusion")]
#: It spreads averages out along parabolas, and its last layer starts at zero.
CONDITIONED = "conditioned_sr"


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
    x = torch.randn(1, 3, *(4,) * ndim)
    conv = torch.nn.functional.conv3d if ndim == 3 else torch.nn.functional.conv2d
    low = conv(x, weight[:1], padding=1)
    high = pixel_shuffle(conv(x, weight, padding=1), factor)
    for axis in range(ndim):
        low = low.repeat_interleave(factor, dim=2 + axis)
    torch.testing.assert_close(high, low)
    assert weight.abs().sum() > 0


@pytest.mark.parametrize("name", [n for n in LIGHT if n != CONDITIONED])
@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_fresh_networks_have_icnr_where_the_grid_changes(
    name: str, ndim: int, factor: int
) -> None:
    network = build_network(name, ndim=ndim, upscale_factor=factor, features=2)
    last = round(network.tail.weight.shape[0] ** (1 / ndim))
    for layer, step in (*((s, 2) for s in network.stages), (network.tail, last)):
        groups = layer.weight.unflatten(0, (-1, step**ndim))
        assert torch.equal(groups, groups[:, :1].expand_as(groups))
        assert groups.abs().sum() > 0
        assert not layer.bias.any()


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_interpolation_reproduces_parabolas(ndim: int, factor: int) -> None:
    """Positions are correct: sub-voxel i of voxel k is at k + (i + 1/2) / s - 1/2."""
    kernel = cubic_kernel(factor, ndim)
    n = 6
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
        found = interpolated(x, kernel, factor)
        torch.testing.assert_close(found[inner], expected[inner])


def test_interpolation_keeps_channels_apart() -> None:
    kernel = cubic_kernel(4, 2)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    both = interpolated(x, kernel, 4)
    for sample in range(2):
        for channel in range(3):
            alone = interpolated(x[sample, channel][None, None], kernel, 4)
            torch.testing.assert_close(both[sample, channel][None, None], alone)


@pytest.mark.parametrize("factor", [2, 8])
def test_interpolation_lies_near_scipy_grid_mode(factor: int) -> None:
    smooth = ndimage.gaussian_filter(
        np.random.default_rng(0).normal(size=(20, 20)), 2.5
    )
    x = torch.from_numpy(smooth)[None, None]
    ours = interpolated(x, cubic_kernel(factor, 2), factor)[0, 0].numpy()
    theirs = ndimage.zoom(smooth, factor, order=3, grid_mode=True, mode="nearest")
    assert np.abs(ours - theirs).max() < 0.02 * np.ptp(smooth)


@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_constants_stay(ndim: int, factor: int) -> None:
    x = torch.full((1, 1, *(5,) * ndim), 0.7)
    found = interpolated(x, cubic_kernel(factor, ndim).float(), factor)
    torch.testing.assert_close(found, torch.full_like(found, 0.7))
    assert found.shape[2:] == (5 * factor,) * ndim


@pytest.mark.parametrize(("factor", "n"), [(2, 0), (4, 0), (8, 1), (16, 2), (32, 3)])
def test_the_end_reaches_as_far_as_it_says(factor: int, n: int) -> None:
    """A NaN spreads over at most two coarse voxels, for any number of doublings."""
    assert count_doublings(factor) == n
    stages, tail = make_end(plain_layer(2), 2, 2, factor, n)
    maps = torch.zeros(1, 2, 9, 9)
    maps[..., 4, 4] = torch.nan
    bad = enlarged(maps, stages, tail, factor).isnan()[0, 0].any(0).nonzero()
    low, high = int(bad.min()) // factor, int(bad.max()) // factor
    assert (4 - low, high - 4) == (end_reach(n),) * 2


@pytest.mark.parametrize(
    "name", [n for n in UPSCALING if n not in ("residual_diffusion", CONDITIONED)]
)
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_slab_gives_its_middle_plane(name: str, factor: int) -> None:
    """In 2.5D without details, the result is the interpolated middle plane."""
    torch.manual_seed(0)
    network = build_network(
        name, ndim=2, upscale_factor=factor, adjacent_slices=5, features=2
    ).eval()
    assert network.spec.adjacent_slices == 5
    assert network.spec.upscale_factor == (factor, factor)
    last = network.head if name == "unet" else network.tail
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        x = torch.randn(2, 5, 6, 7)
        expected = interpolated(x[:, 2:3], cubic_kernel(factor, 2).float(), factor)
        torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("ndim", [2, 3])
def test_light_networks_are_light(name: str, ndim: int) -> None:
    """Fewer than a million parameters; larger factors require more of them."""
    module = NETWORKS.load(name)
    counts = [
        module.parameter_count(module.NetworkConfig.create(ndim=ndim, upscale_factor=s))
        for s in (2, 4, 8)
    ]
    assert counts[-1] < 1_000_000
    assert all(a < b for a, b in pairwise(counts))


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("name", "factor", "settings"),
    [
        ("light_sr", 2, {"blocks": 2}),
        ("light_sr", 8, {"blocks": 2}),
        ("bottleneck_sr", 2, {"features": 24, "inner": 8, "blocks": 4}),
        ("bottleneck_sr", 8, {"features": 24, "inner": 8, "blocks": 4}),
        ("fsrcnn", 2, {"features": 16, "inner": 8}),
        ("rcan", 2, {"features": 16, "groups": 1}),
        ("rep_sr", 2, {"blocks": 4}),
        ("msdnet_sr", 2, {"depth": 4, "width": 4}),
    ],
)
def test_they_beat_interpolation_soon(
    name: str, factor: int, settings: dict[str, int]
) -> None:
    """After a few steps on blurred discs, it is better than the cubic start."""
    torch.manual_seed(0)
    network = build_network(
        name, ndim=2, upscale_factor=factor, **{"features": 8, **settings}
    )
    edge = 48 if factor == 2 else 96
    y, x = torch.meshgrid(torch.arange(edge), torch.arange(edge), indexing="ij")
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    gains = []
    for _ in range(120):
        centre, r = edge * torch.rand(4, 2, 1, 1), (6 + 8 * torch.rand(4, 1, 1))
        r = r * edge / 48
        fine = (((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt() < r).float()
        coarse = torch.nn.functional.avg_pool2d(fine[:, None], factor)
        error = (network(coarse) - fine[:, None]).square().mean()
        cubic = (network.interpolate(coarse) - fine[:, None]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        gains.append(float((cubic / error).detach().log10() * 10))
    assert sum(gains[-20:]) / 20 > 1.0


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize(("ndim", "factor"), SHAPES)
def test_a_part_is_that_of_the_whole(name: str, ndim: int, factor: int) -> None:
    """At the edges of a window, on one side or both, and far from them."""
    fields = NETWORKS.load(name).NetworkConfig.model_fields
    small = {"blocks": 2} if "blocks" in fields else {}
    network = build_network(name, ndim=ndim, upscale_factor=factor, **small).eval()
    if not hasattr(network, "restore_core"):
        pytest.skip(f"{name} restores whole windows only")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    size = (17, 19, 8)[3 - ndim :]
    planes = network.spec.adjacent_slices
    with torch.inference_mode():
        x = torch.randn(1, planes, *size)
        whole = network(x)
        for starts, sizes in (
            ((8, 0, 0), (1, 19, 8)),
            ((0, 9, 3), (2, 10, 5)),
            ((16, 6, 0), (1, 6, 1)),
            ((0, 0, 0), (17, 19, 8)),
        ):
            places = zip(starts[3 - ndim :], sizes[3 - ndim :], strict=True)
            core = tuple(slice(a * factor, (a + n) * factor) for a, n in places)
            found = network.restore_core(x, core)
            difference = found - whole[(..., *core)]
            assert difference.abs().max() < 1e-5 * whole.std()


def test_a_part_can_be_cancelled() -> None:
    network = build_network("light_sr", ndim=3, blocks=2).eval()

    def stop() -> None:
        raise InterruptedError

    network.between_strips = stop
    with torch.inference_mode(), pytest.raises(InterruptedError):
        network.restore_core(torch.randn(1, 1, 9, 9, 9), (slice(6, 8),) * 3)
