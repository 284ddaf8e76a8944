"""Super-resolution with few weights: most layers process few feature maps.

The network of [1]_ extracts features with a convolution of 5ⁿ voxels, reduces the
number of maps with a pointwise convolution, processes the maps with a chain of small
convolutions and increases their number again. Its last layer, a transposed convolution
of 9ⁿ fine voxels, is replaced with its equivalent [2]_: a convolution of the same
extent on the coarse grid, followed by a pixel shuffle. As in all super-resolution
networks here, the cubically interpolated input is added.

References
----------
.. [1] Dong et al. Accelerating the super-resolution convolutional neural network. ECCV
   (2016). doi:10.1007/978-3-319-46475-6_25
.. [2] Shi et al. Is the deconvolution layer the same as a convolutional layer? (2016).
   arXiv:1609.07009
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_geosr.networks.layers.upsampling import (
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    pointwise_layer,
    sized_layer,
)

#: Kernel size of the first convolution.
_HEAD = 5


class NetworkConfig(UpscalingConfig):
    """Settings of the network; the defaults are those of the paper."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(56, ge=1, le=256)
    """Number of feature maps after the first layer and before the last (*d*)."""
    inner: int = Field(12, ge=1, le=256)
    """Number of feature maps within the chain of convolutions (*s*)."""
    blocks: int = Field(4, ge=1, le=32)
    """Number of convolutions of 3ⁿ voxels in the chain (*m*)."""


def last_size(factor: int) -> int:
    """Return the kernel size, in coarse voxels, that is equivalent to 9 fine voxels."""
    return 5 if factor == 2 else 3


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, s, f, i = config.ndim, config.upscale_factor, config.features, config.inner
    halvings = count_doublings(s)
    head = _HEAD**n * config.adjacent_slices * f + 2 * f
    chain = config.blocks * ((3**n * i + 1) * i + i)
    ends = (f + 1) * i + i + (i + 1) * f
    last = last_size(s) ** n * f + 1
    return int(
        head + chain + ends + last * (halvings * f * 2**n + (s // 2**halvings) ** n)
    )


class FSRCNN(UpscalingNetwork):
    """Hourglass of layers on the coarse grid, upsampling, and a skip connection.

    The skip connection interpolates the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        n, f, i, s = config.ndim, config.features, config.inner, config.upscale_factor
        wide, narrow = sized_layer(n, _HEAD), sized_layer(n, 3)
        point = pointwise_layer(n)
        self.head = nn.Sequential(wide(config.adjacent_slices, f), nn.PReLU(f))
        self.shrink = nn.Sequential(point(f, i), nn.PReLU(i))
        self.chain = nn.Sequential(
            *(
                layer
                for _ in range(config.blocks)
                for layer in (narrow(i, i), nn.PReLU(i))
            )
        )
        # The ReLU before the upsampling layers replaces the paper's last PReLU.
        self.expand = point(i, f)
        for layer in self.modules():
            # Preserve the variance through PReLU (initial slope: 0.25).
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight, a=0.25)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        size = last_size(s)
        self._end(
            sized_layer(n, size),
            f,
            _HEAD // 2 + config.blocks,
            end=size // 2 if s == 2 else None,
        )

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps: torch.Tensor = self.expand(self.chain(self.shrink(self.head(x))))
        return maps


def build(config: NetworkConfig) -> FSRCNN:
    """Build a network with initial weights."""
    return FSRCNN(config)
