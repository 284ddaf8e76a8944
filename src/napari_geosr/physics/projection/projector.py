"""Forward projection and its exact adjoint, differentiable, on CPU and GPU.

Joseph's method integrates the linearly interpolated image along rays. Projection and
back-projection are each other's gradients, so losses on projections can train networks
on slices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.physics.projection import conewise, slicewise
from napari_geosr.physics.projection.geometry import ConeGeometry, ParallelGeometry

#: Cache of operator norms, and its maximum number of entries.
_norms: dict[tuple[Hashable, ...], float] = {}
_MAX_NORMS = 16
#: Relative increase per iteration below which the norm counts as converged.
_CONVERGED = 1e-6


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, geometry: ParallelGeometry) -> Tensor:
        ctx.geometry = geometry
        if isinstance(geometry, ConeGeometry):
            return conewise.project(volume, geometry)
        return slicewise.project(volume, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _apply(_Backproject, gradients[0], ctx.geometry), None


class _Backproject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
        ctx.geometry = geometry
        if isinstance(geometry, ConeGeometry):
            return conewise.backproject(sinogram, geometry)
        return slicewise.backproject(sinogram, geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _apply(_Project, gradients[0], ctx.geometry), None


def project(volume: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Compute line integrals through slices, or through a volume for a cone beam.

    Parameters
    ----------
    volume : Tensor of shape (..., N, N); cone: (..., Z, N, N)
        Attenuation per unit of length (that of the pixel size), in any floating dtype.
    geometry : ParallelGeometry
        Parallel, fan or cone beam.

    Returns
    -------
    Tensor of shape (..., angle, column); cone: (..., row, angle, column)
        float32, on the device of `volume`. Differentiable.

    Raises
    ------
    ProjectionsError
        If the shape does not match the geometry.
    """
    flat = _batch(volume, geometry.volume_shape, "The slices have")
    result = _apply(_Project, flat, geometry)
    batch = volume.shape[: volume.ndim - len(geometry.volume_shape)]
    return result.reshape(*batch, *geometry.sinogram_shape)


def backproject(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Apply the exact adjoint of `project`; input and output shapes are exchanged."""
    flat = _batch(sinogram, geometry.sinogram_shape, "The projections have")
    result = _apply(_Backproject, flat, geometry)
    batch = sinogram.shape[: sinogram.ndim - len(geometry.sinogram_shape)]
    return result.reshape(*batch, *geometry.volume_shape)


def operator_norm(
    geometry: ParallelGeometry,
    device: torch.device | str = "cpu",
    iterations: int = 20,
    *,
    before_each: Callable[[], None] | None = None,
) -> float:
    """Return the largest singular value of `project`, found by power iteration.

    The iteration starts from a uniform volume: the first singular vector is smooth and
    positive, so a few iterations suffice. It ends when the relative increase is below
    one millionth. The value approaches the norm from below. It is cached for each
    geometry, so all blocks of slices use the same value.

    Parameters
    ----------
    iterations : int
        Maximum number of iterations.
    before_each : callable, optional
        Called before each iteration; may raise an exception to stop. An iteration takes
        as long as one iteration of a reconstruction.
    """
    # Ignore `batch`, so that all parts of a scan get the same value.
    geometry = replace(geometry, batch=0)
    key = (*geometry.key, iterations)
    if key not in _norms:
        found = _power_iteration(geometry, device, iterations, before_each)
        while len(_norms) >= _MAX_NORMS:
            _norms.pop(next(iter(_norms)))
        _norms[key] = found
    return _norms[key]


def _power_iteration(
    geometry: ParallelGeometry,
    device: torch.device | str,
    iterations: int,
    before_each: Callable[[], None] | None,
) -> float:
    x = torch.ones(geometry.volume_shape, device=device)
    norm = 0.0
    for _ in range(iterations):
        if before_each is not None:
            before_each()
        x = backproject(project(x / x.norm(), geometry), geometry)
        before, norm = norm, float(x.norm()) ** 0.5
        if norm - before < _CONVERGED * norm:
            break
    return norm


def _apply(
    function: type[torch.autograd.Function], tensor: Tensor, geometry: ParallelGeometry
) -> Tensor:
    result: Tensor = function.apply(tensor, geometry)  # type: ignore[no-untyped-call]
    return result


def _batch(tensor: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """Check the last axes, and flatten all axes before them into one."""
    if tuple(tensor.shape[-len(shape) :]) != shape:
        raise ProjectionsError(
            f"{what} shape {tuple(tensor.shape)}; the geometry requires the last axes "
            f"to have shape {shape}."
        )
    return tensor.to(torch.float32).reshape(-1, *shape)
