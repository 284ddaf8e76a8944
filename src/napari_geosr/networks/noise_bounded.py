"""Denoiser that uses the noise level and limits changes to a multiple of it.

The network takes the scan, a map of the noise level and the correlation of the noise
along each axis [1]_ [2]_, and predicts the noise in units of its level. The result is
``x - σ · k · s(r / k)`` with a function `s` that saturates at one: it equals the scan
where there is no noise, and never differs from it by more than ``k · σ``.

The default body works on blocks of voxels rearranged into channels (space to depth
[3]_), at a half and a quarter of the resolution, so that it takes a fraction of the
time of a network with as many weights at full resolution. Other architectures can
replace it.

References
----------
.. [1] Zhang, Zuo, Zhang. FFDNet: toward a fast and flexible solution for CNN-based
   image denoising. IEEE TIP 27, 4608-4622 (2018). doi:10.1109/TIP.2018.2839891
.. [2] Zhang et al. Plug-and-play image restoration with deep denoiser prior. IEEE
   TPAMI 44, 6360-6376 (2022). doi:10.1109/TPAMI.2021.3088914
.. [3] Shi et al. Real-time single image and video super-resolution using an efficient
   sub-pixel convolutional neural network. CVPR (2016). doi:10.1109/CVPR.2016.207
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers import noise_map
from napari_geosr.networks.layers.noise_map import NoiseMap, bounded
from napari_geosr.networks.layers.planes import PlanesConfig
from napari_geosr.networks.layers.two_layer_block import TwoLayerBlock
from napari_geosr.networks.layers.upsampling import pixel_shuffle
from napari_geosr.networks.resnet import crop_to, merge_voxels, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Additional input channels: noise level, and correlation along Z, Y and X.
NOISE_CHANNELS = 1 + len(noise_map.AXES)


class NetworkConfig(PlanesConfig):
    """Settings of a denoiser with changes bounded by the noise level."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"
    training_defaults: ClassVar[AnyDict] = {}

    body: Literal["merged", "msdnet", "unet"] = "merged"
    """Network that predicts the noise: residual blocks on voxels rearranged into
    channels, or another architecture with its training defaults."""
    bound: float = Field(4.0, gt=0, le=20)
    """Largest change of a voxel, as a multiple of the noise level."""
    features: int = Field(32, ge=4, le=256)
    """Body `merged`: number of feature maps at half the resolution; at a quarter of the
    resolution, there are twice as many."""
    blocks: int = Field(2, ge=1, le=16)
    """Body `merged`: number of residual blocks at a quarter of the resolution. At half
    the resolution, half as many blocks (rounded up) precede these, and as many follow
    them."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    if config.body != "merged":
        module, inner = _external_body(config)
        count: int = module.parameter_count(inner)
        return count
    n, k, f = config.ndim, 3**config.ndim, config.features
    merged = 2**n
    head = (k * (config.adjacent_slices * merged + NOISE_CHANNELS) + 1) * f
    block = 2 * (k * f + 1) * f
    coarse = 2 * (k * 2 * f + 1) * 2 * f
    down = (merged * f + 1) * 2 * f
    up = (2 * f + 1) * merged * f
    tail = (k * f + 1) * merged
    fine = _n_blocks_before(config) + config.blocks
    return head + fine * block + config.blocks * coarse + down + up + tail


def _external_body(config: NetworkConfig) -> tuple[Any, Any]:
    """Return the module and settings of the architecture used as the body."""
    from napari_geosr.networks import NETWORKS

    module = NETWORKS.load(config.body)
    kind = module.NetworkConfig
    values = {**kind.training_defaults, "residual": False, "ndim": config.ndim}
    values["adjacent_slices"] = config.adjacent_slices
    return module, kind.create(**values, extra_channels=NOISE_CHANNELS)


def _n_blocks_before(config: NetworkConfig) -> int:
    return (config.blocks + 1) // 2


class MultiscaleBody(nn.Module):
    """Residual blocks at half, a quarter and again half the resolution."""

    #: Number of input voxels, along each axis, per voxel of the coarsest feature maps.
    stride = 4

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        n, f = config.ndim, config.features
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        channels = config.adjacent_slices * 2**n + NOISE_CHANNELS
        self.head = conv(channels, f, 3, padding=1)
        self.before = nn.Sequential(
            *(TwoLayerBlock(conv, f) for _ in range(_n_blocks_before(config)))
        )
        self.down = conv(f, 2 * f, 2, stride=2)
        self.coarse = nn.Sequential(
            *(TwoLayerBlock(conv, 2 * f) for _ in range(config.blocks))
        )
        self.up = conv(2 * f, 2**n * f, 1)
        self.after = nn.Sequential(
            *(TwoLayerBlock(conv, f) for _ in range(config.blocks))
        )
        self.tail = conv(f, 2**n, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        # The reach, in half-resolution voxels, is the sum of the reaches of the tail
        # and the last blocks, of the coarse blocks (plus one, because a coarse voxel is
        # two voxels wide), and of the first blocks and the head.
        half = 1 + 2 * config.blocks
        half += 1 + 2 * 2 * config.blocks
        half += 2 * _n_blocks_before(config) + 1
        self.halo = 2 * half + 1

    def forward(self, x: torch.Tensor, noise_maps: torch.Tensor) -> torch.Tensor:
        """Predict the noise in `x` ``(N, C, …)``, in units of the noise level.

        Parameters
        ----------
        noise_maps : Tensor of shape (N, NOISE_CHANNELS, …)
            Level and correlations at every voxel.
        """
        padded = pad_to(x, self.stride)
        level = pad_to(noise_maps, self.stride)
        mean = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
        maps = torch.cat([merge_voxels(padded, 2), mean(level, 2)], 1)
        if x.ndim == 4:
            maps = maps.contiguous(memory_format=torch.channels_last)
        maps = self.before(functional.relu(self.head(maps), inplace=True))
        below = self.coarse(functional.relu(self.down(maps), inplace=True))
        maps = maps + pixel_shuffle(self.up(below), 2)
        maps = self.tail(self.after(maps))
        return crop_to(pixel_shuffle(maps, 2), x.shape[2:])


class _ExternalBody(nn.Module):
    """Another network as the body, with the noise as additional channels."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        module, inner = _external_body(config)
        self.network = module.build(inner)
        spec = self.network.spec
        self.stride, self.halo = max(spec.stride), max(spec.halo)

    def forward(self, x: torch.Tensor, noise_maps: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(torch.cat([x, noise_maps], 1))
        return found


class NoiseBounded(nn.Module):
    """A network body that predicts the noise, and a bound on the resulting change."""

    #: `set_noise` must be called before a restoration.
    needs_noise = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.noise = NoiseMap()
        body = MultiscaleBody if config.body == "merged" else _ExternalBody
        self.body: MultiscaleBody | _ExternalBody = body(config)
        n = config.ndim
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(self.body.halo + noise_map.REACH,) * n,
            stride=(self.body.stride,) * n,
            upscale_factor=(1,) * n,
            adjacent_slices=config.adjacent_slices,
        )

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of a scan, on the network's grey scale."""
        self.noise.set_noise(noise)

    def forward(
        self,
        x: torch.Tensor,
        level: torch.Tensor | None = None,
        correlation: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Denoise ``(N, C, [Z,] Y, X)`` to ``(N, 1, [Z,] Y, X)``.

        Parameters
        ----------
        level : Tensor of shape (N, 1, [Z,] Y, X), optional
            Standard deviation of the noise at every voxel; by default, as set by
            `set_noise`.
        correlation : Tensor of shape (N, 3), optional
            Noise correlation of adjacent voxels along Z, Y and X; by default, as set by
            `set_noise`.
        """
        if level is None:
            level = self.noise(x)
        if correlation is None:
            correlation = self.noise.correlation.to(x.dtype).expand(x.shape[0], 3)
        shown = correlation.view(*correlation.shape, *(1,) * (x.ndim - 2))
        noise_maps = torch.cat([level, shown.expand(-1, -1, *x.shape[2:])], 1)
        centre = self.config.adjacent_slices // 2
        change = level * self.body(x, noise_maps)
        return bounded(x[:, centre : centre + 1], change, level, self.config.bound)


def build(config: NetworkConfig) -> NoiseBounded:
    """Build a noise-bounded denoiser, which returns its input until it is trained."""
    return NoiseBounded(config)
