"""Super-resolution network with bottleneck blocks.

Nearly all weights of a lightweight network belong to convolutions of 3ⁿ voxels; the
number of these weights grows with the square of the number of maps. Here these
convolutions work on few maps: a pointwise convolution before them reduces the number of
maps, and another one after them increases it again [1]_. With a similar number
of weights (in 3D), three times as many maps as in ``light_sr`` are passed from block to
block and to the upsampling.

References
----------
.. [1] He et al. Deep residual learning for image recognition. CVPR (2016), figure 5.
   doi:10.1109/CVPR.2016.90
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.networks.layers.upsampling import (
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    plain_layer,
    pointwise_layer,
)


class NetworkConfig(UpscalingConfig):
    """Settings of a super-resolution network with bottlenecks."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(48, ge=1, le=256)
    """Number of feature maps passed from block to block."""
    inner: int = Field(16, ge=1, le=256)
    """Number of feature maps within a block, for the convolutions of 3ⁿ voxels."""
    blocks: int = Field(8, ge=1, le=64)
    """Number of residual blocks, each with one convolution of 3ⁿ voxels."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, s, f, i = config.ndim, config.upscale_factor, config.features, config.inner
    k, halvings = 3**n, count_doublings(s)
    head = (k * config.adjacent_slices + 1) * f
    block = (f + 1) * i + (k * i + 1) * i + (i + 1) * f
    last = (s // 2**halvings) ** n
    end = (f + 1) * (halvings * f * 2**n + last)
    return int(head + config.blocks * block + end)


class Bottleneck(nn.Module):
    """``x + spread(relu(conv(relu(mix(x)))))``, starting as the identity."""

    def __init__(self, ndim: int, features: int, inner: int) -> None:
        super().__init__()
        point, conv = pointwise_layer(ndim), plain_layer(ndim)
        self.mix = point(features, inner)
        self.conv = conv(inner, inner)
        # The names of these three layers must not change: they are part of the keys of
        # stored weights.
        self.spread = point(inner, features)
        for parameter in self.spread.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        maps = self.conv(functional.relu(self.mix(x)))
        out: torch.Tensor = x + self.spread(functional.relu(maps))
        return out


class BottleneckSR(UpscalingNetwork):
    """Bottlenecks on the coarse grid, pointwise sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        n, f = config.ndim, config.features
        self.head = plain_layer(n)(config.adjacent_slices, f)
        self.blocks = nn.ModuleList(
            Bottleneck(n, f, config.inner) for _ in range(config.blocks)
        )
        self._end(pointwise_layer(n), f, 1 + config.blocks, end=0)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps: torch.Tensor = self.head(x)
        for block in self.blocks:
            maps = block(maps)
        return maps


def build(config: NetworkConfig) -> BottleneckSR:
    """Build a super-resolution network with bottlenecks and initial weights."""
    return BottleneckSR(config)
