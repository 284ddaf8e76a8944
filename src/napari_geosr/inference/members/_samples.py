"""Use a diffusion model as the network of a run: mean and deviation of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.networks.spec import NetworkSpec


class SampledNetwork(nn.Module):
    """Draws samples for a window, and returns their mean and standard deviation.

    Parameters
    ----------
    network : Module
        A diffusion network.
    spec : NetworkSpec
        Specification with two outputs.
    number : int
        Number of samples.
    seed : int
        Seed for all samples.
    steps : int
        Number of steps of each sample.

    Attributes
    ----------
    noise : Noise or None
        Noise of the scan, on the network's grey scale.
    sampler : callable or None
        ``sampler(scan, key) -> sample``, made for this network and noise.
    """

    needs_noise = True

    def __init__(
        self, network: nn.Module, spec: NetworkSpec, number: int, seed: int, steps: int
    ) -> None:
        super().__init__()
        self.network, self.spec = network, spec
        self.number, self.seed, self.steps = number, seed, steps
        self.facts = tuple(f"sample {i} of seed {seed}" for i in range(number))
        self.noise: Noise | None = None
        self.sampler: Callable[..., AnyArray] | None = None
        self.eval()

    def __len__(self) -> int:
        return self.number

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of the scan, on the network's grey scale."""
        self.noise = noise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mean and standard deviation of a window, shape (1, 2, [Z,] Y, X)."""
        sampler: Any = self.sampler
        scan = x[0, 0].cpu().numpy()
        drawn = torch.stack(
            [
                torch.from_numpy(sampler(scan, (self.seed, i)))
                for i in range(self.number)
            ]
        )
        both = torch.stack([drawn.mean(0), drawn.std(0)])[None]
        return both.to(x.device)
