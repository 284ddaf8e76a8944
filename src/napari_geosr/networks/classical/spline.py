"""Spline interpolation that preserves the mean grey value of every voxel.

The grey value of a voxel is the mean over its volume. The spline interpolates the
integrals of the scan up to the faces of its voxels; the mean of the finer voxels within
a voxel is therefore the value of this voxel [1]_. Interpolation at voxel centres, such
as cubic interpolation, blurs the scan once more.

References
----------
.. [1] Zerroukat, Wood, Staniforth. The Parabolic Spline Method (PSM) for conservative
   transport problems. International Journal for Numerical Methods in Fluids 51 (2006).
   doi:10.1002/fld.1154
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.config import Config
from napari_geosr.networks.spec import NetworkSpec

#: Interpolation has no strength setting.
STRENGTHS: tuple[float, ...] = ()
#: Number of voxels on either side on which a value depends: the weights decrease by a
#: factor of 3.7 per voxel, so that weights further away are below the precision of the
#: grey values.
_REACH = 12


class NetworkConfig(Config):
    """Settings of an interpolation."""

    ndim: Literal[2, 3] = 3
    """Number of spatial axes: planes (2) or volumes (3)."""
    upscale_factor: int = Field(2, ge=2, le=8)
    """Output voxels per input voxel along every axis."""


class SplineInterpolation(nn.Module):
    """Spline interpolation that preserves the means of voxels.

    Edge values are repeated beyond the border. Tiled results are exact.
    """

    weights: torch.Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        n, s = config.ndim, config.upscale_factor
        self.config = config
        self.register_buffer("weights", _weights(s).float(), persistent=False)
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(_REACH,) * n,
            stride=(1,) * n,
            upscale_factor=(s,) * n,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Interpolate ``(N, 1, [Z,] Y, X)``."""
        # Reduced precision would lose the last bits of the grey values.
        with torch.autocast(x.device.type, enabled=False):
            for axis in range(2, x.ndim):
                x = self._along(x, axis)
        return x

    def _along(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Interpolate along one axis."""
        lines = x.movedim(axis, -1)
        shape = lines.shape
        lines = lines.reshape(-1, 1, shape[-1])
        padded = functional.pad(lines, (_REACH, _REACH), mode="replicate")
        fine = functional.conv1d(padded, self.weights.to(x.dtype))
        return fine.transpose(1, 2).reshape(*shape[:-1], -1).movedim(-1, axis)


def _weights(factor: int) -> torch.Tensor:
    """Return the weights ``(factor, 1, 2 * _REACH + 1)`` for each finer voxel."""
    from scipy.interpolate import CubicSpline

    # Ends of the line more than twice the reach away have no influence.
    n = 4 * _REACH + 1
    integral = np.concatenate([np.zeros(2 * _REACH + 1), np.ones(2 * _REACH + 1)])
    faces = np.linspace(0, n, n * factor + 1)
    response = factor * np.diff(CubicSpline(np.arange(n + 1), integral)(faces))
    # Response of the finer voxels to the middle voxel, of shape (voxels, factor).
    middle = response.reshape(n, factor)[_REACH : 3 * _REACH + 1]
    weights = middle[::-1].T
    weights = weights / weights.sum(axis=1, keepdims=True)
    return torch.from_numpy(weights.copy())[:, None]


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of weights: none."""
    return 0


def build(config: NetworkConfig) -> SplineInterpolation:
    """Build the interpolation that `config` describes."""
    return SplineInterpolation(config)
