"""Super-resolution by residual groups with channel attention.

This is a smaller version of the network of [1]_: groups of residual blocks, with a skip
around each group and one around all groups. Each block ends with channel attention: its
maps are weighted by numbers between 0 and 1, computed from the means of the maps.

In the paper, these are means over the whole image, so that results would depend on the
tile. Here they are means over a window around every voxel, in training and inference
[2]_: tiles give the same values as the whole volume.

References
----------
.. [1] Zhang et al. Image super-resolution using very deep residual channel attention
   networks. ECCV (2018). doi:10.1007/978-3-030-01234-2_18
.. [2] Chu et al. Improving image restoration by revisiting global information
   aggregation. ECCV (2022). doi:10.1007/978-3-031-20071-7_4
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from napari_geosr.networks.layers.upsampling import (
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    end_parameters,
    plain_layer,
    pointwise_layer,
)


class NetworkConfig(UpscalingConfig):
    """Settings of the network; the paper has 10 groups of 20 blocks and 64 maps."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(16, ge=1, le=256)
    """Number of feature maps of the trunk."""
    groups: int = Field(2, ge=1, le=32)
    """Number of residual groups."""
    blocks: int = Field(3, ge=1, le=32)
    """Number of residual blocks per group, each with two convolutions and attention."""
    reduction: int = Field(4, ge=1, le=64)
    """Factor by which the number of maps is reduced within each attention block."""
    window: int = Field(5, ge=1, le=65)
    """Edge length, in voxels, of the window over which maps are averaged; odd."""

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.window % 2 == 0:
            raise ValueError("the window must be an odd number of voxels")
        return self

    @property
    def squeezed(self) -> int:
        """Number of maps between the two layers of each attention block."""
        return max(1, self.features // self.reduction)


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, f, s, q = config.ndim, config.features, config.upscale_factor, config.squeezed
    k = 3**n
    conv = (k * f + 1) * f
    attention = (f + 1) * q + (q + 1) * f
    group = config.blocks * (2 * conv + attention) + conv
    head = (k * config.adjacent_slices + 1) * f
    return int(
        head
        + config.groups * group
        + conv
        + end_parameters(n, f, s, count_doublings(s))
    )


def local_mean(x: torch.Tensor, window: int) -> torch.Tensor:
    """Return the means over a window around every voxel of ``(N, C, [Z,] Y, X)``.

    Edge values are repeated beyond the border.
    """
    n = x.ndim - 2
    pool = functional.avg_pool3d if n == 3 else functional.avg_pool2d
    x = functional.pad(x, (window // 2,) * (2 * n), mode="replicate")
    for axis in range(n):  # separable: 3 · window instead of window³ additions
        size = [window if i == axis else 1 for i in range(n)]
        x = pool(x, size, stride=1)
    return x


class ChannelAttention(nn.Module):
    """Multiplies maps by weights between 0 and 1, computed from their local means."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        point = pointwise_layer(config.ndim)
        self.window = config.window
        self.squeeze = point(config.features, config.squeezed)
        self.excite = point(config.squeezed, config.features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply the maps by their weights."""
        inner = functional.relu(self.squeeze(local_mean(x, self.window)))
        return x * torch.sigmoid(self.excite(inner))


class AttentionBlock(nn.Module):
    """``x + attention(conv(relu(conv(x))))``, initially the identity."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        make, f = plain_layer(config.ndim), config.features
        self.first, self.second = make(f, f), make(f, f)
        self.attention = ChannelAttention(config)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        maps = self.second(functional.relu(self.first(x)))
        out: torch.Tensor = x + self.attention(maps)
        return out


class ResidualGroup(nn.Module):
    """Blocks, a convolution, and a skip around them."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(AttentionBlock(config) for _ in range(config.blocks))
        )
        self.last = plain_layer(config.ndim)(config.features, config.features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the group."""
        out: torch.Tensor = x + self.last(self.blocks(x))
        return out


class RCAN(UpscalingNetwork):
    """Residual groups on the coarse grid, sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        make, f = plain_layer(config.ndim), config.features
        self.head = make(config.adjacent_slices, f)
        self.groups = nn.Sequential(
            *(ResidualGroup(config) for _ in range(config.groups))
        )
        self.last = make(f, f)
        block = 2 + config.window // 2
        self._end(make, f, 2 + config.groups * (config.blocks * block + 1))

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps = self.head(x)
        out: torch.Tensor = maps + self.last(self.groups(maps))
        return out


def build(config: NetworkConfig) -> RCAN:
    """Build a network with initial weights."""
    return RCAN(config)
