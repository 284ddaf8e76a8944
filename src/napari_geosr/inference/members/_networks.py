"""Networks that run all members and output their mean and standard deviation.

Mean and standard deviation are accumulated member by member [1]_.

References
----------
.. [1] Welford. Note on a method for calculating corrected sums of squares and products.
   Technometrics 4, 419-420 (1962). doi:10.1080/00401706.1962.10490022
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from napari_geosr.core.noise import Noise
from napari_geosr.inference.members._symmetry import Symmetry
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.windows import Standardisation
from napari_geosr.models.bundle import Model
from napari_geosr.networks import set_network_noise
from napari_geosr.networks.spec import NetworkSpec


class EnsembleNetwork(nn.Module):
    """Runs each member on the same window; keeps sums rather than all outputs.

    Parameters
    ----------
    members : sequence of nn.Module
        Networks, each of which maps a window described by `spec` to one channel.
    spec : NetworkSpec
        Specification with a halo large enough for all members, and two outputs.
    facts : sequence of str
        Description of each member, for the record of a run.

    Notes
    -----
    The output has two channels: the mean, and the standard deviation with n - 1 in the
    denominator. The order of the members is fixed, so that a window has the same values
    in every run; a different order would lead to different rounding errors.
    """

    def __init__(
        self, members: Sequence[nn.Module], spec: NetworkSpec, facts: Sequence[str]
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.spec = spec
        self.facts = tuple(facts)
        self.eval()

    def __len__(self) -> int:
        return len(self.members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return mean and standard deviation of a window, shape (1, 2, [Z,] Y, X)."""
        mean: Any = None
        squares: Any = None
        for n, member in enumerate(self.members, start=1):
            y = member(x)
            if mean is None:
                mean, squares = y.clone(), torch.zeros_like(y)
                continue
            shift = y - mean
            mean += shift / n
            squares.addcmul_(shift, y - mean)
            del y, shift
        deviation = squares.div_(len(self.members) - 1).clamp_(min=0).sqrt_()
        return torch.cat([mean, deviation], dim=1)


class AdaptedNetwork(nn.Module):
    """Adapts planes and grey scale of windows to a model, and runs its network on them.

    Parameters
    ----------
    planes : int
        Number of adjacent planes in the run's windows (2.5D); the network uses the
        middle ones.
    """

    def __init__(self, model: Model, run: Standardisation, planes: int) -> None:
        super().__init__()
        self.network = model.restorer()
        n_planes = network_spec(self.network).adjacent_slices
        first = (planes - n_planes) // 2
        self._planes = slice(first, first + n_planes)
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
        """Set the noise of the run, converted to the network's grey scale."""
        factor, offset = self._into
        set_network_noise(
            self.network, noise.standardised(-offset / factor, 1 / factor)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the model for a window, on the run's grey scale."""
        if not self._volumes:
            x = x[:, self._planes]
        if self._into != (1.0, 0.0):
            x = x * self._into[0] + self._into[1]
        y: torch.Tensor = self.network(x)
        return y if self._back == (1.0, 0.0) else y * self._back[0] + self._back[1]


class SymmetryView(nn.Module):
    """Runs a network on a mirrored or rotated window and transforms its output back."""

    def __init__(self, network: nn.Module, symmetry: Symmetry) -> None:
        super().__init__()
        self.network, self.symmetry = network, symmetry
        self._volumes = network_spec(network).axes == "ZYX"

    def set_noise(self, noise: Noise) -> None:
        """Set the noise, transformed like the window."""
        correlation = dict(noise.correlation)
        if self.symmetry.quarter_turns % 2 and {"y", "x"} <= correlation.keys():
            correlation["y"], correlation["x"] = correlation["x"], correlation["y"]
        set_network_noise(self.network, replace(noise, correlation=correlation))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for the transformed window, transformed back."""
        symmetry = self.symmetry
        if symmetry.mirrored:
            x = x.flip(-1)
        x = torch.rot90(x, symmetry.quarter_turns, (-2, -1))
        if symmetry.upside_down:  # in a 2.5D network the planes are channels
            x = x.flip(-3)
        y: torch.Tensor = self.network(x.contiguous())
        if symmetry.upside_down and self._volumes:
            y = y.flip(-3)
        y = torch.rot90(y, -symmetry.quarter_turns, (-2, -1))
        return y.flip(-1) if symmetry.mirrored else y
