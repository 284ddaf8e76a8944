"""Common parts of iterative algorithms: settings, progress reports, stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ProjectionsError
from napari_geosr.core.steps import ShouldStop

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry


@dataclass(frozen=True)
class Iteration:
    """Report of a finished iteration.

    Attributes
    ----------
    done, total : int
    residual : float or None
        Relative residual before this iteration: norm of measured minus reprojected line
        integrals, divided by the norm of the measured line integrals. None for FBP and
        FDK, where `done` and `total` count blocks of rows or projections, and for
        ASTRA, where they count slices.
    """

    done: int
    total: int
    residual: float | None = None


OnIteration = Callable[[Iteration], None]


def ignore_iteration(iteration: Iteration) -> None:
    """Do nothing (the default of `on_iteration`)."""


class IterativeConfig(Config):
    """Settings of every iterative algorithm."""

    iterations: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Iterations",
        description="Number of iterations. With more iterations, the result fits the "
        "projections better, but also their noise.",
    )
    nonnegative: bool = Field(
        True,
        title="Non-negative",
        description="Set negative attenuation to zero.",
    )


def check_stop(should_stop: ShouldStop) -> None:
    """Raise `Cancelled` if the user asked to stop."""
    if should_stop():
        raise Cancelled("Reconstruction stopped; unfinished slices are not kept.")


def check_sinogram(sinogram: Tensor, geometry: ParallelGeometry) -> None:
    """Reject projections that no algorithm can use.

    Raises
    ------
    ProjectionsError
        If the shape does not match the geometry, or a value is not finite.
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
            f"{bad} line integrals are not finite numbers. Check flat and dark "
            "fields: where they are equal, the transmission is undefined."
        )


def slice_axes(geometry: ParallelGeometry) -> tuple[int, ...]:
    """Return the axes of one independent problem: a slice, or a cone-beam volume."""
    return tuple(range(-len(geometry.volume_shape), 0))


def empty_volume(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Return zeros in the shape of the reconstruction of `sinogram`."""
    batch = sinogram.shape[: sinogram.ndim - len(geometry.sinogram_shape)]
    return sinogram.new_zeros((*batch, *geometry.volume_shape))


def residual_of(difference: Tensor, sinogram: Tensor) -> float:
    """Return the norm of `difference` relative to `sinogram`; 0 without a signal."""
    norm = norm_of(sinogram)
    return norm_of(difference) / norm if norm else 0.0


def norm_of(tensor: Tensor) -> float:
    """Compute the norm row by row, in double precision if the device supports it."""
    import torch

    dtype = widest_dtype(tensor.device)
    rows = [row.to(dtype).norm() for row in tensor]
    return float(torch.stack(rows).norm())


def widest_dtype(device: torch.device) -> torch.dtype:
    """Return float64, or float32 for MPS devices, which do not support float64."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64
