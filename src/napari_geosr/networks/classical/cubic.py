"""Cubic interpolation: reduces the voxel size without adding detail.

Keys. Cubic convolution interpolation for digital image processing. IEEE Trans. ASSP 29,
1153-1160 (1981). doi:10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.networks.layers.upsampling import (
    CUBIC_REACH,
    cubic_kernel,
    interpolated,
)
from napari_geosr.networks.spec import NetworkSpec

#: Interpolation has no strength setting.
STRENGTHS: tuple[float, ...] = ()


class NetworkConfig(Config):
    """Settings of an interpolation."""

    ndim: Literal[2, 3] = 3
    """Number of spatial axes: planes (2) or volumes (3)."""
    upscale_factor: int = Field(2, ge=2, le=8)
    """Output voxels per input voxel along every axis."""


class CubicInterpolation(nn.Module):
    """Cubic interpolation, exact in tiles; values at the border are repeated."""

    kernel: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        n, s = config.ndim, config.upscale_factor
        self.config = config
        self.register_buffer("kernel", cubic_kernel(s, n).float(), persistent=False)
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(CUBIC_REACH,) * n,
            stride=(1,) * n,
            upscale_factor=(s,) * n,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Interpolate ``(N, 1, [Z,] Y, X)``."""
        return interpolated(x, self.kernel, self.config.upscale_factor)


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of weights: none."""
    return 0


def build(config: NetworkConfig) -> CubicInterpolation:
    """Build the interpolation that `config` describes."""
    return CubicInterpolation(config)
