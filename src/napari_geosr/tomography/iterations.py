"""What iterative algorithms share: their settings, their reports, how they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ProjectionsError
from napari_geosr.core.steps import ShouldStop

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.geometry import ParallelGeometry


@dataclass(frozen=True)
class Iteration:
    """An iteration is done.

    Attributes
    ----------
    done, total : int
    residual : float or None
        Norm of what the reconstruction does not explain over that of the projections,
        before this iteration; None for FBP and FDK, which count blocks of rows.
    """

    done: int
    total: int
    residual: float | None = None


OnIteration = Callable[[Iteration], None]


def ignore(iteration: Iteration) -> None:
    """The `on_iteration` of someone who does not watch."""


class IterativeConfig(Config):
    """Settings of every iterative algorithm."""

    iterations: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Iterations",
        description="More iterations fit the projections better, but also their noise.",
    )
    nonnegative: bool = Field(
        True,
        title="Non-negative",
        description="Set negative attenuation to zero.",
    )


def check_stop(should_stop: ShouldStop) -> None:
    """Raise `Cancelled` if the person asked to stop."""
    if should_stop():
        raise Cancelled("Reconstruction stopped; slices begun are not kept.")


def check_sinogram(sinogram: Tensor, geometry: ParallelGeometry) -> None:
    """Refuse projections that no algorithm can use.

    Raises
    ------
    ProjectionsError
        If the shape is not that of the geometry, or a value is not finite.
    """
    shape = geometry.sinogram_shape
    if sinogram.ndim != 3 or tuple(sinogram.shape[-len(shape) :]) != shape:
        raise ProjectionsError(
            f"The projections have shape {tuple(sinogram.shape)} (row, angle, column); "
            f"the geometry has {geometry.n_angles} angles and {geometry.n_columns} "
            "columns" + (f" in {shape[0]} rows." if len(shape) == 3 else ".")
        )
    if not bool(sinogram.isfinite().all()):
        bad = int((~sinogram.isfinite()).sum())
        raise ProjectionsError(
            f"{bad} line integrals are not finite numbers. Check flat and dark fields: "
            "where they are equal no light can have been measured."
        )


def slice_axes(geometry: ParallelGeometry) -> tuple[int, ...]:
    """Axes over which one independent problem reaches: a slice, or all for a cone."""
    return tuple(range(-len(geometry.volume_shape), 0))


def empty_volume(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Zeros in the shape that `sinogram` is reconstructed to."""
    batch = sinogram.shape[: sinogram.ndim - len(geometry.sinogram_shape)]
    return sinogram.new_zeros((*batch, *geometry.volume_shape))


def residual_of(difference: Tensor, sinogram: Tensor) -> float:
    """Norm of `difference` over that of `sinogram`; 0 where there is no signal."""
    norm = norm_of(sinogram)
    return norm_of(difference) / norm if norm else 0.0


def norm_of(tensor: Tensor) -> float:
    """Norm in double precision, row by row: the same however rows are grouped."""
    import torch

    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    rows = [row.to(wide).norm() for row in tensor]
    return float(torch.stack(rows).norm())
