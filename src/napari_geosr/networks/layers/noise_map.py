"""Noise input of a network, and the bound that the noise sets on the result.

If the noise level is known, the change of each voxel can be limited to a multiple of
it: structure that exceeds the noise cannot be removed, and at level zero the result is
the input. The bound works for networks that were trained with the level as an input
[1]_ [2]_ and for those that were not.

References
----------
.. [1] Zhang, Zuo, Zhang. FFDNet: toward a fast and flexible solution for CNN-based
   image denoising. IEEE TIP 27, 4608-4622 (2018). doi:10.1109/TIP.2018.2839891
.. [2] Zhang et al. Plug-and-play image restoration with deep denoiser prior. IEEE
   TPAMI 44, 6360-6376 (2022). doi:10.1109/TPAMI.2021.3088914
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from napari_geosr.core.noise import Noise

#: Edge length, in voxels, of the box for the mean that estimates the noise-free grey
#: value.
BOX = 5
#: Radius, in voxels, of the neighbourhood that determines a voxel's noise level.
REACH = BOX // 2
#: Axes of the noise correlation, in the order of the input channels.
AXES = ("z", "y", "x")
#: Noise level assumed until `set_noise` is called, in standard deviations of the input.
UNKNOWN_LEVEL = 0.25
#: Minimum bound used as a divisor, to avoid dividing by zero.
_MIN_BOUND = 1e-12
#: Exponent of the saturation function of `bounded`.
_SATURATION_EXPONENT = 8
#: Multiple of the bound at which changes are clipped to avoid overflow.
_SATURATION_LIMIT = 50.0


def bounded(
    x: torch.Tensor, change: torch.Tensor, level: torch.Tensor, bound: float
) -> torch.Tensor:
    """Subtract `change`, limited to ``bound · level`` at every voxel, from `x`.

    Returns ``x - m · s(change / m)`` with ``m = bound · level`` and
    ``s(u) = u / (1 + |u|^8)^(1/8)``. Changes of up to three quarters of the bound are
    reduced by at most 1.2 %; a hyperbolic tangent would reduce them by up to 15 %.
    Where the level is zero, `x` is unchanged.
    """
    most = bound * level
    part = (change / most.clamp_min(_MIN_BOUND)).clamp(
        -_SATURATION_LIMIT, _SATURATION_LIMIT
    )
    kept = part / (1 + part.abs() ** _SATURATION_EXPONENT) ** (1 / _SATURATION_EXPONENT)
    return torch.where(most > 0, x - most * kept, x)


class NoiseMap(nn.Module):
    """The noise of a scan as input of a network: a level per voxel, and correlations.

    Attributes
    ----------
    greys, levels : Tensor of shape (n,)
        Noise level by grey value (`napari_geosr.core.noise.Noise`), in the grey scale
        of the network.
    correlation : Tensor of shape (3,)
        Correlation of adjacent voxels along Z, Y and X.
    """

    greys: torch.Tensor
    levels: torch.Tensor
    correlation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not stored with the weights: these buffers belong to a scan, not to the model.
        greys, levels = torch.tensor([-1.0, 1.0]), torch.full((2,), UNKNOWN_LEVEL)
        self.register_buffer("greys", greys, persistent=False)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("correlation", torch.zeros(3), persistent=False)

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of a scan, on the network's grey scale."""
        like = self.greys
        self.greys = torch.tensor(noise.greys, dtype=like.dtype, device=like.device)
        self.levels = torch.tensor(noise.levels, dtype=like.dtype, device=like.device)
        found = [noise.correlation.get(axis, 0.0) for axis in AXES]
        self.correlation = torch.tensor(found, dtype=like.dtype, device=like.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the noise level ``(N, 1, [Z,] Y, X)`` at every voxel.

        The mean over a box and over all channels (adjacent slices) serves as an
        estimate of the noise-free grey value.
        """
        return level_map(x, self.greys, self.levels)


def level_map(
    x: torch.Tensor, greys: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Compute `NoiseMap.forward` with the given `greys` and `levels` of shape (n,)."""
    if len(greys) == 1:
        return levels.to(x.dtype).expand(x.shape[0], 1, *x.shape[2:])
    n = x.ndim - 2
    pool = functional.avg_pool3d if n == 3 else functional.avg_pool2d
    mean = x.mean(1, keepdim=True)
    mean = pool(functional.pad(mean, (REACH, REACH) * n, mode="replicate"), BOX, 1)
    return interpolate(mean, greys.to(x.dtype), levels.to(x.dtype))


def interpolate(
    x: torch.Tensor, places: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Interpolate linearly between `values` at ascending `places`; constant beyond."""
    right = torch.bucketize(x.contiguous(), places).clamp(1, len(places) - 1)
    left = right - 1
    width = places[right] - places[left]
    share = ((x - places[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
