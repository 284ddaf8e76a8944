"""Light super-resolution network: residual blocks on the coarse grid, then a shuffle.

No normalisation layers, so that tiles and whole volumes give the same numbers.

References
----------
.. [1] Lim et al. Enhanced deep residual networks for single image super-resolution.
   CVPR workshops (2017). doi:10.1109/CVPRW.2017.151
.. [2] Aitken et al. Checkerboard artifact free sub-pixel convolution (2017).
   arXiv:1707.02937
.. [3] Keys. Cubic convolution interpolation for digital image processing.
   IEEE Trans. ASSP 29, 1153-1160 (1981). doi:10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.config import Config
from napari_geosr.networks.spec import NetworkSpec


class NetworkConfig(Config):
    """Shape of a light super-resolution network."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    ndim: Literal[2, 3] = 3
    """Planes (2) or volumes (3)."""
    upscale_factor: Literal[2, 4] = 2
    """Output voxels per input voxel along every axis."""
    features: int = Field(16, ge=1, le=64)
    """Maps of the trunk."""
    blocks: int = Field(4, ge=1, le=16)
    """Residual blocks of two convolutions."""


def parameter_count(config: NetworkConfig) -> int:
    """Number of parameters in closed form."""
    k, f = 3**config.ndim, config.features
    n_out = config.upscale_factor**config.ndim
    return (k + 1) * f + 2 * config.blocks * (k * f + 1) * f + (k * f + 1) * n_out


def pixel_shuffle(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Rearrange ``(N, C · factorⁿ, *spatial)`` to ``(N, C, *factor · spatial)``.

    Works on any number of axes; channels are nested in the order C, Z, Y, X.
    """
    n, channels, *spatial = x.shape
    axes = len(spatial)
    c = channels // factor**axes
    x = x.reshape(n, c, *(factor,) * axes, *spatial)
    order = [p for i in range(axes) for p in (2 + axes + i, 2 + i)]
    return x.permute(0, 1, *order).reshape(n, c, *(factor * m for m in spatial))


def cubic_kernel(factor: int, ndim: int) -> torch.Tensor:
    """Weights ``(factorⁿ, 1, 5, …)`` of cubic interpolation at sub-voxel centres.

    Keys' cubic with a = -1/2 [3]_, which reproduces ramps and parabolas. Sub-voxel i of
    a voxel lies at ``(i + 1/2) / factor - 1/2``, so that outer edges are kept.
    """
    places = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
    d = (places[:, None] - torch.arange(-2, 3, dtype=torch.float64)).abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    line = torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
    kernel = line
    for _ in range(ndim - 1):
        kernel = torch.einsum("a...,bx->ab...x", kernel, line).flatten(0, 1)
    return kernel.unsqueeze(1)


def initialise_icnr(weight: torch.Tensor, factor: int, gain: float = 0.1) -> None:
    """Fill `weight` so that all sub-voxels of a voxel start equal (ICNR [2]_)."""
    n_sub = factor ** (weight.ndim - 2)
    kernel = torch.empty(weight.shape[0] // n_sub, *weight.shape[1:])
    nn.init.kaiming_normal_(kernel)
    with torch.no_grad():
        weight.copy_(gain * kernel.repeat_interleave(n_sub, dim=0))


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, starting as the identity."""

    def __init__(self, conv: type[nn.Conv2d | nn.Conv3d], features: int) -> None:
        super().__init__()
        self.first = conv(features, features, 3, padding=1)
        self.second = conv(features, features, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        out: torch.Tensor = x + self.second(functional.relu(self.first(x)))
        return out


class LightSR(nn.Module):
    """Residual trunk on the coarse grid, sub-pixel upsampling, cubic global skip."""

    kernel: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        n, f, s = config.ndim, config.features, config.upscale_factor
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        self.head = conv(1, f, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(conv, f) for _ in range(config.blocks)
        )
        self.tail = conv(f, s**n, 3, padding=1)
        if self.tail.bias is not None:
            nn.init.zeros_(self.tail.bias)
        initialise_icnr(self.tail.weight, s)
        self.register_buffer("kernel", cubic_kernel(s, n).float(), persistent=False)
        radius = max(2, 2 + 2 * config.blocks)
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(radius,) * n,
            stride=(1,) * n,
            upscale_factor=(s,) * n,
            minimum_size=(1,) * n,
        )

    def interpolate(self, x: torch.Tensor) -> torch.Tensor:
        """Cubic interpolation to the fine grid, edges repeated outside."""
        n = self.config.ndim
        padded = functional.pad(x, (2,) * (2 * n), mode="replicate")
        conv = functional.conv3d if n == 3 else functional.conv2d
        # Reduced precision would cost the grey levels their last bits.
        with torch.autocast(x.device.type, enabled=False):
            fine = conv(padded, self.kernel.to(x.dtype))
        return pixel_shuffle(fine, self.config.upscale_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale ``(N, 1, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``."""
        maps = self.head(x)
        for block in self.blocks:
            maps = block(maps)
        detail = pixel_shuffle(
            self.tail(functional.relu(maps)), self.config.upscale_factor
        )
        return self.interpolate(x) + detail


def build(config: NetworkConfig) -> LightSR:
    """Build a light super-resolution network with fresh weights."""
    return LightSR(config)
