"""U-Net for diffusion models; takes an image and the time in the noise schedule.

It consists of residual blocks with group norms [1]_ and strided convolutions. A
sinusoidal embedding of the time in the noise schedule is added in every block [2]_.
If no time is given, a fixed one is used, so that the same network also works on clean
images, as in segmentation with few labelled images [3]_. The default network is small:
0.4 million weights in 2D.

The network can also take the porosity of the image as input, so that images with a
desired porosity can be generated. In training, the porosity is sometimes withheld, so
that the network also works without it [5]_.

Group norms use statistics of the whole image, so slices (3D: volumes) are processed as
a whole, or in windows that share the statistics
(`napari_geosr.learning.diffusion.in_windows`).

References
----------
.. [1] Wu & He. Group normalization. ECCV (2018). arXiv:1803.08494
.. [2] Ho et al. Denoising diffusion probabilistic models. NeurIPS (2020).
   arXiv:2006.11239
.. [3] Rousseau et al. Pre-training with diffusion models for dental radiography
   segmentation. MICCAI DGM4 (2023). arXiv:2307.14066
.. [4] Baranchuk et al. Label-efficient semantic segmentation with diffusion models.
   ICLR (2022). arXiv:2112.03126
.. [5] Ho & Salimans. Classifier-free diffusion guidance. arXiv:2207.12598 (2022)
"""

from __future__ import annotations

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.scores import ScoresConfig, most_likely_label
from napari_geosr.networks.layers.shared_norm import SharedGroupNorm
from napari_geosr.networks.resnet import crop_to, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Number of feature maps per normalisation group; all widths are multiples of this
#: number.
_GROUP = 8
#: Longest wavelength of the time embedding, in time steps.
_LONGEST = 10_000.0
#: Number of cosines of the porosity that are given to the network.
_COSINES = 8


class NetworkConfig(ScoresConfig):
    """Settings of a diffusion U-Net, and the noise schedule it was trained with."""

    layers_field: ClassVar[str] = "levels"
    width_field: ClassVar[str] = "features"
    training_defaults: ClassVar[AnyDict] = {"residual": False}

    residual: bool = False
    """Add the (centre) input plane to the output."""
    levels: int = Field(2, ge=1, le=4)
    """Number of times the image size is halved."""
    features: int = Field(24, ge=_GROUP, le=256, multiple_of=_GROUP)
    """Number of feature maps at full resolution; 2, 3, … times as many at the levels
    below."""
    fixed_time: int = Field(0, ge=0, le=999)
    """Time step used if none is given, i.e. for clean images."""
    noise_schedule: Literal["linear", "cosine"] = "cosine"
    """Noise schedule of a diffusion model."""
    prediction: Literal["noise", "velocity", "image"] = "velocity"
    """What a diffusion model predicts."""
    zero_terminal: bool = False
    """Whether images at the last time step contain only noise."""
    condition: Literal["none", "porosity"] = "none"
    """Additional input of the network, besides the diffusion time step: none, or the
    porosity of the image."""
    decoder_head: int = Field(0, ge=0, le=256)
    """Number of feature maps of a last layer that uses all levels of the decoder, as in
    [4]_; 0: a single convolution of the finest level."""


def _sizes(config: NetworkConfig) -> list[int]:
    return [config.features * (level + 1) for level in range(config.levels + 1)]


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    k, f = 3**config.ndim, config.features
    sizes, time = _sizes(config), 4 * f

    def conv(a: int, b: int) -> int:
        return (k * a + 1) * b

    def block(a: int, b: int) -> int:
        skip = (a + 1) * b if a != b else 0
        return 2 * (a + b) + conv(a, b) + (time + 1) * b + conv(b, b) + skip

    pairs = list(itertools.pairwise(sizes))
    ends = conv(config.adjacent_slices + config.extra_channels, f)
    ends += 2 * f
    if maps := config.decoder_head:
        ends += sum(sizes) * maps + 2 * sum(sizes[1:]) + maps
        ends += (maps + 1) * config.out_channels
    else:
        ends += conv(f, config.out_channels)
    embedding = (f + 1) * time + (time + 1) * time
    if config.condition != "none":
        embedding += (_COSINES + 2) * time + (time + 1) * time
    down = block(f, f) + sum(conv(a, a) + block(a, b) for a, b in pairs)
    up = sum(conv(b, a) + block(2 * a, a) for a, b in pairs)
    return ends + embedding + down + block(sizes[-1], sizes[-1]) + up


