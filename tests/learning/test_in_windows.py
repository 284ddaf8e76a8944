"""A diffusion network gives the same in windows as for the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr.learning.diffusion.in_windows import output_in_windows, windows
from napari_geosr.networks import diffusion_unet, residual_diffusion
from napari_geosr.networks.layers.shared_norm import GroupStatistics, SharedGroupNorm


def unet(**settings: Any) -> diffusion_unet.DiffusionUNet:
    torch.manual_seed(0)
    config = diffusion_unet.NetworkConfig.create(
        **{"ndim": 2, "features": 8, "residual": False} | settings
    )
    return randomised(diffusion_unet.build(config))


def randomised(network: Any) -> Any:
    """Give norms weights and biases of their own, as after training."""
    for part in network.modules():
        if isinstance(part, torch.nn.GroupNorm):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias)
    return network.eval()


def partly_empty(*shape: int) -> torch.Tensor:
    """An image whose first half is empty, so that windows differ from the whole."""
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    image[..., : shape[-1] // 2] = -3
    return image


@pytest.mark.parametrize(
    ("settings", "shape", "at_once"),
    [
        ({}, (203, 158), 130**2),
        ({"levels": 1}, (101, 90), 50**2),
        ({"levels": 3}, (250, 331), 220**2),
        ({"decoder_head": 8, "out_channels": 3}, (160, 143), 120**2),
        ({"ndim": 3, "levels": 1}, (9, 75, 61), 9 * 50**2),
    ],
)
def test_windows_give_what_the_whole_image_gives(settings, shape, at_once) -> None:
    network, image = unet(**settings), partly_empty(*shape)
    at = torch.tensor([400])

    def run(place: tuple[slice, ...]) -> torch.Tensor:
        return network.output(image[place], at)

    with torch.no_grad():
        whole = output_in_windows(network, run, shape)
        parts = output_in_windows(network, run, shape, at_once)
        # Statistics of the windows themselves would not do.
        alone = run((slice(None), slice(None), *(slice(0, n // 8 * 4) for n in shape)))
    assert len(list(windows(shape, at_once, network.reach, network.grid))) > 1
    assert torch.equal(whole, run((slice(None),)))
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5 * float(whole.std()))
    there = tuple(slice(0, n) for n in alone.shape[2:])
    change = alone[0, 0] - whole[0, 0][there]
    assert float(change.abs().max()) > 0.01 * float(whole.std())


@pytest.mark.parametrize("merge", [1, 2])
def test_networks_for_pairs_too(merge: int) -> None:
    torch.manual_seed(0)
    config = residual_diffusion.NetworkConfig.create(
        ndim=2, features=8, levels=1, merge=merge
    )
    network = randomised(residual_diffusion.build(config))
    scan, state = partly_empty(121, 150), partly_empty(121, 150).flip(-1)
    at = torch.tensor([300])

    def run(place: tuple[slice, ...]) -> torch.Tensor:
        return network.output(state[place], at, scan[place])

    with torch.no_grad():
        whole = output_in_windows(network, run, (121, 150))
        parts = output_in_windows(network, run, (121, 150), 96**2)
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5 * float(whole.std()))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_output_depends_on_no_voxel_beyond_the_reach(levels: int) -> None:
    network = unet(levels=levels)
    for norm in network.modules():
        if isinstance(norm, SharedGroupNorm):
            norm.given = torch.zeros(1, norm.num_groups), torch.ones(1, norm.num_groups)
    image = torch.randn(1, 1, 16, 512).double()
    network.double()
    there = torch.zeros(512, dtype=torch.bool)
    with torch.no_grad():
        before = network.output(image, torch.tensor([0]))
        for at in range(240, 240 + network.grid):
            other = image.clone()
            other[..., at] += 100
            moved = (network.output(other, torch.tensor([0])) != before)[0, 0].any(0)
            there[(torch.nonzero(moved)[:, 0] - at).abs()] = True
    farthest = int(torch.nonzero(there).max())
    assert network.reach - network.grid < farthest <= network.reach


@given(
    shape=st.lists(st.integers(1, 90), min_size=2, max_size=3),
    at_once=st.integers(1, 100_000),
    reach=st.integers(0, 20),
    grid=st.sampled_from([1, 2, 4]),
)
def test_cores_cover_every_voxel_once(shape, at_once, reach, grid) -> None:
    seen = np.zeros(shape, int)
    for window in windows(shape, at_once, reach, grid):
        seen[window.core] += 1
        for core, around, n in zip(window.core, window.around, shape, strict=True):
            assert core.start % grid == around.start % grid == 0
            assert around.start == 0 or core.start - around.start >= reach
            assert around.stop == n or around.stop - core.stop >= reach
    assert (seen == 1).all()


def test_windows_are_as_large_as_allowed() -> None:
    found = list(windows((4096, 4096), 1024**2, 39, 4))
    sizes = [np.prod([s.stop - s.start for s in w.around]) for w in found]
    assert max(sizes) <= 1024**2
    assert len(found) <= 25


def test_a_failure_leaves_the_network_as_it_was() -> None:
    network, image = unet(), partly_empty(200, 200)
    calls = iter(range(100))

    def run(place: tuple[slice, ...]) -> torch.Tensor:
        if next(calls) == 7:
            raise MemoryError
        return network.output(image[place], torch.tensor([400]))

    with torch.no_grad():
        before = network.output(image, torch.tensor([400]))
        with pytest.raises(MemoryError):
            output_in_windows(network, run, (200, 200), 130**2)
        assert torch.equal(network.output(image, torch.tensor([400])), before)


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    maps = 1000 + torch.randn(2, 6, 40, 30)
    found = GroupStatistics(3)
    for part in maps.split([1, 17, 22], dim=2):
        found.add(part)
    grouped = maps.double().reshape(2, 3, -1)
    mean, variance = found.result()
    torch.testing.assert_close(mean, grouped.mean(2), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        variance, grouped.var(2, correction=0), rtol=1e-5, atol=0
    )
