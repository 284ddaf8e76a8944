from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks import build_network
from napari_geosr.networks.rcan import ChannelAttention, NetworkConfig, local_mean


@pytest.mark.parametrize("shape", [(9, 11), (5, 7, 6), (1, 2, 1)])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_means_are_those_of_a_window(shape: tuple[int, ...], window: int) -> None:
    x = torch.randn(1, 1, *shape, dtype=torch.float64)
    expected = ndimage.uniform_filter(x[0, 0].numpy(), window, mode="nearest")
    assert np.allclose(local_mean(x, window)[0, 0].numpy(), expected)


def test_attention_only_weakens() -> None:
    """Maps are multiplied by weights between 0 and 1, one for each map and position."""
    torch.manual_seed(0)
    attention = ChannelAttention(NetworkConfig.create(ndim=2, features=8))
    x = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        weights = attention(x) / x
    assert float(weights.min()) > 0
    assert float(weights.max()) < 1
    assert float(weights.std(dim=1).mean()) > 0.01


def test_the_published_size_is_the_published_network() -> None:
    """10 groups of 20 blocks with 64 maps: about 15 million weights at factor 2."""
    network = build_network(
        "rcan",
        ndim=2,
        upscale_factor=2,
        features=64,
        groups=10,
        blocks=20,
        reduction=16,
    )
    count = sum(p.numel() for p in network.groups.parameters())
    block = 2 * (9 * 64 + 1) * 64 + (64 + 1) * 4 + (4 + 1) * 64
    assert count == 10 * (20 * block + (9 * 64 + 1) * 64)


def test_even_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="odd number of voxels"):
        build_network("rcan", window=4)
