from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.inference.receptive_field import probe
from napari_geosr.networks import build_network
from napari_geosr.networks.unet import blurred_maxima


def test_blurred_maxima_by_hand() -> None:
    """Maxima of neighbours, ends repeated: 1 5 5 2 7 7; weights 1 : 2 : 1."""
    x = torch.tensor([1.0, 5.0, 2.0, 2.0, 7.0, 0.0]).view(1, 1, 1, 6).expand(1, 1, 2, 6)
    found = blurred_maxima(x)
    maxima = [1.0, 5.0, 5.0, 2.0, 7.0, 7.0, 0.0]
    expected = [
        0.25 * maxima[i] + 0.5 * maxima[i + 1] + 0.25 * maxima[i + 2] for i in (0, 2, 4)
    ]
    torch.testing.assert_close(found.view(-1), torch.tensor(expected))


@pytest.mark.parametrize("shape", [(8, 6), (4, 6, 8)])
def test_blurred_maxima_halve_and_keep_constants(shape: tuple[int, ...]) -> None:
    found = blurred_maxima(torch.full((2, 3, *shape), 0.7))
    assert found.shape == (2, 3, *(n // 2 for n in shape))
    torch.testing.assert_close(found, torch.full_like(found, 0.7))


def test_blurred_maxima_lie_in_the_middle() -> None:
    """A mirrored image gives the mirrored result, so nothing is shifted."""
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 12)
    flipped = blurred_maxima(x.flip(-1, -2)).flip(-1, -2)
    torch.testing.assert_close(flipped, blurred_maxima(x))


@pytest.mark.parametrize("pooling", ["blur", "max"])
@pytest.mark.parametrize("upsampling", ["linear", "nearest"])
@pytest.mark.parametrize("levels", [1, 2])
def test_the_halo_is_what_probing_finds(
    pooling: str, upsampling: str, levels: int
) -> None:
    torch.manual_seed(0)
    network = build_network(
        "unet", levels=levels, features=3, pooling=pooling, upsampling=upsampling
    )
    found = probe(network)
    assert found.local
    assert found.halo == network.spec.halo
    assert found.stride == network.spec.stride == (2**levels,) * 2


def test_a_fresh_network_is_near_its_input() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 17, 20)
    network = build_network("unet", adjacent_slices=3, features=8)
    with torch.no_grad():
        change = network(x) - x[:, 1:2]
    assert 0 < change.std() < 0.3


def test_without_the_top_skip_it_has_fewer_weights() -> None:
    def count(**values: Any) -> int:
        network = build_network("unet", features=8, levels=2, **values)
        return sum(p.numel() for p in network.parameters())

    assert count() - count(top_skip=False) == 9 * 8 * 8


def test_it_learns() -> None:
    """Noisy discs: the error falls far below that of the input in sixty steps."""
    torch.manual_seed(0)
    network = build_network("unet", levels=2, features=8)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for _ in range(100):
        centre, r = 32 * torch.rand(4, 2, 1, 1), 4 + 6 * torch.rand(4, 1, 1)
        clean = (((y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2).sqrt() < r).float()
        noisy = clean + 0.5 * torch.randn_like(clean)
        loss = (network(noisy[:, None])[:, 0] - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) / 10 < 0.25 / 4


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"adjacent_slices": 4}, "odd"),
        ({"ndim": 3, "adjacent_slices": 3}, "not use adjacent"),
        ({"levels": 0}, "levels"),
        ({"pooling": "mean"}, "pooling"),
    ],
)
def test_bad_settings_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("unet", **kwargs)
