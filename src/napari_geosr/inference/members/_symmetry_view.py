"""A network on windows that are mirrored and turned."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from napari_geosr.core.noise import Noise
from napari_geosr.inference.members._symmetry import Symmetry
from napari_geosr.inference.memory import network_spec
from napari_geosr.networks import tell_noise


class SymmetryView(nn.Module):
    """A network on a mirrored or turned window; its output is turned back."""

    def __init__(self, network: nn.Module, symmetry: Symmetry) -> None:
        super().__init__()
        self.network, self.symmetry = network, symmetry
        self._volumes = network_spec(network).axes == "ZYX"

    def set_noise(self, noise: Noise) -> None:
        """Tell the network the noise of the window as it lies for it."""
        found = dict(noise.correlation)
        if self.symmetry.quarter_turns % 2 and {"y", "x"} <= found.keys():
            found["y"], found["x"] = found["x"], found["y"]
        tell_noise(self.network, replace(noise, correlation=found))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn, run, turn back."""
        how = self.symmetry
        if how.mirrored:
            x = x.flip(-1)
        x = torch.rot90(x, how.quarter_turns, (-2, -1))
        if how.upside_down:  # of a 2.5D network the planes are channels
            x = x.flip(-3)
        y: torch.Tensor = self.network(x.contiguous())
        if how.upside_down and self._volumes:
            y = y.flip(-3)
        y = torch.rot90(y, -how.quarter_turns, (-2, -1))
        return y.flip(-1) if how.mirrored else y
