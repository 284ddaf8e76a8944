from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_geosr.networks import build_network
from napari_geosr.networks.fsrcnn import last_size
from napari_geosr.networks.layers.upsampling import pixel_shuffle


def test_its_numbers_are_those_of_the_paper() -> None:
    """FSRCNN(56, 12, 4): 5²·56 + 56·12 + 4·3²·12² + 12·56 weights up to the last."""
    network = build_network("fsrcnn", ndim=2, upscale_factor=2)
    parts = (network.head, network.shrink, network.chain, network.expand)
    weights = sum(p.numel() for part in parts for p in part.parameters() if p.ndim == 4)
    assert weights == 25 * 56 + 56 * 12 + 4 * 9 * 12 * 12 + 12 * 56


@pytest.mark.parametrize("factor", [2, 4])
def test_a_transposed_convolution_is_a_convolution_and_a_shuffle(factor: int) -> None:
    """For 9 × 9 fine pixels, the last convolution contains all weights."""
    size = last_size(factor)
    kernel = torch.randn(9, 9, dtype=torch.float64)
    x = torch.randn(1, 1, 7, 8, dtype=torch.float64)
    expected = functional.conv_transpose2d(
        x, kernel[None, None], stride=factor, padding=4, output_padding=factor - 1
    )
    half = size // 2
    weights = torch.zeros(factor**2, 1, size, size, dtype=torch.float64)
    for y in range(factor):
        for x_ in range(factor):
            for i in range(size):
                for j in range(size):
                    # Fine pixel y of coarse pixel 0, from the coarse pixel i - half.
                    a, b = y - factor * (i - half) + 4, x_ - factor * (j - half) + 4
                    if 0 <= a < 9 and 0 <= b < 9:
                        weights[y * factor + x_, 0, i, j] = kernel[a, b]
    found = pixel_shuffle(functional.conv2d(x, weights, padding=half), factor)
    torch.testing.assert_close(found, expected)
    assert int((weights != 0).sum()) == 81
