"""Mixed-scale dense network: few parameters, no pooling, every layer sees all before.

References
----------
.. [1] Pelt, Sethian. A mixed-scale dense convolutional neural network for image
   analysis. PNAS 115, 254-259 (2018). doi:10.1073/pnas.1715832114
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import nn

from napari_geosr.networks._dense import DenseStack, dense_maps
from napari_geosr.networks._scores import ScoresConfig, likeliest
from napari_geosr.networks.spec import NetworkSpec


class NetworkConfig(ScoresConfig):
    """Shape of an MSD-net."""

    layers_field: ClassVar[str] = "depth"
    width_field: ClassVar[str] = "width"
    training_defaults: ClassVar[dict[str, Any]] = {
        "depth": 12,
        "width": 8,
        "dilations": (1, 2, 4, 8),
    }

    depth: int = Field(30, ge=1, le=400)
    """Number of layers."""
    width: int = Field(1, ge=1, le=64)
    """Maps per layer."""
    dilations: tuple[int, ...] = Field((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), min_length=1)
    """Dilations of the layers, repeated from the start."""

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if min(self.dilations) < 1:
            raise ValueError("every dilation must be at least 1")
        return self


def parameter_count(config: NetworkConfig) -> int:
    """Number of parameters in closed form."""
    k, w, d, c = 3**config.ndim, config.width, config.depth, config.adjacent_slices
    head = config.out_channels * (c + w * d + 1)
    return k * w * (d * c + w * d * (d - 1) // 2) + w * d + head


class MSDNet(nn.Module):
    """Mixed-scale dense network [1]_ with zero padding.

    ``z_i = relu(conv(z_0 … z_{i-1}, dilation s_i) + b_i)``; the output is a 1 × 1
    convolution over all maps, the input included. With several output channels they are
    scores of labels: see `napari_geosr.networks._scores`.

    Attributes
    ----------
    training_dtype : torch.dtype or None
        Of the hidden maps while gradients are wanted; None: that of the input.
        ``torch.bfloat16`` halves memory and time on processors that have it.
    between_strips : callable or None
        Called every few milliseconds during inference; may raise to end it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c_in, w, depth = config.adjacent_slices, config.width, config.depth
        kernel = (3,) * config.ndim
        self.dilations = tuple(
            config.dilations[i % len(config.dilations)] for i in range(depth)
        )
        self.training_dtype: torch.dtype | None = None
        self.between_strips: Callable[[], None] | None = None
        n_out = config.out_channels
        sd = math.sqrt(2 / (3**config.ndim * (c_in + w * (depth - 1)) + n_out))
        self.weights = nn.ParameterList(
            nn.Parameter(sd * torch.randn(w, c_in + w * i, *kernel))
            for i in range(depth)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(w)) for _ in range(depth)
        )
        # Zero at first: a fresh residual network returns its input.
        n_maps = c_in + w * depth
        head = (n_maps,) if n_out == 1 else (n_out, n_maps)
        self.final_weight = nn.Parameter(torch.zeros(head))
        self.final_bias = nn.Parameter(torch.zeros(n_out))
        axes = "ZYX"[-config.ndim :]
        self.spec = NetworkSpec(
            axes=axes,
            halo=(sum(self.dilations),) * config.ndim,
            stride=(1,) * config.ndim,
            upscale_factor=(1,) * config.ndim,
            adjacent_slices=c_in,
            minimum_size=(1,) * config.ndim,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, [Z,] Y, X)`` to ``(N, 1, [Z,] Y, X)``.

        While it is trained for labels: to their scores ``(N, n, [Z,] Y, X)``.
        """
        y = self._train(x) if torch.is_grad_enabled() else self._infer(x)
        bias = self.final_bias.to(y.dtype)
        if self.config.out_channels > 1:
            scores = y + bias.view(-1, *[1] * self.config.ndim)
            return scores if self.training else likeliest(scores)
        y = y + bias
        if self.config.residual:
            centre = self.config.adjacent_slices // 2
            y = y + x[:, centre : centre + 1]
        return y

    def _train(self, x: torch.Tensor) -> torch.Tensor:
        pairs = [
            p for both in zip(self.weights, self.biases, strict=True) for p in both
        ]
        maps = DenseStack.apply(  # type: ignore[no-untyped-call]
            x.to(self.training_dtype or x.dtype), self.dilations, *pairs
        )
        n_out = self.config.out_channels
        y = self.final_weight.to(maps.dtype).view(n_out, -1) @ maps.flatten(1)
        # Maps come before the samples of the batch.
        out: torch.Tensor = y.view(n_out, x.shape[0], *x.shape[2:]).to(x.dtype)
        return out.transpose(0, 1)

    def _infer(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_empty((x.shape[0], self.config.out_channels, *x.shape[2:]))
        for sample, place in zip(x, out, strict=True):
            maps = dense_maps(
                sample,
                self.dilations,
                list(self.weights),
                list(self.biases),
                self.between_strips,
            )
            place.copy_((self.final_weight @ maps.flatten(1)).view_as(place))
        return out


def build(config: NetworkConfig) -> MSDNet:
    """Build an MSD-net with fresh weights."""
    return MSDNet(config)
