from __future__ import annotations

import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upscale_factor": 3}, "upscale factor"),
        ({"upscale_factor": 1}, "upscale factor"),
        ({"ndim": 3, "adjacent_slices": 3}, "does not use adjacent slices"),
        ({"ndim": 2, "adjacent_slices": 4}, "odd"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network("light_sr", **settings)


def test_the_wide_one_is_the_network_it_is_compared_with() -> None:
    """16 blocks of 64 maps in 2D: EDSR's baseline, with two upscaling steps of 2."""
    network = build_network(
        "light_sr", ndim=2, upscale_factor=4, features=64, blocks=16
    )
    trunk = sum(p.numel() for p in network.blocks.parameters())
    assert trunk == 16 * 2 * (9 * 64 + 1) * 64
