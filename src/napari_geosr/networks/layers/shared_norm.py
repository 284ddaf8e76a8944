"""Group norm of an image that is processed in windows.

A group norm uses the mean and the variance of the whole image. If the image is
processed in windows, they are first computed over all windows and then set here, so
that each window is normalised like the whole image.
"""

from __future__ import annotations

import torch
from torch import nn


class SharedGroupNorm(nn.GroupNorm):
    """Group norm that computes the statistics of its input, or uses given ones.

    Attributes
    ----------
    given : tuple of Tensor, or None
        Mean and variance of each group, of shape (N, groups); None: those of the input.

    Examples
    --------
    >>> norm, image = SharedGroupNorm(1, 8), torch.randn(1, 8, 64, 64)
    >>> whole = norm(image)
    >>> norm.given = image.mean().reshape(1, 1), image.var(correction=0).reshape(1, 1)
    >>> bool((norm(image[..., :32]) - whole[..., :32]).abs().max() < 1e-4)
    True
    """

    given: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise maps of shape ``(N, C, [Z,] Y, X)``."""
        if self.given is None:
            return super().forward(x)
        mean, variance = (
            v.repeat_interleave(x.shape[1] // v.shape[1], 1) for v in self.given
        )
        weight, bias = (v.detach().cpu().double() for v in (self.weight, self.bias))
        scale = torch.rsqrt(variance.cpu() + self.eps) * weight
        offset = bias - mean.cpu() * scale
        shape = (*scale.shape, *(1,) * (x.ndim - 2))
        return x * scale.to(x).reshape(shape) + offset.to(x).reshape(shape)


class GroupStatistics:
    """Mean and variance of groups of maps, combined from the windows of an image.

    Partial results are combined with the formula of Chan et al. [1]_, in float64.

    Parameters
    ----------
    groups : int
        Number of groups.

    References
    ----------
    .. [1] Chan, Golub & LeVeque. Algorithms for computing the sample variance. The
       American Statistician 37, 242-247 (1983). doi:10.1080/00031305.1983.10483115
    """

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._count = 0
        self._mean = self._squares = torch.zeros(())

    def add(self, maps: torch.Tensor) -> None:
        """Add the maps of a part of the image, of shape ``(N, C, [Z,] Y, X)``."""
        values = maps.reshape(len(maps), self._groups, -1)
        count = values.shape[2]
        # MPS has no float64; the sums of one window are accurate enough in float32.
        wide = torch.float32 if maps.device.type == "mps" else torch.float64
        mean = values.mean(2, dtype=wide).cpu().double()
        squares = values.var(2, correction=0).cpu().double() * count
        total = self._count + count
        shift = mean - self._mean
        self._squares = (
            self._squares + squares + shift**2 * (self._count * count / total)
        )
        self._mean = self._mean + shift * (count / total)
        self._count = total

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance of each group, of shape (N, groups), in float64."""
        return self._mean, self._squares / self._count
