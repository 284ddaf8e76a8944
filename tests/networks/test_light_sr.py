from __future__ import annotations

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upscale_factor": 3}, "upscale factor"),
        ({"upscale_factor": 1}, "upscale factor"),
        ({"ndim": 3, "adjacent_slices": 3}, "no adjacent slices"),
        ({"ndim": 2, "adjacent_slices": 4}, "odd"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("light_sr", **settings)


def test_the_wide_one_is_the_network_it_is_compared_with() -> None:
    """16 blocks of 64 maps in planes: EDSR's baseline, its end for two factors of 2."""
    network = build_network(
        "light_sr", ndim=2, upscale_factor=4, features=64, blocks=16
    )
    trunk = sum(p.numel() for p in network.blocks.parameters())
    assert trunk == 16 * 2 * (9 * 64 + 1) * 64
