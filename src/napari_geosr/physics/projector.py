"""Forward projection and its exact adjoint, differentiable, on CPU and GPU.

Joseph's method: rays are integrals of the linearly interpolated image. Each of the two
is the gradient of the other, so that losses on projections train networks on slices.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.physics import conewise, slicewise
from napari_geosr.physics.geometry import ConeGeometry, ParallelGeometry

#: Operator norms that were worked out, and how many are kept.
_norms: dict[tuple[Hashable, ...], float] = {}
_MOST_NORMS = 16
#: Part of a norm that an iteration adds once there is no more to be found.
_SETTLED = 1e-6


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
    """Line integrals through slices, or through a volume for a cone beam.

    Parameters
    ----------
    volume : Tensor of shape (..., N, N); cone: (..., Z, N, N)
        Attenuation per unit of the pixel size, any floating dtype.
    geometry : ParallelGeometry
        Parallel, fan or cone.

    Returns
    -------
    Tensor of shape (..., angle, column); cone: (..., row, angle, column)
        float32, on the device of `volume`. Gradients pass through.

    Raises
    ------
    ProjectionsError
        If the shape is not that of the geometry.
    """
    flat = _batch(volume, geometry.volume_shape, "The slices have")
    result = _apply(_Project, flat, geometry)
    batch = volume.shape[: volume.ndim - len(geometry.volume_shape)]
    return result.reshape(*batch, *geometry.sinogram_shape)


def backproject(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Exact adjoint of :func:`project`; shapes the other way round."""
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
    """Largest singular value of :func:`project`, by power iteration from ones.

    The first singular vector is smooth and positive, so few iterations are enough: it
    ends when one adds less than a millionth. The value rises to the norm from below. It
    is worked out once for each geometry: blocks of slices are given the same number.

    Parameters
    ----------
    iterations : int
        At most so many.
    before_each : callable, optional
        Called before each iteration, which takes as long as one of an algorithm; what
        it raises ends them.
    """
    # The same number for all parts of a scan, whatever they are a part of.
    geometry = replace(geometry, batch=0)
    key = (*geometry.key, iterations)
    if key not in _norms:
        found = _power_iteration(geometry, device, iterations, before_each)
        while len(_norms) >= _MOST_NORMS:
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
        if norm - before < _SETTLED * norm:
            break
    return norm


def _apply(
    function: type[torch.autograd.Function], tensor: Tensor, geometry: ParallelGeometry
) -> Tensor:
    result: Tensor = function.apply(tensor, geometry)  # type: ignore[no-untyped-call]
    return result


def _batch(tensor: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
    """Check the last axes; flatten those before them into one."""
    if tuple(tensor.shape[-len(shape) :]) != shape:
        raise ProjectionsError(
            f"{what} shape {tuple(tensor.shape)}; the geometry needs {shape} as their "
            "last axes."
        )
    return tensor.to(torch.float32).reshape(-1, *shape)
