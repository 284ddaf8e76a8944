"""Refine a shape without weights, by trilinear interpolation and a threshold.

This is a simple alternative to learned refinement. The new surface lies between old
voxels, but corners are rounded and structures thinner than two voxels become thinner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F  # noqa: N812  # torch's usual name

from napari_geosr.core.config import Config
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor


class NetworkConfig(Config):
    """The interpolation has no settings."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters: none."""
    return 0


class ShapeInterpolation(nn.Module):
    """Interpolation of a shape; see the module docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = NetworkSpec(
            axes="ZYX",
            halo=(1, 1, 1),
            stride=(1, 1, 1),
            upscale_factor=(2, 2, 2),
            input="shape",
        )

    def refined(
        self, occupied: Tensor, *, is_last: bool = True, dense: bool = False
    ) -> Tensor:
        """Return the shape at twice the resolution, a bool tensor (N, 1, 2Z, 2Y, 2X).

        `is_last` and `dense` have no effect.
        """
        del is_last, dense
        return F.interpolate(occupied, scale_factor=2, mode="trilinear") > 0.5


def build(config: NetworkConfig) -> ShapeInterpolation:
    """Build the interpolation."""
    return ShapeInterpolation()
