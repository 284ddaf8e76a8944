"""Mean and standard deviation of members, one after the other (Welford's sums).

Welford. Note on a method for calculating corrected sums of squares and products.
Technometrics 4, 419-420 (1962). doi:10.1080/00401706.1962.10490022
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from napari_geosr.networks.spec import NetworkSpec


class Members(nn.Module):
    """Runs each member on the same window; keeps sums, never all their outputs.

    Parameters
    ----------
    members : sequence of nn.Module
        Each takes the window as `spec` says and gives one channel.
    spec : NetworkSpec
        With a halo that suits all members, and two outputs.
    facts : sequence of str
        What each member is, for the record of a run.

    Notes
    -----
    The output has two channels: the mean, and the standard deviation with n - 1 in the
    denominator. The order of the members is fixed, so that a window has the same values
    in every run; another order would change them by rounding alone.
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
        """Mean and deviation of a window, shape (1, 2, [Z,] Y, X)."""
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
