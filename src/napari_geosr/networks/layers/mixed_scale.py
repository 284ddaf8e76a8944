"""The hidden layers of mixed-scale dense networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional

from napari_geosr.core.config import Config
from napari_geosr.networks.layers.dense import DenseStack, dense_maps


class MixedScaleConfig(Config):
    """Depth, width and dilations of the hidden layers."""

    depth: int = Field(30, ge=1, le=400)
    """Number of layers."""
    width: int = Field(1, ge=1, le=64)
    """Number of feature maps per layer."""
    dilations: tuple[int, ...] = Field((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), min_length=1)
    """Dilations of the layers, repeated from the start."""

    @field_validator("dilations")
    @classmethod
    def _check_dilations(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("every dilation must be at least 1")
        return value


def hidden_parameters(config: MixedScaleConfig, ndim: int, maps_in: int) -> int:
    """Return the number of parameters of the hidden layers, from a closed formula."""
    k, w, d = 3**ndim, config.width, config.depth
    return int(k * w * (d * maps_in + w * d * (d - 1) // 2) + w * d)


class MixedScale(nn.Module):
    """``z_i = relu(conv(z_0 … z_{i-1}, dilation s_i) + b_i)``, with zero padding.

    Parameters
    ----------
    ndim, maps_in : int
        Number of spatial axes, and number of maps of the input ``z_0``.
    maps_out : int
        Number of outputs computed from all maps; the more outputs, the smaller the
        initial weights.

    Attributes
    ----------
    training_dtype : torch.dtype or None
        Type of the hidden maps while gradients are enabled; None for the type of the
        input. ``torch.bfloat16`` halves memory and time on processors that support it.
    between_strips : callable or None
        Called every few milliseconds during inference; may raise to stop it.
    """

    def __init__(
        self, config: MixedScaleConfig, ndim: int, maps_in: int, maps_out: int
    ) -> None:
        super().__init__()
        w, depth = config.width, config.depth
        kernel = (3,) * ndim
        self.dilations = tuple(
            config.dilations[i % len(config.dilations)] for i in range(depth)
        )
        self.training_dtype: torch.dtype | None = None
        self.between_strips: Callable[[], None] | None = None
        sd = math.sqrt(2 / (3**ndim * (maps_in + w * (depth - 1)) + maps_out))
        self.weights = nn.ParameterList(
            nn.Parameter(sd * torch.randn(w, maps_in + w * i, *kernel))
            for i in range(depth)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(w)) for _ in range(depth)
        )
        #: Number of maps of the input and of all layers together.
        self.n_maps = maps_in + w * depth

    def mixed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return weighted sums ``(N, n, …)`` of all maps of `x` ``(N, C, …)``.

        Parameters
        ----------
        weight : Tensor of shape (n, maps)
            For each output, the weights of the input and of the maps of all layers.
        """
        if torch.is_grad_enabled():
            return self._train(x, weight)
        return self._infer(x, weight)

    def _train(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        pairs = [
            p for both in zip(self.weights, self.biases, strict=True) for p in both
        ]
        maps = DenseStack.apply(  # type: ignore[no-untyped-call]
            x.to(self.training_dtype or x.dtype), self.dilations, *pairs
        )
        y = weight.to(maps.dtype) @ maps.flatten(1)
        # In `maps` and `y`, the axis of the feature maps comes before the batch axis.
        out: torch.Tensor = y.view(len(weight), x.shape[0], *x.shape[2:]).to(x.dtype)
        return out.transpose(0, 1)

    def _infer(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        out = x.new_empty((x.shape[0], len(weight), *x.shape[2:]))
        rows = weight if len(weight) > 1 else weight[0]
        for sample, place in zip(x, out, strict=True):
            maps = dense_maps(
                sample,
                self.dilations,
                list(self.weights),
                list(self.biases),
                self.between_strips,
            )
            place.copy_((rows @ maps.flatten(1)).view_as(place))
        return out


@contextmanager
def plain_layers(network: nn.Module) -> Iterator[None]:
    """Replace mixed-scale layers with plain convolutions in this context, for export.

    Otherwise they compute all layers in one buffer, strip by strip, which exporters
    cannot trace.
    """
    mixed = [module for module in network.modules() if isinstance(module, MixedScale)]
    for module in mixed:
        module.mixed = MethodType(_plain, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in mixed:
            del module.mixed


def _plain(module: MixedScale, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    n_axes = x.ndim - 2
    convolve: Callable[..., torch.Tensor]
    convolve = functional.conv3d if n_axes == 3 else functional.conv2d
    maps = x
    for d, w, b in zip(module.dilations, module.weights, module.biases, strict=True):
        new = torch.relu(convolve(maps, w, b, padding=d, dilation=d))
        maps = torch.cat([maps, new], dim=1)
    y: torch.Tensor = convolve(maps, weight.reshape(*weight.shape, *(1,) * n_axes))
    return y
