"""Mixed-scale dense super-resolution: a dense trunk on the coarse grid, then a shuffle.

The hidden layers of an MSD-net [1]_ see far with few parameters; all their maps are
mixed into a few, from which sub-voxels come as in the other networks that make voxels
finer. Methods that interpolate first [2]_ work on 8ⁿ times as many voxels.

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
from napari_geosr.networks._mixed_scale import (
    MixedScale,
    MixedScaleConfig,
    hidden_parameters,
)
from napari_geosr.networks._upsampling import (
    UpscalingConfig,
    UpscalingNetwork,
    doublings,
    end_parameters,
    plain_layer,
)


class NetworkConfig(MixedScaleConfig, UpscalingConfig):
    """Shape of a mixed-scale dense super-resolution network."""

    layers_field: ClassVar[str] = "depth"
    width_field: ClassVar[str] = "width"
    #: Where layers reach farther than the edge of the patches, together, the network
    #: learns what stands outside of them: with (1, 2, 3, 4) and patches of 12³ it was
    #: worse than interpolation.
    training_defaults: ClassVar[AnyDict] = {"dilations": (1, 2)}

    depth: int = Field(8, ge=1, le=400)
    """Number of layers of the trunk."""
    width: int = Field(8, ge=1, le=64)
    """Maps per layer."""
    dilations: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    """Dilations of the layers, repeated from the start; their sum is what tiles of
    volumes must read around them."""
    features: int = Field(16, ge=1, le=256)
    """Maps that all of them are mixed into."""


def parameter_count(config: NetworkConfig) -> int:
    """Number of parameters in closed form."""
    n, c, f, s = (
        config.ndim,
        config.adjacent_slices,
        config.features,
        config.upscale_factor,
    )
    mix = (c + config.width * config.depth + 1) * f
    return hidden_parameters(config, n, c) + mix + end_parameters(n, f, s, doublings(s))


class MSDNetSR(UpscalingNetwork):
    """Mixed-scale dense trunk, sub-voxel upsampling, cubic global skip."""

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
        """Of the hidden maps while gradients are wanted: see `MixedScale`."""
        return self.dense.training_dtype

    @training_dtype.setter
    def training_dtype(self, value: torch.dtype | None) -> None:
        self.dense.training_dtype = value

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        bias = self.mix_bias.view(-1, *[1] * (x.ndim - 2))
        return self.dense.mixed(x, self.mix_weight) + bias


def build(config: NetworkConfig) -> MSDNetSR:
    """Build a mixed-scale dense super-resolution network with fresh weights."""
    return MSDNetSR(config)
