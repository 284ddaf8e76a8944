"""Residual block of two convolutions; the maps are modified in place."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class TwoLayerBlock(nn.Module):
    """``x + conv(relu(conv(x)))``.

    Parameters
    ----------
    conv : type of Module
        ``Conv2d`` or ``Conv3d``.
    features : int
        Number of feature maps.
    """

    def __init__(self, conv: type[nn.Module], features: int) -> None:
        super().__init__()
        self.first = conv(features, features, 3, padding=1)
        self.second = conv(features, features, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)  # type: ignore[operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Modify the maps in place: they are large, and nothing else needs them.
        maps = functional.relu(self.first(x), inplace=True)
        changed: torch.Tensor = self.second(maps)
        return changed.add_(x)
