"""Least squares with total variation, by the primal-dual method [1]_ [2]_.

Solves ``min ½ |A x - p|² + λ TV(x)``, where x is the attenuation per voxel, optionally
with x ≥ 0.

References
----------
.. [1] Chambolle, Pock. A first-order primal-dual algorithm for convex problems. J.
   Math. Imaging Vis. 40, 120-145 (2011). doi:10.1007/s10851-010-0251-1
.. [2] Sidky, Jørgensen, Pan. Convex optimization problem prototyping for image
   reconstruction in computed tomography with the Chambolle-Pock algorithm. Phys. Med.
   Biol. 57, 3065-3091 (2012). doi:10.1088/0031-9155/57/10/3065
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
    slice_axes,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

TITLE = "Total variation (TV)"
BEAMS = ("parallel", "fan", "cone")


class Config(IterativeConfig):
    """Settings of TV: weight of the smoothing and number of iterations."""

    iterations: int = Field(
        200,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Number of iterations. After 200 iterations, the result is close "
        "to the solution.",
    )
    weight: float = Field(
        0.05,
        ge=0,
        le=1000,
        title="Weight",
        description="Weight of the total variation, relative to the line integrals "
        "of a slice. Larger values remove noise and streaks, and eventually small "
        "structures.",
    )


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Iterate from a volume of zeros; see `napari_geosr.tomography.algorithms`.

    Total variation is computed within each slice, or within the volume for a cone beam.
    """
    from napari_geosr.physics.projection.projector import (
        backproject,
        operator_norm,
        project,
    )

    h, axes = geometry.voxel_size, slice_axes(geometry)
    # Each power iteration takes as long as a TV iteration, so check for a stop here as
    # well.
    norm = operator_norm(
        geometry, sinogram.device, before_each=lambda: check_stop(should_stop)
    )
    norm /= h
    slope_norm = (4 * len(axes)) ** 0.5
    # Both operators are scaled to norm 1 (Sidky 2012), so the same steps suit both. The
    # factor 0.99 allows for a power iteration that ends slightly below the norm.
    tau, sigma = 0.99 / norm, 0.99 / (2 * norm)
    sigma_slope = 0.99 * norm / (2 * slope_norm**2)
    bound = config.weight * sinogram.square().mean(axes, keepdim=True).sqrt()
    x = empty_volume(sinogram, geometry)
    ahead = x
    dual = sinogram.new_zeros(sinogram.shape)
    slopes = [x.clone() for _ in axes]
    for i in range(config.iterations):
        check_stop(should_stop)
        difference = project(ahead, geometry).div_(h).sub_(sinogram)
        residual = residual_of(difference, sinogram)
        dual = (dual + sigma * difference) / (1 + sigma)
        for axis, slope in zip(axes, slopes, strict=True):
            slope.add_(_forward(ahead, axis), alpha=sigma_slope)
        _limit(slopes, bound)
        update = backproject(dual, geometry).div_(h)
        for axis, slope in zip(axes, slopes, strict=True):
            update -= _backward(slope, axis)
        new = x - tau * update
        if config.nonnegative:
            new.clamp_(min=0)
        ahead, x = 2 * new - x, new
        on_iteration(Iteration(i + 1, config.iterations, residual))
    return x / h


def _forward(x: Tensor, axis: int) -> Tensor:
    """Return the next voxel minus this one, for each voxel; 0 at the end."""
    import torch

    last = x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.diff(x, dim=axis, append=last)


def _backward(slope: Tensor, axis: int) -> Tensor:
    """Return the divergence along an axis: minus the adjoint of `_forward`."""
    import torch

    inner = slope.narrow(axis, 0, slope.shape[axis] - 1)
    zero = torch.zeros_like(slope.narrow(axis, 0, 1))
    return torch.diff(torch.cat([zero, inner, zero], dim=axis), dim=axis)


def _limit(slopes: list[Tensor], bound: Tensor) -> None:
    """Shorten the vectors that are longer than `bound`, in place."""
    import torch

    length = torch.stack([slope.square() for slope in slopes]).sum(0).sqrt()
    factor = torch.where(length > bound, bound / length, 1)
    for slope in slopes:
        slope *= factor
