"""Gaussian filter: every voxel becomes a weighted mean of its neighbours."""

from __future__ import annotations

import torch
from pydantic import Field
from torch.nn import functional

from napari_geosr.networks.classical._filter import Filter, FilterConfig

#: Radius at which the kernel is cut off, in standard deviations.
TRUNCATE = 4.0
#: Strengths that are tried on a scan, in ascending order.
STRENGTHS = (0.35, 0.5, 0.7, 0.95, 1.3, 1.8, 2.5)


class NetworkConfig(FilterConfig):
    """Settings of a Gaussian filter."""

    strength: float = Field(1.0, ge=0, le=8)
    """Standard deviation of the kernel, in voxels."""


class GaussianFilter(Filter):
    """Separable Gaussian filter, truncated at four standard deviations.

    At the border of a volume, the weights of the existing voxels are normalised to a
    sum of one. Tiled results are exact.
    """

    def __init__(self, config: NetworkConfig) -> None:
        radius = int(TRUNCATE * config.strength + 0.5)
        super().__init__(config, radius)
        self.radius = radius
        places = torch.arange(-radius, radius + 1, dtype=torch.float64)
        width = max(config.strength, 1e-12)
        kernel = torch.exp(-0.5 * (places / width) ** 2)
        self._kernel = kernel / kernel.sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Smooth ``(N, 1, [Z,] Y, X)``."""
        if self.radius == 0:
            return x.clone()
        n = self.config.ndim
        convolve = functional.conv2d if n == 2 else functional.conv3d
        kernel = self._kernel.to(x)
        for axis in range(n):
            self.pause()
            shape, padding = [1] * (n + 2), [0] * n
            shape[2 + axis], padding[axis] = len(kernel), self.radius
            weight = kernel.view(shape)
            line = [1] * (n + 2)
            line[2 + axis] = x.shape[2 + axis]
            share = convolve(x.new_ones(line), weight, padding=padding)
            x = convolve(x, weight, padding=padding) / share
        return x


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of weights: none."""
    return 0


def build(config: NetworkConfig) -> GaussianFilter:
    """Build the filter that `config` describes."""
    return GaussianFilter(config)
