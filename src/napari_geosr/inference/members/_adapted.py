"""A model's network on windows that a run has scaled and cut for several models."""

from __future__ import annotations

import torch
from torch import nn

from napari_geosr.core.noise import Noise
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.windows import Standardisation
from napari_geosr.models.bundle import Model
from napari_geosr.networks import tell_noise


class AdaptedNetwork(nn.Module):
    """A model's network on windows of a run: its own planes and its own grey scale.

    Parameters
    ----------
    planes : int
        Neighbouring planes that the run gives (2.5D); the network takes the middle of
        them.
    """

    def __init__(self, model: Model, run: Standardisation, planes: int) -> None:
        super().__init__()
        self.network = model.restorer()
        own = network_spec(self.network).adjacent_slices
        first = (planes - own) // 2
        self._planes = slice(first, first + own)
        self._volumes = model.card.axes == "ZYX"
        self._into, self._back = (1.0, 0.0), (1.0, 0.0)
        scale = model.card.normalisation
        if scale.kind == "stored":
            assert scale.mean is not None
            assert scale.std is not None
            assert scale.output_mean is not None
            assert scale.output_std is not None
            self._into = (
                run.input_std / scale.std,
                (run.input_mean - scale.mean) / scale.std,
            )
            self._back = (
                scale.output_std / run.output_std,
                (scale.output_mean - run.output_mean) / run.output_std,
            )

    def set_noise(self, noise: Noise) -> None:
        """Tell the network the noise of the run, on its own grey scale."""
        factor, offset = self._into
        tell_noise(self.network, noise.standardised(-offset / factor, 1 / factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the model makes of the window, on the run's scale."""
        if not self._volumes:
            x = x[:, self._planes]
        if self._into != (1.0, 0.0):
            x = x * self._into[0] + self._into[1]
        y: torch.Tensor = self.network(x)
        return y if self._back == (1.0, 0.0) else y * self._back[0] + self._back[1]
