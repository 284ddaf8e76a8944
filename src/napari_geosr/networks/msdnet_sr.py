"""Mixed-scale dense super-resolution: dense trunk on the coarse grid, then upsampling.

The hidden layers of an MSD-net [1]_ have a large receptive field with few parameters.
All their maps are combined into a few maps, from which sub-voxels are computed as in
the other super-resolution networks. Methods that interpolate first [2]_ compute all
layers on the fine grid, which for a factor s has sⁿ times as many voxels.

References
----------
.. [1] Pelt, Sethian. A mixed-scale dense convolutional neural network for image
   analysis. PNAS 115, 254-259 (2018). doi:10.1073/pnas.1715832114
.. [2] Hendriksen et al. On-the-fly machine learning for improving image resolution in
   tomography. Appl. Sci. 9, 2445 (2019). doi:10.3390/app9122445
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.mixed_scale import (
    MixedScale,
    MixedScaleConfig,
    hidden_parameters,
)
from napari_geosr.networks.layers.upsampling import (
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    end_parameters,
    plain_layer,
)


class NetworkConfig(MixedScaleConfig, UpscalingConfig):
    """Settings of a mixed-scale dense super-resolution network."""

    layers_field: ClassVar[str] = "depth"
    width_field: ClassVar[str] = "width"
    #: If the receptive field exceeds the patches, the network adapts to the padding
    #: outside them: with dilations (1, 2, 3, 4) and patches of 12³ voxels, the network
    #: was worse than interpolation.
    training_defaults: ClassVar[AnyDict] = {"dilations": (1, 2)}

    depth: int = Field(8, ge=1, le=400)
    """Number of layers of the trunk."""
    width: int = Field(8, ge=1, le=64)
    """Number of feature maps per layer."""
    dilations: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    """Dilations of the layers, repeated from the start; their sum determines the halo
    of tiles."""
    features: int = Field(16, ge=1, le=256)
    """Number of feature maps into which the maps of all layers are combined."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, c, f, s = (
        config.ndim,
        config.adjacent_slices,
        config.features,
        config.upscale_factor,
    )
    mix = (c + config.width * config.depth + 1) * f
    return (
        hidden_parameters(config, n, c)
        + mix
        + end_parameters(n, f, s, count_doublings(s))
    )


class MSDNetSR(UpscalingNetwork):
    """Mixed-scale dense trunk, sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        f = config.features
        self.dense = MixedScale(config, config.ndim, config.adjacent_slices, f)
        n_maps = self.dense.n_maps
        self.mix_weight = nn.Parameter(torch.randn(f, n_maps) * math.sqrt(2 / n_maps))
        self.mix_bias = nn.Parameter(torch.zeros(f))
        self._end(plain_layer(config.ndim), f, sum(self.dense.dilations))

    @property
    def training_dtype(self) -> torch.dtype | None:
        """Type of the hidden maps while gradients are enabled; see `MixedScale`."""
        return self.dense.training_dtype

    @training_dtype.setter
    def training_dtype(self, value: torch.dtype | None) -> None:
        self.dense.training_dtype = value

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        bias = self.mix_bias.view(-1, *[1] * (x.ndim - 2))
        return self.dense.mixed(x, self.mix_weight) + bias


def build(config: NetworkConfig) -> MSDNetSR:
    """Build a mixed-scale dense super-resolution network with initial weights."""
    return MSDNetSR(config)
