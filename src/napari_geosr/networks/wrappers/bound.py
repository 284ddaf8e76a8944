"""Add a noise bound to a denoiser that was trained without one."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import nn

from napari_geosr.core.errors import ModelError
from napari_geosr.core.noise import Noise
from napari_geosr.networks.layers import noise_map
from napari_geosr.networks.layers.noise_map import NoiseMap, bounded
from napari_geosr.networks.spec import NetworkSpec


class NoiseBound(nn.Module):
    """A denoiser with changes limited to a multiple of the noise level.

    The change of every voxel is kept below ``bound · level``. Noise is therefore
    removed to the same extent as by the denoiser alone, whereas structure that exceeds
    the noise is preserved.

    Parameters
    ----------
    network : nn.Module
        A denoiser of grey values; its output has the grey scale of its input.
    bound : float
        Largest change, in standard deviations of the noise.
    """

    needs_noise = True

    def __init__(self, network: nn.Module, bound: float) -> None:
        super().__init__()
        spec = cast(NetworkSpec, network.spec)
        if set(spec.upscale_factor) != {1} or spec.n_outputs != 1:
            raise ModelError(
                "The noise bound needs a network that keeps the voxel size and has "
                "one output channel."
            )
        self.network, self.bound, self.noise = network, bound, NoiseMap()
        self.spec = replace(
            spec, halo=tuple(max(h, noise_map.REACH) for h in spec.halo)
        )
        self.train(network.training)

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
            Correlation of the noise; accepted for compatibility, not used here.
        """
        centre = self.spec.adjacent_slices // 2
        middle = x[:, centre : centre + 1]
        if level is None:
            level = self.noise(x)
        return bounded(middle, middle - self.network(x), level, self.bound)