class _TimedBlock(nn.Module):
    """Two convolutions, each after a group norm, with the time added in between."""

    def __init__(self, ndim: int, a: int, b: int, time: int) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.norm1, self.norm2 = _norm(a), _norm(b)
        self.conv1, self.conv2 = conv(a, b, 3, padding=1), conv(b, b, 3, padding=1)
        self.time = nn.Linear(time, b)
        self.skip: nn.Module = conv(a, b, 1) if a != b else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        maps = self.conv1(functional.silu(self.norm1(x)))
        maps = maps + self.time(time).reshape(*maps.shape[:2], *(1,) * (x.ndim - 2))
        maps = self.conv2(functional.silu(self.norm2(maps)))
        result: torch.Tensor = maps + self.skip(x)
        return result


class _DecoderHead(nn.Module):
    """A small network that classifies each voxel by the features of all levels."""

    def __init__(self, ndim: int, sizes: list[int], maps: int, channels: int) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.mode = "trilinear" if ndim == 3 else "bilinear"
        fine, *coarse = sizes
        self.norms = nn.ModuleList(_norm(size) for size in reversed(coarse))
        # Mix the maps before enlarging them: the result is the same and needs less
        # memory.
        self.mix = nn.ModuleList(
            conv(size, maps, 1, bias=False) for size in reversed(coarse)
        )
        self.fine, self.last = conv(fine, maps, 1), conv(maps, channels, 1)

    def forward(self, fine: torch.Tensor, coarse: list[torch.Tensor]) -> torch.Tensor:
        total: torch.Tensor = self.fine(fine)
        for maps, norm, mix in zip(coarse, self.norms, self.mix, strict=True):
            mixed = mix(functional.silu(norm(maps)))
            total = total + functional.interpolate(
                mixed, size=fine.shape[2:], mode=self.mode
            )
        result: torch.Tensor = self.last(functional.silu(total))
        return result


