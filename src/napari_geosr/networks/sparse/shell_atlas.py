"""A statistical model of closed shells: mean maps, and their joint variation.

The model is not a neural network: its parameters are the mean of many shells and their
principal components over the directions from the centre (`_shells`). A shell with a
missing part is fitted where it is known; the difference from the fit is extended
smoothly into the missing part.

References
----------
.. [1] Fuessinger et al. Planning of skull reconstruction based on a statistical shape
   model combined with geometric morphometrics. Int. J. CARS 13, 519–529 (2018).
   doi:10.1007/s11548-017-1674-6
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.sparse._directions import DirectionGrid, direction_grid
from napari_geosr.networks.sparse._shells import (
    ShellMaps,
)
from napari_geosr.networks.spec import NetworkSpec

#: Assumed standard deviation of the difference between measured and fitted maps,
#: relative to the ellipsoid's radius.
_FIT_ERROR = 0.01
#: Minimum fraction of training shells with a wall in a direction for a wall to be
#: expected there.
_EXPECTED = 0.5
#: Deviation of the outer radius from the fit, relative to the wall's thickness, beyond
#: which a wall counts as cut from outside.
_INWARD = -0.5
#: Deviation of the outer radius from the fit, relative to the wall's thickness, beyond
#: which another structure is assumed to lie outside the wall.
_OUTWARD = 0.6
#: Thickness, as a fraction of the fitted thickness, below which a wall counts as cut.
_THIN = 0.5
#: Number of repetitions of the fit without the missing parts.
_FITS = 3
#: Number of rings of directions around a missing part that are predicted as well.
_MARGIN = 3
#: Minimum number of directions in a missing part.
_MIN_DIRECTIONS = 6


class NetworkConfig(Config):
    """Settings of a statistical model of shells."""

    directions: int = Field(
        6000,
        ge=200,
        le=100_000,
        title="Directions",
        description="Number of directions in which shells are described.",
    )
    components: int = Field(
        16,
        ge=1,
        le=200,
        title="Components",
        description="Number of principal components.",
    )


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters."""
    return config.directions * (2 * config.components + 3)


@dataclass(frozen=True)
class PredictedShell:
    """A completed shell.

    Attributes
    ----------
    maps : ShellMaps
        Maps of the shell, known in all directions.
    missing : ndarray of bool, shape (N,)
        Directions in which a part is missing, with a margin.
    reproduced : float
        Fraction of the directions with an expected and an actual wall in which the wall
        is as predicted; low for shapes unlike those used for training.
    """

    maps: ShellMaps
    missing: AnyArray
    reproduced: float


class ShellAtlas(nn.Module):
    """Statistical model of closed shells; see the module docstring.

    Parameters
    ----------
    directions, components : int
    """

    def __init__(self, directions: int, components: int) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            axes="ZYX",
            halo=(0, 0, 0),
            stride=(1, 1, 1),
            upscale_factor=(1, 1, 1),
            local=False,
            input="shape",
        )
        self.mean = nn.Parameter(torch.ones(2, directions), requires_grad=False)
        self.components = nn.Parameter(
            torch.zeros(components, 2, directions), requires_grad=False
        )
        self.presence = nn.Parameter(torch.ones(directions), requires_grad=False)

    @property
    def grid(self) -> DirectionGrid:
        """The grid of directions."""
        return direction_grid(len(self.presence))

    @classmethod
    def fitted(cls, shells: list[ShellMaps], components: int) -> ShellAtlas:
        """Fit the model to a list of complete shells.

        Parameters
        ----------
        shells : list of ShellMaps
            Three or more shells over the same directions.
        components : int
            Number of principal components; at most one less than the number of shells.
        """
        present = np.array([shell.present for shell in shells])
        grid = direction_grid(present.shape[1])
        presence = present.mean(0)
        rows = []
        for shell in shells:
            known = shell.present & (presence > _EXPECTED)
            rows.append(
                np.concatenate(
                    [
                        grid.filled(np.nan_to_num(shell.outer), known),
                        grid.filled(np.nan_to_num(shell.thickness), known),
                    ]
                )
            )
        table = np.array(rows)
        mean = table.mean(0)
        _, sizes, axes = np.linalg.svd(table - mean, full_matrices=False)
        scaled = axes[:components] * sizes[:components, None] / np.sqrt(len(rows))
        made = cls(present.shape[1], components)
        made.mean.copy_(torch.from_numpy(mean.reshape(2, -1)))
        made.components.copy_(torch.from_numpy(scaled.reshape(components, 2, -1)))
        made.presence.copy_(torch.from_numpy(presence))
        return made

    def present_share(self, given: ShellMaps) -> float:
        """Return the fraction of the directions with an expected wall that have one."""
        expected = self.presence.numpy() > _EXPECTED
        return float(given.present[expected].mean()) if expected.any() else 0.0

    def predicted(self, given: ShellMaps, smallest: float = 0.1) -> PredictedShell:
        """Complete a shell.

        Parameters
        ----------
        given : ShellMaps
        smallest : float
            Missing parts smaller than this fraction of the largest one are ignored.
        """
        grid, present = self.grid, given.present
        expected = self.presence.numpy() > _EXPECTED
        known = present & expected
        fit = self._fit(given, known)
        cut = expected & ~present
        for _ in range(_FITS):
            with np.errstate(invalid="ignore"):
                moved = (given.outer - fit.outer) / fit.thickness
                thin = given.thickness < _THIN * fit.thickness
            cut = expected & (~present | (moved < _INWARD) | (moved > _OUTWARD) | thin)
            known = present & expected & ~cut
            if not known.any():
                break
            fit = self._fit(given, known)
        missing = self._large_parts(cut, smallest)
        known &= ~missing
        agrees = known.sum() / max(1, int((expected & present & ~missing).sum()))
        outer, thickness = (
            base + grid.filled(np.nan_to_num(own) - base, known)
            for base, own in (
                (fit.outer, given.outer),
                (fit.thickness, given.thickness),
            )
        )
        return PredictedShell(ShellMaps(outer, thickness), missing, float(agrees))

    def _large_parts(self, cut: AnyArray, smallest: float) -> AnyArray:
        """Return the directions of large missing parts, with a margin."""
        grid = self.grid
        pieces = grid.pieces(grid.shrunk(cut))
        missing = np.zeros(len(cut), bool)
        largest = max((len(piece) for piece in pieces), default=0)
        for piece in pieces:
            if len(piece) >= max(_MIN_DIRECTIONS, smallest * largest):
                missing[piece] = True
        return grid.grown(missing, _MARGIN)

    def _fit(self, given: ShellMaps, known: AnyArray) -> ShellMaps:
        """Return the most likely shell of the model, given the known directions."""
        mean = self.mean.double().numpy().ravel()
        axes = self.components.double().numpy().reshape(len(self.components), -1)
        both = np.concatenate([known, known])
        values = np.concatenate([given.outer, given.thickness])[both] - mean[both]
        seen = axes[:, both]
        normal = seen @ seen.T / _FIT_ERROR**2 + np.eye(len(axes))
        scores = np.linalg.solve(normal, seen @ values / _FIT_ERROR**2)
        outer, thickness = (mean + scores @ axes).reshape(2, -1)
        return ShellMaps(outer, thickness)


def build(config: NetworkConfig) -> ShellAtlas:
    """Build an untrained model, which describes a sphere."""
    return ShellAtlas(config.directions, config.components)
