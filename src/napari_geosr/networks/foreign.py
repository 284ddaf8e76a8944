"""Third-party networks with the interface of napari-geosr's own networks.

They are built from settings and tensors alone (`foreign_formats`). The wrapper adapts
images to them: grey values are given to all channels and the outputs are averaged,
images of unsupported size are padded, and if the network depends on the whole image
(norms, attention), large images are processed in overlapping windows that are blended.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.types import AnyDict
from napari_geosr.networks.foreign_formats import FORMATS
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor

#: A pointwise operation: its name, followed by its parameters.
Pointwise = tuple[Any, ...]


def _linear(x: Tensor, gain: float, offset: float) -> Tensor:
    return x * gain + offset


def _above(x: Tensor, threshold: float) -> Tensor:
    return (x > threshold).to(x.dtype)


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=1)


_POINTWISE: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "clip": (2, torch.clamp),
    "linear": (2, _linear),
    "sigmoid": (0, torch.sigmoid),
    "softmax": (0, _softmax),
    "above": (1, _above),
}


class NetworkConfig(Config):
    """Description of a third-party network, without its weights."""

    format: str
    """Name of the module of `foreign_formats` that builds the network."""
    settings: AnyDict = Field(default_factory=dict)
    """Settings of the format: the architecture and its shape, as plain values."""
    ndim: Literal[2, 3] = 2
    """Number of spatial axes: planes (2) or volumes (3)."""
    in_channels: int = Field(1, ge=1, le=4)
    """Number of input channels; each of them receives the grey values."""
    out_channels: int = Field(1, ge=1, le=1024)
    """Number of output channels."""
    output_channel: int | None = Field(None, ge=0)
    """Output channel to use as the result; None: the mean of all."""
    upscale_factor: int = Field(1, ge=1, le=16)
    """Output voxels per input voxel along every axis."""
    multiple_of: tuple[int, ...] = ()
    """Numbers by which the sizes along the axes must be divisible; 1 by default."""
    minimum_size: tuple[int, ...] = ()
    """Minimum sizes along the axes; 1 by default."""
    halo: tuple[int, ...] = ()
    """Measured radius of the receptive field along the axes, in input voxels."""
    stride: tuple[int, ...] = ()
    """Measured stride along the axes; 1 by default."""
    local: bool = True
    """Whether each output depends only on its halo; if not, `window` is required."""
    window: tuple[int, ...] = ()
    """If the network is not local: larger images are cut into windows of this size."""
    overlap: int = Field(0, ge=0)
    """Overlap of neighbouring windows in voxels, over which they are blended."""
    before: tuple[Pointwise, ...] = ()
    """Pointwise operations before the network: ``clip low high``, ``sigmoid``,
    ``linear gain offset``, ``above threshold``."""
    after: tuple[Pointwise, ...] = ()
    """Operations after the network: those allowed before it, and also ``softmax`` over
    its channels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("multiple_of", "minimum_size", "halo", "stride", "window"):
            if len(getattr(self, name)) not in (0, self.ndim):
                raise ValueError(f"{name} needs one number for each of the axes")
        for numbers in (self.multiple_of, self.minimum_size, self.stride, self.window):
            if any(n < 1 for n in numbers):
                raise ValueError("sizes and strides must be at least 1")
        if not self.local and not self.window:
            raise ValueError("a network that uses the whole image needs a window")
        if any(w <= 2 * self.overlap for w in self.window):
            raise ValueError(
                "windows must be more than twice as large as their overlap"
            )
        if (self.output_channel or 0) >= self.out_channels:
            raise ValueError("there is no such output channel")
        for operation in (*self.before, *self.after):
            name, *values = operation or ("",)
            known = name in _POINTWISE and len(values) == _POINTWISE[name][0]
            if not known or not all(isinstance(n, int | float) for n in values):
                raise ValueError(f"there is no operation {operation}")
        return self

    def sizes(self, name: str, default: int = 1) -> tuple[int, ...]:
        """Return the field `name`, one size per axis; `default` if it is empty."""
        return tuple(getattr(self, name)) or (default,) * self.ndim


