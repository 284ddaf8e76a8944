"""Diffusion network that generates the detail missing from a given scan.

The scan is enlarged by cubic interpolation, and a diffusion model generates its
difference from the high-quality image, the residual [1]_. The input of the U-Net
consists of the noisy residual and the enlarged scan [2]_. At the last time step of the
schedule, the residual contains only noise, so the best prediction is the mean of all
possible residuals. This mean, added to the enlarged scan, is the output of the network;
samples are drawn by `napari_geosr.learning.diffusion.conditional`.

Blocks of voxels can be merged into channels, as in
`napari_geosr.networks.resnet.merge_voxels`. The U-Net then works on a coarser grid, and
volumes need much less time.

References
----------
.. [1] Li et al. SRDiff: single image super-resolution with diffusion probabilistic
   models. Neurocomputing 479, 47-59 (2022). arXiv:2104.14951
.. [2] Saharia et al. Image super-resolution via iterative refinement. IEEE TPAMI 45,
   4713-4726 (2023). doi:10.1109/TPAMI.2022.3204461
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.networks import diffusion_unet
from napari_geosr.networks.layers.upsampling import (
    cubic_kernel,
    interpolated,
    pixel_shuffle,
)
from napari_geosr.networks.resnet import crop_to, merge_voxels, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Last time step of the noise schedule, at which there is only noise.
LAST_TIME = 999


class NetworkConfig(Config):
    """Settings of a diffusion network that is given a scan."""

    layers_field: ClassVar[str] = "levels"
    width_field: ClassVar[str] = "features"

    ndim: Literal[2, 3] = 2
    """Number of spatial axes: planes (2) or volumes (3)."""
    upscale_factor: Literal[1, 2, 4, 8] = 1
    """Output voxels per input voxel along every axis on which the network works."""
    levels: int = Field(2, ge=1, le=4)
    """Number of times the image size is halved."""
    features: int = Field(24, ge=8, le=256, multiple_of=8)
    """Number of feature maps at full resolution; 2, 3, … times as many at the levels
    below."""
    merge: Literal[1, 2] = 1
    """Number of voxels along each axis that are merged into one voxel of the U-Net."""
    residual_schedule: Literal["linear", "cosine"] = "cosine"
    """Noise schedule of the residual."""

    @property
    def noise_schedule(self) -> Literal["linear", "cosine"]:
        """Noise schedule of the residual, under the name that all samplers use."""
        return self.residual_schedule

    @property
    def prediction(self) -> Literal["velocity"]:
        """What the network predicts."""
        return "velocity"

    @property
    def zero_terminal(self) -> bool:
        """Whether there is only noise at the last time step."""
        return True

    def unet(self) -> diffusion_unet.NetworkConfig:
        """Return the settings of the U-Net."""
        block = self.merge**self.ndim
        return diffusion_unet.NetworkConfig.create(
            ndim=self.ndim,
            levels=self.levels,
            features=self.features,
            residual=False,
            out_channels=block,
            extra_channels=2 * block - 1,
            noise_schedule=self.noise_schedule,
            prediction=self.prediction,
            zero_terminal=self.zero_terminal,
        )


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    return diffusion_unet.parameter_count(config.unet())


class ResidualDiffusion(nn.Module):
    """U-Net for the residual between an enlarged scan and a high-quality image.

    Attributes
    ----------
    scale : Tensor
        Standard deviation of the residuals in the training data, on the network's grey
        scale. Residuals are divided by it.
    misfit : Tensor
        RMS difference between the low-quality scans of the training data and the block
        means of the high-quality ones, in standard deviations of the former.
    reach : int
        Number of voxels around a voxel on which the velocity can depend, apart from the
        group norms.
    grid : int
        Number of voxels per voxel of the coarsest feature maps, along each axis.
    """

    kernel: torch.Tensor
    scale: torch.Tensor
    misfit: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        n, factor = config.ndim, config.upscale_factor
        self.config, self.factor = config, factor
        self.unet = diffusion_unet.build(config.unet())
        self.grid = config.merge * self.unet.grid
        self.reach = config.merge * (self.unet.reach + 1) - 1
        self.register_buffer(
            "kernel", cubic_kernel(factor, n).float(), persistent=False
        )
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("misfit", torch.zeros(()))
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(0,) * n,
            stride=(max(1, config.merge * 2**config.levels // factor),) * n,
            upscale_factor=(factor,) * n,
            local=False,
        )

    def enlarge(self, x: torch.Tensor) -> torch.Tensor:
        """Interpolate a scan (N, 1, [Z,] Y, X) to the grid of the output."""
        if self.factor == 1:
            return x
        return interpolated(x, self.kernel, self.factor)

    def output(
        self, residual: torch.Tensor, time: torch.Tensor, enlarged: torch.Tensor
    ) -> torch.Tensor:
        """Return the velocity for noisy residuals, given the enlarged scan.

        Parameters
        ----------
        residual, enlarged : Tensor of shape (N, 1, [Z,] Y, X)
        time : Tensor of shape (N,) or (1,)
        """
        both, block = torch.cat([residual, enlarged], dim=1), self.config.merge
        if block == 1:
            return self.unet.output(both, time)
        merged = self.unet.output(merge_voxels(pad_to(both, block), block), time)
        return crop_to(pixel_shuffle(merged, block), residual.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean image for a scan ``(N, 1, [Z,] Y, X)``."""
        enlarged = self.enlarge(x)
        # The velocity at the last time step is minus the residual.
        last = torch.tensor([LAST_TIME])
        velocity = self.output(torch.zeros_like(enlarged), last, enlarged)
        return enlarged - self.scale * velocity


def build(config: NetworkConfig) -> ResidualDiffusion:
    """Build a network with initial weights."""
    return ResidualDiffusion(config)
