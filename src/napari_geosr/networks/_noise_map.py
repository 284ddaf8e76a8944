"""Noise input of a network, and the bound it sets on the result.

A network that knows the level of the noise can be kept from moving a voxel by more than
a multiple of it: structure that exceeds the noise cannot be removed, and at level zero
the result is the input. The same bound serves networks that were trained with the level
as an input [1]_ [2]_ and those that never heard of it.

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

#: Edge of the box whose mean stands for the noise-free grey value of its centre.
BOX = 5
#: How far beyond a voxel its noise level is drawn from.
REACH = BOX // 2
#: Of these axes the correlation is an input, in this order.
AXES = ("z", "y", "x")
#: Before anybody has said what the noise is like: standard deviations of the input.
UNTOLD = 0.25
_LEAST = 1e-12
#: How sharply a change bends into its bound, and where it has long reached it.
_KNEE, _FAR = 8, 50.0


def bounded(
    x: torch.Tensor, change: torch.Tensor, level: torch.Tensor, bound: float
) -> torch.Tensor:
    """Take `change` from `x`, no voxel by more than ``bound · level``.

    ``x - m · s(change / m)`` with ``m = bound · level`` and
    ``s(u) = u / (1 + |u|^8)^(1/8)``: up to three quarters of the bound a change is
    taken as it is (to 1 %), where a hyperbolic tangent would leave a sixth of it
    behind. `x` itself where the level is zero.
    """
    most = bound * level
    part = (change / most.clamp_min(_LEAST)).clamp(-_FAR, _FAR)
    kept = part / (1 + part.abs() ** _KNEE) ** (1 / _KNEE)
    return torch.where(most > 0, x - most * kept, x)


class NoiseMap(nn.Module):
    """The noise of a scan as a network sees it: a level per voxel, and correlations.

    Attributes
    ----------
    greys, levels : Tensor of shape (n,)
        The curve of `napari_geosr.core.noise.Noise`, in the network's grey values.
    correlation : Tensor of shape (3,)
        Along Z, Y and X.
    """

    greys: torch.Tensor
    levels: torch.Tensor
    correlation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not weights: they belong to a scan, not to the model.
        greys, levels = torch.tensor([-1.0, 1.0]), torch.full((2,), UNTOLD)
        self.register_buffer("greys", greys, persistent=False)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("correlation", torch.zeros(3), persistent=False)

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of a scan, in the network's grey values."""
        like = self.greys
        self.greys = torch.tensor(noise.greys, dtype=like.dtype, device=like.device)
        self.levels = torch.tensor(noise.levels, dtype=like.dtype, device=like.device)
        found = [noise.correlation.get(axis, 0.0) for axis in AXES]
        self.correlation = torch.tensor(found, dtype=like.dtype, device=like.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Level of every voxel ``(N, 1, [Z,] Y, X)`` of a window ``(N, C, [Z,] Y, X)``.

        The mean over a box, and over all channels (adjacent slices), stands for the
        noise-free grey value.
        """
        return level_map(x, self.greys, self.levels)


def level_map(
    x: torch.Tensor, greys: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """See :meth:`NoiseMap.forward`; `greys` and `levels` have the shape (n,)."""
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
    """Piecewise linear through `values` at ascending `places`, constant beyond."""
    right = torch.bucketize(x.contiguous(), places).clamp(1, len(places) - 1)
    left = right - 1
    width = places[right] - places[left]
    share = ((x - places[left]) / width).clamp(0, 1)
    return values[left] + share * (values[right] - values[left])
