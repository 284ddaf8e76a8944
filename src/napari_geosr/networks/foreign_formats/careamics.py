"""The U-Net of CAREamics (Noise2Void, CARE, Noise2Noise), built without CAREamics.

Layers and names are those of its checkpoints (CAREamics 0.1 to 0.3, BSD-3-Clause): two
convolutions per level, max pooling (or blurred max pooling, N2V2 [1]_), upsampling by
linear interpolation, and concatenating skip connections.

References
----------
.. [1] Höck et al. N2V2: fixing Noise2Void checkerboard artifacts with modified sampling
   strategies and a tweaked network architecture. ECCV Workshops (2022).
   doi:10.1007/978-3-031-25069-9_33
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyMapping

if TYPE_CHECKING:
    from torch import Tensor

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "None": nn.Identity,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "ELU": nn.ELU,
}


class UNetSettings(Config):
    """Settings of the U-Net, with the names used by CAREamics."""

    conv_dims: Literal[2, 3] = 2
    """Number of spatial axes: planes (2) or volumes (3)."""
    in_channels: int = Field(1, ge=1, le=64)
    """Number of input channels."""
    num_classes: int = Field(1, ge=1, le=64)
    """Number of output channels."""
    depth: int = Field(2, ge=1, le=10)
    """Number of levels below the first."""
    num_channels_init: int = Field(32, ge=1, le=1024)
    """Number of feature maps of the first level; doubled at each further level."""
    use_batch_norm: bool = True
    """Whether batch norms are used; their tensors exist in either case."""
    residual: bool = False
    """Add the input to the output."""
    n2v2: bool = False
    """Blurred max pooling, and no skip at the first level."""
    independent_channels: bool = True
    """Each channel is processed by a separate network."""
    final_activation: Literal["None", "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU"] = (
        "None"
    )
    """Activation after the last layer."""


class _ConvBlock(nn.Module):
    """Two convolutions, each followed by batch norm (if used) and ReLU."""

    def __init__(self, s: UNetSettings, n_in: int, n_out: int, between: int) -> None:
        super().__init__()
        groups = _groups(s)
        conv: Any = nn.Conv3d if s.conv_dims == 3 else nn.Conv2d
        norm: Any = nn.BatchNorm3d if s.conv_dims == 3 else nn.BatchNorm2d
        self.use_batch_norm = s.use_batch_norm
        self.conv1 = conv(n_in, between, 3, padding=1, groups=groups)
        self.conv2 = conv(between, n_out, 3, padding=1, groups=groups)
        self.batch_norm1, self.batch_norm2 = norm(between), norm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve twice."""
        for conv, norm in (
            (self.conv1, self.batch_norm1),
            (self.conv2, self.batch_norm2),
        ):
            x = conv(x)
            x = functional.relu(norm(x) if self.use_batch_norm else x)
        return x


class _BlurredMaxima(nn.Module):
    """Maxima of 2 voxels at stride 1, then a binomial filter of 3 voxels at stride 2.

    Each axis of the maxima is one voxel shorter than that of the input, as in
    CAREamics.
    """

    def __init__(self, ndim: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = line
        for _ in range(ndim - 1):
            kernel = kernel[..., None] * line
        self.register_buffer("kernel", kernel, persistent=False)
        self.ndim = ndim

    def forward(self, x: Tensor) -> Tensor:
        """Halve every axis."""
        three = self.ndim == 3
        maxima: Any = functional.max_pool3d if three else functional.max_pool2d
        convolve: Any = functional.conv3d if three else functional.conv2d
        n = x.shape[1]
        assert isinstance(self.kernel, torch.Tensor)
        kernel = self.kernel.to(x.dtype).expand(n, 1, *self.kernel.shape)
        y: Tensor = convolve(
            maxima(x, 2, stride=1), kernel, padding=1, stride=2, groups=n
        )
        return y


class _Encoder(nn.Module):
    def __init__(self, s: UNetSettings) -> None:
        super().__init__()
        pool: nn.Module
        if s.n2v2:
            pool = _BlurredMaxima(s.conv_dims)
        else:
            pool = nn.MaxPool3d(2) if s.conv_dims == 3 else nn.MaxPool2d(2)
        blocks: list[nn.Module] = []
        n_in = s.in_channels
        for level in range(s.depth):
            n_out = s.num_channels_init * 2**level * _groups(s)
            blocks += [_ConvBlock(s, n_in, n_out, n_out), pool]
            n_in = n_out
        self.encoder_blocks = nn.ModuleList(blocks)


class _Decoder(nn.Module):
    def __init__(self, s: UNetSettings) -> None:
        super().__init__()
        width = s.num_channels_init * _groups(s)
        deepest = width * 2 ** (s.depth - 1)
        self.bottleneck = _ConvBlock(s, deepest, deepest, 2 * deepest)
        mode = "trilinear" if s.conv_dims == 3 else "bilinear"
        up = nn.Upsample(scale_factor=2, mode=mode)
        blocks: list[nn.Module] = []
        for level in reversed(range(s.depth)):
            n = width * 2**level
            n_in = n if s.n2v2 and level == 0 else 2 * n
            n_out = n if level == 0 else n // 2
            blocks += [
                up,
                _ConvBlock(s, n_in, n_out, n_out if level == 0 else 2 * n_out),
            ]
        self.decoder_blocks = nn.ModuleList(blocks)


class CareamicsUNet(nn.Module):
    """The U-Net; sizes must be multiples of ``2 ** depth``."""

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        s = self.settings = settings
        self.encoder, self.decoder = _Encoder(s), _Decoder(s)
        conv: Any = nn.Conv3d if s.conv_dims == 3 else nn.Conv2d
        groups = _groups(s)
        self.final_conv = conv(
            s.num_channels_init * groups, s.num_classes, 1, groups=groups
        )
        self.final_activation = _ACTIVATIONS[s.final_activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Restore ``(N, channels, [Z,] Y, X)``."""
        s, groups = self.settings, _groups(self.settings)
        maps, skips = x, []
        for i, module in enumerate(self.encoder.encoder_blocks):
            maps = module(maps)
            if i % 2 == 0:
                skips.append(maps)
        maps = self.decoder.bottleneck(maps)
        for i, module in enumerate(self.decoder.decoder_blocks):
            maps = module(maps)
            if i % 2 == 0:
                skip = skips.pop()
                if skips or not s.n2v2:
                    maps = _interleaved(maps, skip, groups)
        y: Tensor = self.final_conv(maps)
        y = self.final_activation(y + x if s.residual else y)
        return y


def build(settings: AnyMapping, weights: Mapping[str, Tensor]) -> CareamicsUNet:
    """Build the U-Net; the weights are loaded afterwards."""
    return CareamicsUNet(UNetSettings.from_mapping(settings))


def _groups(settings: UNetSettings) -> int:
    return settings.in_channels if settings.independent_channels else 1


def _interleaved(a: Tensor, b: Tensor, groups: int) -> Tensor:
    """Concatenate the channels of `a` and `b` group by group."""
    pairs = zip(a.chunk(groups, dim=1), b.chunk(groups, dim=1), strict=True)
    return torch.cat([part for pair in pairs for part in pair], dim=1)
