"""Simultaneous iterative reconstruction technique.

``x ← x + C Aᵀ R (p - A x)``, where R and C are the inverse row and column sums of A,
converges to a weighted least-squares solution [1]_.

References
----------
.. [1] Gregor, Benson. Computational analysis and improvement of SIRT. IEEE Trans. Med.
   Imaging 27, 918-924 (2008). doi:10.1109/TMI.2008.923696
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.iterations import (
    Iteration,
    IterativeConfig,
    OnIteration,
    check_stop,
    empty_volume,
    ignore_iteration,
    residual_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

TITLE = "SIRT"
BEAMS = ("parallel", "fan", "cone")


class Config(IterativeConfig):
    """Settings of SIRT."""

    relaxation: float = Field(
        1.0,
        gt=0,
        lt=2,
        title="Relaxation",
        description="Relaxation factor; SIRT converges only for values below 2.",
    )


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Iterate from a volume of zeros; see `napari_geosr.tomography.algorithms`."""
    from napari_geosr.physics.projection.projector import backproject, project

    one = sinogram.new_ones
    per_ray = _inverse(project(one(geometry.volume_shape), geometry))
    per_voxel = _inverse(backproject(one(geometry.sinogram_shape), geometry))
    per_voxel *= config.relaxation
    x = empty_volume(sinogram, geometry)
    for i in range(config.iterations):
        check_stop(should_stop)
        # The first step needs no projection: the projection of a zero volume is zero.
        difference = sinogram - project(x, geometry) if i else sinogram
        x += per_voxel * backproject(per_ray * difference, geometry)
        if config.nonnegative:
            x.clamp_(min=0)
        on_iteration(
            Iteration(i + 1, config.iterations, residual_of(difference, sinogram))
        )
    return x


def _inverse(sums: Tensor) -> Tensor:
    """Return 1 / `sums`; 0 where a ray or voxel has hardly any weight."""
    import torch

    # Grazing rays are excluded because they would strongly amplify noise.
    seen = sums > 1e-3 * sums.max()
    return torch.where(seen, 1 / sums.clamp(min=torch.finfo(sums.dtype).tiny), 0)
