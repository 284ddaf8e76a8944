"""Mixed-scale dense network: few parameters, no pooling, densely connected layers.

References
----------
.. [1] Pelt, Sethian. A mixed-scale dense convolutional neural network for image
   analysis. PNAS 115, 254-259 (2018). doi:10.1073/pnas.1715832114
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.mixed_scale import (
    MixedScale,
    MixedScaleConfig,
    hidden_parameters,
)
from napari_geosr.networks.layers.scores import ScoresConfig, most_likely_label
from napari_geosr.networks.spec import NetworkSpec


class NetworkConfig(MixedScaleConfig, ScoresConfig):
    """Settings of an MSD-net."""

    layers_field: ClassVar[str] = "depth"
    width_field: ClassVar[str] = "width"
    training_defaults: ClassVar[AnyDict] = {
        "depth": 12,
        "width": 8,
        "dilations": (1, 2, 4, 8),
    }


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    c = config.adjacent_slices + config.extra_channels
    head = config.out_channels * (c + config.width * config.depth + 1)
    return hidden_parameters(config, config.ndim, c) + head


class MSDNet(MixedScale):
    """Mixed-scale dense network [1]_ with zero padding.

    The output is a pointwise convolution over all maps, including the input. If it has
    several channels, they are label scores; see `napari_geosr.networks.layers.scores`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        n, n_out = config.ndim, config.out_channels
        c_in = config.adjacent_slices + config.extra_channels
        super().__init__(config, n, c_in, n_out)
        self.config = config
        # Initially zero: an untrained residual network returns its input. Training runs
        # start with better weights (`set_last_layer`).
        head = (self.n_maps,) if n_out == 1 else (n_out, self.n_maps)
        self.final_weight = nn.Parameter(torch.zeros(head))
        self.final_bias = nn.Parameter(torch.zeros(n_out))
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(sum(self.dilations),) * n,
            stride=(1,) * n,
            upscale_factor=(1,) * n,
            adjacent_slices=config.adjacent_slices,
            minimum_size=(1,) * n,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, [Z,] Y, X)`` to ``(N, 1, [Z,] Y, X)``.

        If the output is labels, their scores ``(N, n, [Z,] Y, X)`` are returned during
        training.
        """
        y = self.mixed(x, self.final_weight.view(self.config.out_channels, -1))
        bias = self.final_bias.to(y.dtype)
        if self.config.out_channels > 1:
            scores = y + bias.view(-1, *[1] * self.config.ndim)
            return scores if self.training else most_likely_label(scores)
        y = y + bias
        if self.config.residual:
            centre = self.config.adjacent_slices // 2
            y = y + x[:, centre : centre + 1]
        return y

    def feature_maps(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input and maps ``(N, maps, [Z,] Y, X)`` before the last layer."""
        return self.mixed(x, torch.eye(self.n_maps, dtype=x.dtype, device=x.device))

    def set_last_layer(self, weights: torch.Tensor, bias: torch.Tensor) -> None:
        """Set the last layer to ``weights @ maps + bias``, for one output channel."""
        weights = weights.to(self.final_weight)
        if self.config.residual:
            weights = weights.clone()
            weights[self.config.adjacent_slices // 2] -= 1
        with torch.no_grad():
            self.final_weight.copy_(weights)
            self.final_bias.fill_(bias)


def build(config: NetworkConfig) -> MSDNet:
    """Build an MSD-net with initial weights."""
    return MSDNet(config)
