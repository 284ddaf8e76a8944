"""Non-local means: every voxel becomes the mean of voxels with similar surroundings.

The weight of a pair of voxels is ``exp(−max(d² − 2σ², 0) / h²)``, where ``d²`` is the
mean squared difference between the patches around them, as in
``skimage.restoration.denoise_nl_means``. The fast mode of that function uses patches
that are one voxel too short, which makes the result one to three decibels worse; this
filter uses whole patches. Voxels are compared within a box, so tiles are exact with a
halo equal to the sum of the radii of patch and box.

References
----------
.. [1] A. Buades, B. Coll, J.-M. Morel. A non-local algorithm for image denoising.
   CVPR 2005, 2, 60-65. doi:10.1109/CVPR.2005.38
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import Field
from torch.nn import functional

from napari_geosr.networks.classical._filter import Filter, FilterConfig

#: Radius of the patch, in voxels.
_PATCH_RADIUS = 1
#: Half-width of the search window, by number of axes, in voxels.
_BOX_RADIUS = {2: 6, 3: 2}
#: Strengths that are tried on a scan, in ascending order.
STRENGTHS = (0.3, 0.5, 0.75, 1.05, 1.5, 2.2)
#: The filter compares patches, which correlated noise makes similar; the ranking of
#: filters and networks allows for this.
COMPARES_PATCHES = True


class NetworkConfig(FilterConfig):
    """Settings of non-local means."""

    strength: float = Field(0.9, ge=0, le=20)
    """Cut-off *h* of the distance between patches, in standard deviations of the
    noise."""
    patch_radius: int | None = Field(None, ge=0, le=5)
    """Radius of the patches; by default 1."""
    patch_distance: int | None = Field(None, ge=1, le=15)
    """Maximum distance between patches along each axis; by default 6 in planes and 2 in
    volumes."""

    @property
    def radii(self) -> tuple[int, int]:
        """Radii of patch and box, with defaults filled in."""
        patch, box = self.patch_radius, self.patch_distance
        return (
            _PATCH_RADIUS if patch is None else patch,
            _BOX_RADIUS[self.ndim] if box is None else box,
        )


class NonLocalMeans(Filter):
    """Non-local means with a limited search window, exact in tiles."""

    needs_noise = True

    def __init__(self, config: NetworkConfig) -> None:
        patch, box = config.radii
        super().__init__(config, patch + box)
        self.patch, self.box = patch, box
        self.strength = config.strength

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Filter ``(N, 1, [Z,] Y, X)``."""
        h = self.strength * self.level
        if h == 0:
            return x.clone()
        n, r = self.config.ndim, self.patch
        around = functional.pad(x, (r,) * (2 * n), mode="replicate")
        total, weights = x.clone(), torch.ones_like(x)
        for shift in _half_of(self.box, n):
            if any(abs(s) >= m for s, m in zip(shift, x.shape[2:], strict=True)):
                continue
            self.pause()
            here, there = _overlap(shift, x.shape[2:])
            wide_here, wide_there = _overlap(shift, around.shape[2:])
            distance = (around[wide_here] - around[wide_there]).square_()
            distance = _box_sum(distance, r, n).div_((2 * r + 1) ** n)
            distance.sub_(2 * self.level**2).clamp_(min=0)
            weight = distance.div_(-(h**2)).exp_()
            total[here].addcmul_(weight, x[there])
            total[there].addcmul_(weight, x[here])
            weights[here].add_(weight)
            weights[there].add_(weight)
        return total.div_(weights)


def _half_of(radius: int, n: int) -> Iterator[tuple[int, ...]]:
    """Yield nonzero shifts within the box, one of each pair of opposite shifts."""
    for shift in itertools.product(range(-radius, radius + 1), repeat=n):
        if shift > (0,) * n:
            yield shift


def _overlap(shift: Sequence[int], shape: Sequence[int]) -> tuple[Any, Any]:
    """Return the indices of voxels with a partner at `shift`, and of their partners."""
    here = [slice(max(0, -s), m - max(0, s)) for s, m in zip(shift, shape, strict=True)]
    there = [
        slice(max(0, s), m - max(0, -s)) for s, m in zip(shift, shape, strict=True)
    ]
    return (..., *here), (..., *there)


def _box_sum(x: torch.Tensor, radius: int, n: int) -> torch.Tensor:
    """Return sums over boxes of edge length ``2·radius + 1`` that lie fully inside."""
    for axis in range(2, 2 + n):
        length = x.shape[axis] - 2 * radius
        total = x.narrow(axis, 0, length).clone() if radius else x
        for i in range(1, 2 * radius + 1):
            total += x.narrow(axis, i, length)
        x = total
    return x


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of weights: none."""
    return 0


def build(config: NetworkConfig) -> NonLocalMeans:
    """Build the filter that `config` describes."""
    return NonLocalMeans(config)
