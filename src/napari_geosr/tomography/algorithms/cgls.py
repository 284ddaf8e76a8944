"""Conjugate gradients for least squares, per slice (cone beam: per volume) [1]_.

References
----------
.. [1] Björck. Numerical Methods for Least Squares Problems (SIAM, 1996), algorithm
   7.4.1. doi:10.1137/1.9781611971484
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
    ignore_iteration,
    residual_of,
    slice_axes,
    widest_dtype,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

TITLE = "CGLS"
BEAMS = ("parallel", "fan", "cone")


class Config(IterativeConfig):
    """Settings of CGLS."""

    iterations: int = Field(
        20,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Number of iterations, usually 10 to 30; more iterations also "
        "reproduce the noise.",
    )
    nonnegative: bool = Field(
        False,
        title="Non-negative",
        description="Set negative attenuation to zero after the last iteration.",
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

    axes = slice_axes(geometry)
    rest = sinogram.clone()
    gradient = backproject(rest, geometry)
    x = gradient.new_zeros(gradient.shape)
    direction = first = gradient
    power = first_power = _squares(first, axes)
    for i in range(config.iterations):
        check_stop(should_stop)
        residual = residual_of(rest, sinogram)
        seen = project(direction, geometry)
        step = _ratio(power, _squares(seen, axes)).to(x.dtype)
        x += step * direction
        rest -= step * seen
        gradient = backproject(rest, geometry)
        # Gradients are orthogonal except for rounding errors. Remove the error along
        # the first gradient, which is by far the largest; otherwise, it would grow
        # tenfold in each iteration.
        along = _sum(gradient * first, axes)
        gradient -= _ratio(along, first_power).to(x.dtype) * first
        before, power = power, _squares(gradient, axes)
        direction = gradient + _ratio(power, before).to(x.dtype) * direction
        on_iteration(Iteration(i + 1, config.iterations, residual))
    return x.clamp_(min=0) if config.nonnegative else x


def _squares(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    return _sum(tensor.square(), axes)


def _sum(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Sum in double precision if possible, because CGLS amplifies rounding errors."""
    return tensor.sum(axes, keepdim=True, dtype=widest_dtype(tensor.device))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return the quotient; 0 for slices that are already solved, such as empty ones."""
    import torch

    return torch.where(below > 0, above / below, 0)