class ForeignNetwork(nn.Module):
    """Wraps the network `inner`: one input and one output channel, any size."""

    def __init__(self, config: NetworkConfig, inner: nn.Module) -> None:
        super().__init__()
        self.config, self.inner = config, inner
        n = config.ndim
        stride = tuple(
            math.lcm(a, b)
            for a, b in zip(
                config.sizes("stride"), config.sizes("multiple_of"), strict=True
            )
        )
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=config.sizes("halo", 0) if config.local else (0,) * n,
            stride=stride if config.local else (1,) * n,
            upscale_factor=(config.upscale_factor,) * n,
            minimum_size=config.sizes("minimum_size") if config.local else (1,) * n,
            local=config.local,
            at_once=math.prod(config.window) if config.window else None,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(N, 1, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``."""
        window = self.config.window
        if window and any(n > w for n, w in zip(x.shape[2:], window, strict=True)):
            return self._blended(x)
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        config, s = self.config, self.config.upscale_factor
        size = x.shape[2:]
        accepted = [
            -(-max(n, least) // m) * m
            for n, least, m in zip(
                size,
                config.sizes("minimum_size"),
                config.sizes("multiple_of"),
                strict=True,
            )
        ]
        x = _pad_far(_pointwise(x, config.before), accepted)
        y = self.inner(x.repeat(1, config.in_channels, *(1,) * config.ndim))
        expected = (x.shape[0], config.out_channels, *(s * n for n in accepted))
        if tuple(y.shape) != expected:
            raise ModelError(
                f"The network returned an output of shape {tuple(y.shape)}, but its "
                f"card declares {expected}. The card does not belong to these weights."
            )
        y = _pointwise(y, config.after)
        k = config.output_channel
        y = y.mean(1, keepdim=True) if k is None else y[:, k : k + 1]
        return y[_each(slice(s * n) for n in size)]

    def _blended(self, x: Tensor) -> Tensor:
        """Blend overlapping windows, weighted by ramps towards their inner borders."""
        config, s = self.config, self.config.upscale_factor
        size = x.shape[2:]
        total = x.new_zeros((*x.shape[:2], *(s * n for n in size)))
        weights = x.new_zeros(total.shape[2:])
        spans = [
            _spans(n, w, config.overlap)
            for n, w in zip(size, config.window, strict=True)
        ]
        for place in itertools.product(*spans):
            y = self._whole(x[_each(slice(*span) for span in place)])
            ramp = y.new_ones(())
            for (start, stop), n in zip(place, size, strict=True):
                edges = (start > 0, stop < n)
                ramp = ramp[..., None] * _ramp(
                    s * (stop - start), s * config.overlap, edges, y
                )
            out = tuple(slice(s * a, s * b) for a, b in place)
            total[_each(out)] += y * ramp
            weights[out] += ramp
        return total.div_(weights)


def build(config: NetworkConfig, weights: Mapping[str, Tensor]) -> ForeignNetwork:
    """Build a third-party network from its settings and tensors.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Tensors by their names in `ForeignNetwork.state_dict`.

    Raises
    ------
    ConfigError
        If the library with the architecture is missing, or does not support it.
    """
    own = {key.removeprefix("inner."): tensor for key, tensor in weights.items()}
    inner = FORMATS.load(config.format).build(config.settings, own)
    if not isinstance(inner, nn.Module):
        raise ConfigError(f"The format {config.format!r} did not return a network.")
    return ForeignNetwork(config, inner)


def _pointwise(x: Tensor, operations: Sequence[Pointwise]) -> Tensor:
    for name, *numbers in operations:
        x = _POINTWISE[name][1](x, *numbers)
    return x


def _pad_far(x: Tensor, size: Sequence[int]) -> Tensor:
    """Pad at the far ends by reflection, then by repeating the last value."""
    for mode in ("reflect", "replicate"):
        have = x.shape[2:]
        missing = [n - m for n, m in zip(size, have, strict=True)]
        if mode == "reflect":  # reflection is limited by the size of the image
            missing = [min(n, m - 1) for n, m in zip(missing, have, strict=True)]
        if any(missing):
            # `pad` expects the near and the far end of each axis, last axis first; only
            # far ends are padded.
            pads = [n for last in reversed(missing) for n in (0, last)]
            x = functional.pad(x, pads, mode)
    return x


def _each(parts: Iterable[slice]) -> Any:
    """Return the index of a part of every image; torch has no type for such indices."""
    return (..., *parts)


def _spans(n: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Return windows of equal size along an axis; the last one ends with the axis."""
    if n <= window:
        return [(0, n)]
    starts = [*range(0, n - window, window - overlap), n - window]
    return [(start, start + window) for start in starts]


def _ramp(n: int, overlap: int, edges: tuple[bool, bool], like: Tensor) -> Tensor:
    """Return weights along an axis: 1, decreasing within `overlap` of inner borders."""
    places = torch.arange(1, n + 1, dtype=like.dtype, device=like.device)
    weights = torch.ones_like(places)
    if edges[0]:
        weights = torch.minimum(weights, places / (overlap + 1))
    if edges[1]:
        weights = torch.minimum(weights, places.flip(0) / (overlap + 1))
    return weights
