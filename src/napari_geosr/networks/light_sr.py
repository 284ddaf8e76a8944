"""Lightweight super-resolution network: residual blocks on the coarse grid.

It has no normalisation layers, so that tiles and whole volumes give the same values.
With many features and blocks it is the network of [1]_, extended to other factors and
to volumes.

References
----------
.. [1] Lim et al. Enhanced deep residual networks for single image super-resolution.
   CVPR workshops (2017). doi:10.1109/CVPRW.2017.151
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.networks.layers.parts import (
    Part,
    convolved_part,
    cut,
    widened,
    within,
)
from napari_geosr.networks.layers.upsampling import (
    MakeLayer,
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    end_parameters,
    plain_layer,
)


class NetworkConfig(UpscalingConfig):
    """Settings of a lightweight super-resolution network."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(16, ge=1, le=256)
    """Number of feature maps of the trunk."""
    blocks: int = Field(4, ge=1, le=32)
    """Number of residual blocks of two convolutions."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, k, f, s = config.ndim, 3**config.ndim, config.features, config.upscale_factor
    head = (k * config.adjacent_slices + 1) * f
    trunk = 2 * config.blocks * (k * f + 1) * f
    return head + trunk + end_parameters(n, f, s, count_doublings(s))


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, initially the identity."""

    def __init__(self, make: MakeLayer, features: int) -> None:
        super().__init__()
        self.first = make(features, features)
        self.second = make(features, features)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        out: torch.Tensor = x + self.second(functional.relu(self.first(x)))
        return out


class LightSR(UpscalingNetwork):
    """Residual trunk on the coarse grid, sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        make, f = plain_layer(config.ndim), config.features
        self.head = make(config.adjacent_slices, f)
        self.blocks = nn.ModuleList(
            ResidualBlock(make, f) for _ in range(config.blocks)
        )
        self._end(make, f, 1 + 2 * config.blocks)

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps: torch.Tensor = self.head(x)
        for block in self.blocks:
            maps = block(maps)
        return maps

    def trunk_part(self, x: torch.Tensor, part: Part) -> torch.Tensor:
        """Return part of the trunk's output; layers compute only what it depends on."""
        shape = x.shape[2:]
        left = 2 * len(self.blocks)
        have = widened(part, left, shape)
        maps = convolved_part(self.head, x, tuple(slice(0, n) for n in shape), have)
        if x.ndim == 5 and x.device.type == "cpu":  # layout used by oneDNN
            maps = maps.contiguous(memory_format=torch.channels_last_3d)
        for block in self.blocks:
            assert isinstance(block, ResidualBlock)
            self.pause()
            need = widened(part, left - 1, shape)
            between = convolved_part(block.first, maps, have, need)
            self.pause()
            left -= 2
            rest = widened(part, left, shape)
            added = convolved_part(block.second, functional.relu_(between), need, rest)
            maps, have = added.add_(cut(maps, within(rest, have))), rest
        return maps


def build(config: NetworkConfig) -> LightSR:
    """Build a lightweight super-resolution network with initial weights."""
    return LightSR(config)