def _norm(channels: int) -> SharedGroupNorm:
    return SharedGroupNorm(channels // _GROUP, channels)


def _reach(levels: int) -> int:
    """Return the number of voxels around a voxel on which its output can depend.

    The group norms, which use the whole image, are not counted.
    """
    coarsest: int = 2**levels
    # First and last layer, and first block; strided convolutions and blocks on the way
    # down, and the middle block; enlargements, convolutions and blocks on the way up.
    ends, down, up = 4, 5 * (coarsest - 1) + 2 * coarsest, 4 * (coarsest - 1)
    return ends + down + up


class DiffusionUNet(nn.Module):
    """U-Net with a time embedding [2]_; its last layer is ``head``.

    Attributes
    ----------
    reach : int
        Number of voxels around a voxel on which its output can depend, apart from the
        group norms.
    grid : int
        Number of voxels per voxel of the coarsest feature maps, along each axis.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.grid, self.reach = 2**config.levels, _reach(config.levels)
        n, f = config.ndim, config.features
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        sizes, time = _sizes(config), 4 * f
        pairs = list(itertools.pairwise(sizes))
        self.embedding = nn.Sequential(
            nn.Linear(f, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU()
        )
        self.condition: nn.Sequential | None = None
        if config.condition != "none":
            self.condition = nn.Sequential(
                nn.Linear(_COSINES + 1, time), nn.SiLU(), nn.Linear(time, time)
            )
        channels = config.adjacent_slices + config.extra_channels
        self.stem = conv(channels, f, 3, padding=1)
        self.first = _TimedBlock(n, f, f, time)
        self.shrink = nn.ModuleList(conv(a, a, 3, 2, padding=1) for a, _ in pairs)
        self.down = nn.ModuleList(_TimedBlock(n, a, b, time) for a, b in pairs)
        self.middle = _TimedBlock(n, sizes[-1], sizes[-1], time)
        self.widen = nn.ModuleList(conv(b, a, 3, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(_TimedBlock(n, 2 * a, a, time) for a, _ in pairs)
        self.norm = _norm(f)
        self.head: nn.Module = (
            _DecoderHead(n, sizes, config.decoder_head, config.out_channels)
            if config.decoder_head
            else conv(f, config.out_channels, 3, padding=1)
        )
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(0,) * n,
            stride=(2**config.levels,) * n,
            upscale_factor=(1,) * n,
            adjacent_slices=config.adjacent_slices,
            local=False,
        )

    def _embedded(self, time: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        half = self.config.features // 2
        rates = torch.arange(half, dtype=torch.float32, device=x.device) / half
        angles = time.to(x.device).reshape(-1, 1) * torch.exp(
            -math.log(_LONGEST) * rates
        )
        waves = torch.cat([angles.sin(), angles.cos()], dim=1).to(x.dtype)
        embedded: torch.Tensor = self.embedding(waves)
        return embedded.expand(len(x), -1)

    def _embedded_porosity(self, porosity: torch.Tensor) -> torch.Tensor:
        assert self.condition is not None
        unknown = porosity.isnan()[:, None]
        orders = math.pi * torch.arange(1, _COSINES + 1, device=porosity.device)
        cosines = (porosity[:, None] * orders).cos().masked_fill(unknown, 0.0)
        inputs = torch.cat([cosines, unknown.to(cosines.dtype)], dim=1)
        embedded: torch.Tensor = self.condition(inputs)
        return embedded

    def output(
        self,
        x: torch.Tensor,
        time: torch.Tensor,
        porosity: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the output for noisy images at time steps of the noise schedule.

        Parameters
        ----------
        x : Tensor of shape (N, C, [Z,] Y, X)
        time : Tensor of shape (N,) or (1,)
        porosity : Tensor of shape (N,) or (1,), optional
            Porosity of the noise-free images, 0 … 1; NaN or None if unknown. Only for
            networks that take the porosity as input.
        """
        embedded = self._embedded(time, x)
        if self.condition is not None:
            if porosity is None:
                porosity = torch.full((1,), math.nan)
            embedded = embedded + self._embedded_porosity(porosity.to(x))
        maps = self.first(self.stem(pad_to(x, 2**self.config.levels)), embedded)
        skips = []
        for shrink, block in zip(self.shrink, self.down, strict=True):
            skips.append(maps)
            maps = block(shrink(maps), embedded)
        maps = self.middle(maps, embedded)
        levels = [maps]
        for widen, block in zip(reversed(self.widen), reversed(self.up), strict=True):
            wide = widen(functional.interpolate(maps, scale_factor=2, mode="nearest"))
            maps = block(torch.cat([skips.pop(), wide], dim=1), embedded)
            levels.append(maps)
        fine = functional.silu(self.norm(levels.pop()))
        y = self.head(fine, levels) if self.config.decoder_head else self.head(fine)
        return crop_to(y, x.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map clean images ``(N, C, [Z,] Y, X)`` to the output ``(N, 1, [Z,] Y, X)``.

        If the output is labels, their scores ``(N, n, [Z,] Y, X)`` are returned during
        training.
        """
        y = self.output(x, torch.tensor([self.config.fixed_time]))
        if self.config.out_channels > 1:
            return y if self.training else most_likely_label(y)
        if not self.config.residual:
            return y
        centre = self.config.adjacent_slices // 2
        return y + x[:, centre : centre + 1]


def build(config: NetworkConfig) -> DiffusionUNet:
    """Build a diffusion U-Net with initial weights."""
    return DiffusionUNet(config)
