"""Total-variation denoising, which yields images with few but sharp edges.

The filter minimises ``½‖u − x‖² + w·TV(u)`` (isotropic; Rudin, Osher and Fatemi 1992)
by a fixed number of iterations of the fast gradient projection of Beck and Teboulle
[1]_. The objective is the same as in ``skimage.restoration.denoise_tv_chambolle``, but
the stopping criterion of that function depends on the whole image and is not available
in tiles. Each iteration extends the receptive field by one voxel, so tiles are exact
with a halo of as many voxels as iterations.

References
----------
.. [1] A. Beck, M. Teboulle. Fast gradient-based algorithms for constrained total
   variation image denoising and deblurring problems. IEEE Trans. Image Process. 18,
   2419-2434 (2009). doi:10.1109/TIP.2009.2028250
"""

from __future__ import annotations

import math

import torch
from pydantic import Field

from napari_geosr.networks.classical._filter import Filter, FilterConfig
from napari_geosr.networks.layers.parts import cut

#: Strengths that are tried on a scan, in ascending order.
STRENGTHS = (0.12, 0.25, 0.45, 0.75, 1.2, 2.0, 3.5)


class NetworkConfig(FilterConfig):
    """Settings of a total variation filter."""

    strength: float = Field(1.0, ge=0, le=20)
    """Weight of the total variation, in standard deviations of the noise."""
    iterations: int = Field(12, ge=1, le=200)
    """Number of iterations, and radius of the receptive field in voxels. In
    smooth images with strong noise, more than 12 give a better result."""


class TotalVariation(Filter):
    """Fast gradient projection with a fixed number of iterations; exact in tiles."""

    needs_noise = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, config.iterations)
        self.iterations = config.iterations
        self.strength = config.strength

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter ``(N, 1, [Z,] Y, X)``."""
        return self.restore_core(x, tuple(slice(0, size) for size in x.shape[2:]))

    @torch.no_grad()
    def restore_core(self, x: torch.Tensor, core: tuple[slice, ...]) -> torch.Tensor:
        """Filter ``(N, 1, [Z,] Y, X)``, and return only a part of the result.

        With each iteration, one voxel less is needed around this part, so that a window
        with a halo takes about half as long as with `forward`.

        Parameters
        ----------
        x : Tensor
        core : tuple of slice
            The part to compute, as a slice for each spatial axis.
        """
        weight = self.strength * self.level
        if weight == 0:
            return cut(x, core).clone()
        n = self.config.ndim
        step = 1 / (4 * n * weight)
        # The dual field with one component per axis (first dimension), and the point
        # from which the next iteration starts.
        p = x.new_zeros((n, *x.shape))
        ahead = p.clone()
        t = 1.0
        start = [0] * n
        for left in reversed(range(self.iterations)):
            self.pause()
            u = _primal(x, ahead, weight) if t > 1 else x
            for axis, part in enumerate(ahead):
                length = u.shape[2 + axis]
                inner_part = part.narrow(2 + axis, 0, length - 1)
                inner_part.sub_(u.narrow(2 + axis, 1, length - 1), alpha=step)
                inner_part.add_(u.narrow(2 + axis, 0, length - 1), alpha=step)
            # Keep only the voxels that later iterations need: near an edge beyond which
            # the scan continues, the values are now wrong.
            needed = [
                slice(
                    max(0, part.start - 1 - left - first),
                    min(size, part.stop + left - first),
                )
                for part, first, size in zip(core, start, x.shape[2:], strict=True)
            ]
            x, p, ahead = (cut(field, needed) for field in (x, p, ahead))
            start = [a + part.start for a, part in zip(start, needed, strict=True)]
            # `vector_norm` over the first axis is ten times slower on a CPU.
            norm = ahead[0].square()
            for part in ahead[1:]:
                norm.addcmul_(part, part)
            ahead /= norm.sqrt_().clamp_(min=1)
            following = (1 + math.sqrt(1 + 4 * t * t)) / 2
            momentum = (t - 1) / following
            p, ahead, t = ahead, torch.lerp(p, ahead, 1 + momentum), following
        inner = [
            slice(part.start - a, part.stop - a)
            for part, a in zip(core, start, strict=True)
        ]
        return cut(_primal(x, p, weight), inner)


def _primal(x: torch.Tensor, p: torch.Tensor, weight: float) -> torch.Tensor:
    """Return the image for a dual field: ``x − w·∇ᵀ(−p)``."""
    u = x.clone()
    for axis, part in enumerate(p):
        length = u.shape[2 + axis]
        u.sub_(part, alpha=weight)
        u.narrow(2 + axis, 1, length - 1).add_(
            part.narrow(2 + axis, 0, length - 1), alpha=weight
        )
    return u


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of weights: none."""
    return 0


def build(config: NetworkConfig) -> TotalVariation:
    """Build the filter that `config` describes."""
    return TotalVariation(config)
