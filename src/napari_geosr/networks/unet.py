"""U-Net: encoder and decoder with skips between maps of equal size.

No statistics of the restored image are used, so tiles give the same values as the whole
image. With batch norms [4]_, short training runs gain about one decibel; after
training, the norms are fixed scales and offsets. Max pooling is blurred before
subsampling [2]_, so that the result hardly depends on shifts by one voxel. N2V2 [3]_
introduced both the blurring and the removal of the topmost skip to avoid checkerboard
artefacts in blind-spot training.

References
----------
.. [1] Ronneberger et al. U-Net: convolutional networks for biomedical image
   segmentation. MICCAI (2015). doi:10.1007/978-3-319-24574-4_28
.. [2] Zhang. Making convolutional networks shift-invariant again. ICML (2019).
   arXiv:1904.11486
.. [3] Höck et al. N2V2 - Fixing Noise2Void checkerboard artifacts with modified
   sampling strategies and a tweaked network architecture. ECCV workshops (2022).
   arXiv:2211.08512
.. [4] Ioffe & Szegedy. Batch normalization: accelerating deep network training by
   reducing internal covariate shift. ICML (2015). arXiv:1502.03167
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.scores import ScoresConfig, most_likely_label
from napari_geosr.networks.layers.upsampling import (
    CUBIC_REACH,
    cubic_kernel,
    interpolated,
)
from napari_geosr.networks.resnet import crop_to, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Negative slope of the leaky ReLUs.
_SLOPE = 0.1
#: Number of convolutions per level.
_CONVOLUTIONS = 2


class NetworkConfig(ScoresConfig):
    """Settings of a U-Net."""

    layers_field: ClassVar[str] = "levels"
    width_field: ClassVar[str] = "features"
    #: Without the skip from input to output, short training runs gain several decibels.
    training_defaults: ClassVar[AnyDict] = {
        "levels": 2,
        "features": 24,
        "residual": False,
        "batch_norm": True,
    }

    levels: int = Field(3, ge=1, le=5)
    """Number of times the image size is halved; the coarsest voxels have an edge
    length of 2^levels."""
    features: int = Field(32, ge=1, le=128)
    """Number of feature maps at full resolution; doubled at every level below."""
    pooling: Literal["blur", "max"] = "blur"
    """Max pooling, blurred before subsampling (anti-aliased) or plain."""
    upsampling: Literal["linear", "nearest"] = "linear"
    """Interpolation method used for upsampling."""
    top_skip: bool = True
    """Skip connection at full resolution; N2V2 has none."""
    batch_norm: bool = False
    """Normalise maps by the statistics of each batch during training, and by fixed ones
    afterwards. Cards older than this setting do not contain it, and their networks have
    no normalisation."""
    upscale_factor: Literal[1, 2, 4, 8] = 1
    """Output voxels per input voxel along every axis on which the network works."""

    @model_validator(mode="after")
    def _check_factor(self) -> Self:
        if self.upscale_factor > 1 and self.out_channels > 1:
            raise ValueError(
                "labels are on the voxel grid of the input: set the upscale factor to 1"
            )
        return self


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    k, f = 3**config.ndim, config.features
    sizes = [f * 2**level for level in range(config.levels + 1)]
    channels = config.adjacent_slices + config.extra_channels
    pairs = [(channels, f), *itertools.pairwise(sizes)]
    for level, (a, b) in enumerate(itertools.pairwise(sizes)):
        pairs.append((a + b if level or config.top_skip else b, a))
    head = config.out_channels * (f + 1)
    extra = 2 if config.batch_norm else 1  # scale and offset of a norm, or a bias
    count: int = head + sum((k * a + extra) * b + (k * b + extra) * b for a, b in pairs)
    return count


def reach(config: NetworkConfig) -> int:
    """Return the largest receptive-field radius of all output voxels, in input voxels.

    The radius is determined by the longest path from an output voxel through all levels
    to the input.
    """
    wide = 1 if config.upsampling == "linear" else 0
    blur = 1 if config.pooling == "blur" else 0
    factor = config.upscale_factor
    cubic = CUBIC_REACH if factor > 1 else 0
    furthest = 0
    for place in range(max(2**config.levels, factor)):
        low = high = place
        for _ in range(config.levels):
            low, high = low - _CONVOLUTIONS, high + _CONVOLUTIONS
            # Linear upsampling also needs the coarse voxel next to the one that
            # contains the fine voxel.
            low, high = (low - wide) // 2, (high + wide) // 2
        low, high = low - _CONVOLUTIONS, high + _CONVOLUTIONS
        for _ in range(config.levels):
            low, high = 2 * low - blur, 2 * high + 1 + blur
            low, high = low - _CONVOLUTIONS, high + _CONVOLUTIONS
        coarse = place // factor
        low, high = low // factor - cubic, high // factor + cubic
        furthest = max(furthest, coarse - low, high - coarse)
    return furthest


def blurred_maxima(x: torch.Tensor) -> torch.Tensor:
    """Halve the size along all axes, by maxima of neighbours and a 1 : 2 : 1 filter.

    A coarse voxel is centred between the two fine voxels it replaces. At the borders,
    the outermost voxel is repeated.
    """
    n_axes = x.ndim - 2
    x = functional.pad(x, (1, 1) * n_axes, mode="replicate")
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        pairs = torch.maximum(x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1))
        x = _thinned(pairs, axis, 0) + _thinned(pairs, axis, 2)
        x = 0.25 * x + 0.5 * _thinned(pairs, axis, 1)
    return x


def _thinned(x: torch.Tensor, axis: int, first: int) -> torch.Tensor:
    """Return every other voxel along an axis from `first`, for the stride-2 filter."""
    key = [slice(None)] * x.ndim
    key[axis] = slice(first, first + x.shape[axis] - 2, 2)
    return x[tuple(key)]


class UNet(nn.Module):
    """U-Net [1]_ with two convolutions per level and zero padding."""

    kernel: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        n = config.ndim
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        self.pool: nn.Module = nn.MaxPool3d(2) if n == 3 else nn.MaxPool2d(2)

        def layer(a: int, b: int) -> list[nn.Module]:
            act = nn.LeakyReLU(_SLOPE)
            if not config.batch_norm:
                return [conv(a, b, 3, padding=1), act]
            norm = nn.BatchNorm3d if n == 3 else nn.BatchNorm2d
            return [conv(a, b, 3, padding=1, bias=False), norm(b), act]

        def box(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(*layer(a, b), *layer(b, b))

        sizes = [config.features * 2**level for level in range(config.levels + 1)]
        channels = config.adjacent_slices + config.extra_channels
        self.down = nn.ModuleList(
            box(a, b) for a, b in zip([channels, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            box(below + (here if level or config.top_skip else 0), here)
            for level, (here, below) in enumerate(itertools.pairwise(sizes))
        )
        self.head = conv(config.features, config.out_channels, 1)
        self._initialise()
        factor = config.upscale_factor
        kernel = cubic_kernel(factor, n).float()
        self.register_buffer("kernel", kernel, persistent=False)
        # The total stride on the fine grid, in voxels of the input.
        stride = max(1, 2**config.levels // factor)
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(reach(config),) * n,
            stride=(stride,) * n,
            upscale_factor=(factor,) * n,
            adjacent_slices=config.adjacent_slices,
        )

    def _initialise(self) -> None:
        for module in self.modules():
            if self.config.batch_norm:
                break  # torch's default weights have the same effect before a norm
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.config.batch_norm and not self.config.residual:
            return
        # Start near zero, not at zero, so that gradients reach all layers from the
        # start.
        with torch.no_grad():
            self.head.weight.mul_(0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``.

        If the output is labels, their scores ``(N, n, [Z,] Y, X)`` are returned during
        training.
        """
        if self.config.upscale_factor > 1:
            x = interpolated(x, self.kernel, self.config.upscale_factor)
        maps = pad_to(x, 2**self.config.levels)
        if self.training and self.config.batch_norm:
            self._check_patch_size(maps.shape)
        skips = []
        for level, box in enumerate(self.down):
            if level:
                maps = self._halve(maps)
            maps = box(maps)
            skips.append(maps)
        skips.pop()
        for level in reversed(range(self.config.levels)):
            maps, skip = self._double(maps), skips.pop()
            if level or self.config.top_skip:
                maps = torch.cat([skip, maps], dim=1)
            maps = self.up[level](maps)
        y = crop_to(self.head(maps), x.shape[2:])
        if self.config.out_channels > 1:
            return y if self.training else most_likely_label(y)
        if not self.config.residual:
            return y
        centre = self.config.adjacent_slices // 2
        return y + x[:, centre : centre + 1]

    def _check_patch_size(self, shape: torch.Size) -> None:
        """Reject batches with one voxel at the lowest level, if batch norm is used."""
        if shape[0] * math.prod(n >> self.config.levels for n in shape[2:]) < 2:
            raise ConfigError(
                f"Patches of {' × '.join(map(str, shape[2:]))} voxels are too small "
                f"for batch norm after halving them {self.config.levels} times. "
                "Choose larger patches, a larger batch or fewer layers, or set the "
                "network's option batch_norm to false."
            )

    def _halve(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.pooling == "blur":
            return blurred_maxima(x)
        halved: torch.Tensor = self.pool(x)
        return halved

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.upsampling == "nearest":
            return functional.interpolate(x, scale_factor=2, mode="nearest")
        mode = "trilinear" if self.config.ndim == 3 else "bilinear"
        return functional.interpolate(x, scale_factor=2, mode=mode, align_corners=False)


def build(config: NetworkConfig) -> UNet:
    """Build a U-Net with initial weights."""
    return UNet(config)
