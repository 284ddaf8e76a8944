"""Lightweight residual generator for translation and super-resolution; exact in tiles.

It is the generator of CycleGAN [1]_ with two changes. It has no instance norm, because
statistics of the whole image are not available in tiles. Instead of strided
convolutions, blocks of voxels are rearranged into channels and back [2]_, so that the
trunk works on a coarse grid without losing detail.

References
----------
.. [1] Zhu et al. Unpaired image-to-image translation using cycle-consistent adversarial
   networks. ICCV (2017). doi:10.1109/ICCV.2017.244
.. [2] Shi et al. Real-time single image and video super-resolution using an efficient
   sub-pixel convolutional neural network. CVPR (2016). doi:10.1109/CVPR.2016.207
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.planes import PlanesConfig
from napari_geosr.networks.layers.upsampling import (
    count_doublings,
    cubic_kernel,
    end_parameters,
    end_reach,
    enlarged,
    interpolated,
    make_end,
    plain_layer,
)
from napari_geosr.networks.light_sr import ResidualBlock
from napari_geosr.networks.spec import NetworkSpec


class NetworkConfig(PlanesConfig):
    """Settings of a lightweight residual generator."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"
    training_defaults: ClassVar[AnyDict] = {"features": 32, "blocks": 6}

    upscale_factor: Literal[1, 2, 4, 8] = 1
    """Output voxels per input voxel along every axis."""
    features: int = Field(32, ge=1, le=256)
    """Number of feature maps of the trunk."""
    blocks: int = Field(6, ge=1, le=32)
    """Number of residual blocks of two convolutions."""
    merge: Literal[1, 2, 4] = 2
    """Voxels along every axis that are merged into one voxel of the trunk."""
    residual: bool = True
    """Add the (centre) input plane, interpolated, to the output."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, k, f = config.ndim, 3**config.ndim, config.features
    head = (k * config.adjacent_slices * config.merge**n + 1) * f
    trunk = 2 * config.blocks * (k * f + 1) * f
    total = config.merge * config.upscale_factor
    return head + trunk + end_parameters(n, f, total, _doublings(config))


def _doublings(config: NetworkConfig) -> int:
    """Return how many times all maps are upsampled by 2; 0 for factors up to 4."""
    factor = config.upscale_factor
    return count_doublings(config.merge * factor) if count_doublings(factor) else 0


def merge_voxels(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Merge voxels: ``(N, C, *factor · spatial)`` to ``(N, C · factorⁿ, *spatial)``.

    This is the inverse of `napari_geosr.networks.layers.upsampling.pixel_shuffle`.
    """
    n, c, *spatial = x.shape
    axes = len(spatial)
    if axes == 2:
        return functional.pixel_unshuffle(x, factor)
    split = [p for m in spatial for p in (m // factor, factor)]
    x = x.reshape(n, c, *split)
    fine = [3 + 2 * i for i in range(axes)]
    coarse = [2 + 2 * i for i in range(axes)]
    x = x.permute(0, 1, *fine, *coarse)
    return x.reshape(n, c * factor**axes, *(m // factor for m in spatial))


def pad_to(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad every axis to a multiple of `multiple` by repeating the last voxels."""
    missing = [-m % multiple for m in x.shape[2:]]
    if not any(missing):
        return x
    widths = [w for m in reversed(missing) for w in (0, m)]
    return functional.pad(x, widths, mode="replicate")


def crop_to(x: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Crop to the first `sizes` voxels along the axes, the inverse of `pad_to`."""
    for axis, size in enumerate(sizes):
        x = x.narrow(2 + axis, 0, size)
    return x


class ResNet(nn.Module):
    """Residual trunk on merged voxels, sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    kernel: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        n, f, s, r = (
            config.ndim,
            config.features,
            config.upscale_factor,
            config.merge,
        )
        make = plain_layer(n)
        self.head = make(config.adjacent_slices * r**n, f)
        self.blocks = nn.ModuleList(
            ResidualBlock(make, f) for _ in range(config.blocks)
        )
        self.stages, self.tail = make_end(make, n, f, r * s, _doublings(config))
        self.register_buffer("kernel", cubic_kernel(s, n).float(), persistent=False)
        # The reach is in merged voxels, the outermost of which is included completely.
        reach = 1 + 2 * config.blocks + end_reach(_doublings(config))
        radius = r * reach + r - 1
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(radius,) * n,
            stride=(r,) * n,
            upscale_factor=(s,) * n,
            adjacent_slices=config.adjacent_slices,
        )

    def _skip(self, x: torch.Tensor) -> torch.Tensor:
        """Return the centre plane on the output's grid, by cubic interpolation."""
        centre, s = self.config.adjacent_slices // 2, self.config.upscale_factor
        x = x[:, centre : centre + 1]
        if s == 1:
            return x
        return interpolated(x, self.kernel, s)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Translate ``(N, C, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``."""
        r, s = self.config.merge, self.config.upscale_factor
        maps = self.head(merge_voxels(pad_to(x, r), r))
        for block in self.blocks:
            maps = block(maps)
        fine = enlarged(maps, self.stages, self.tail, r * s)
        y = crop_to(fine, [s * m for m in x.shape[2:]])
        return y + self._skip(x) if self.config.residual else y


def build(config: NetworkConfig) -> ResNet:
    """Build a lightweight residual generator with initial weights."""
    return ResNet(config)
