"""Projector and adjoint: dot-product tests, gradients, agreement of both forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import Cancelled, ProjectionsError
from napari_geosr.physics.projection import conewise, projector, slicewise
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import (
    backproject,
    operator_norm,
    project,
)

HALF = np.linspace(0, 180, 13, endpoint=False)
FULL = np.linspace(0, 360, 24, endpoint=False) + 0.3
UNEVEN = np.array([3.0, -40.0, 45.0, 90.0, 135.0, 200.5, 721.0])

GEOMETRIES = {
    "parallel": ParallelGeometry(HALF, 24),
    "parallel, odd, axis beside the middle": ParallelGeometry(FULL, 31, 11.3, 23),
    "parallel, uneven, small pixels": ParallelGeometry(UNEVEN, 25, 30.0, 20, 0.25),
    "parallel, one angle": ParallelGeometry([45.0], 9),
    "parallel, one voxel": ParallelGeometry(HALF, 3, size=1),
    "fan": FanGeometry(FULL, 37, 15.6, 23, source_distance=40, detector_distance=25),
    "fan, wide": FanGeometry(
        UNEVEN, 41, size=22, source_distance=17, detector_distance=9
    ),
    "cone": ConeGeometry(
        FULL[::3], 15, 6.3, 12, source_distance=30, detector_distance=15, n_rows=9
    ),
    "cone, flat rows, off-centre": ConeGeometry(
        UNEVEN,
        13,
        size=11,
        pixel_size=2.0,
        source_distance=40,
        detector_distance=0,
        n_rows=7,
        row_centre=1.5,
        n_slices=8,
        row_size=3.0,
    ),
    "cone, a slab": ConeGeometry(
        FULL[::4], 13, size=11, source_distance=25, detector_distance=9, n_rows=16
    ).slab(2, 7),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES.keys())
def geometry(request: pytest.FixtureRequest) -> ParallelGeometry:
    found: ParallelGeometry = request.param
    return found


def random(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() * b.double()).sum())


@pytest.mark.parametrize("batch", [1, 5])
def test_dot(geometry: ParallelGeometry, batch: int) -> None:
    x = random((batch, *geometry.volume_shape))
    y = random((batch, *geometry.sinogram_shape), 1)
    seen, back = project(x, geometry), backproject(y, geometry)
    assert seen.shape == y.shape
    assert back.shape == x.shape
    bound = 1e-5 * float(seen.norm() * y.norm())
    assert abs(inner(seen, y) - inner(x, back)) < bound
    assert float(seen.norm()) > 0


def test_tensors_and_loops_are_one_operator(geometry: ParallelGeometry) -> None:
    form = conewise if isinstance(geometry, ConeGeometry) else slicewise
    x = random((2, *geometry.volume_shape))
    y = random((2, *geometry.sinogram_shape), 1)
    for loops, tensors in (
        (project(x, geometry), form.project_tensors(x, geometry)),  # type: ignore[arg-type]
        (backproject(y, geometry), form.backproject_tensors(y, geometry)),  # type: ignore[arg-type]
    ):
        torch.testing.assert_close(tensors, loops, rtol=1e-4, atol=1e-4)


def test_a_slice_does_not_depend_on_its_neighbours() -> None:
    geometry = GEOMETRIES["fan"]
    x = random((37, *geometry.volume_shape))
    whole = project(x, geometry)
    for k in (0, 15, 16, 36):
        torch.testing.assert_close(project(x[k], geometry), whole[k])
        torch.testing.assert_close(
            backproject(whole[k], geometry), backproject(whole, geometry)[k]
        )


@pytest.mark.parametrize("name", ["parallel", "fan", "cone"])
def test_gradients_are_those_of_a_linear_operator(name: str) -> None:
    geometry = GEOMETRIES[name]
    x = random((2, *geometry.volume_shape)).requires_grad_()
    measured = random((2, *geometry.sinogram_shape), 1)
    loss = (project(x, geometry) - measured).square().sum() / 2
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with torch.no_grad():
        expected = backproject(project(x, geometry) - measured, geometry)
    torch.testing.assert_close(gradient, expected)
    # The loss is quadratic, so the gradient's gradient along v is exactly AᵀA v.
    v = random(tuple(x.shape), 2)
    (curvature,) = torch.autograd.grad(gradient, x, v)
    torch.testing.assert_close(curvature, backproject(project(v, geometry), geometry))


def test_norm_is_the_largest_singular_value() -> None:
    geometry = ParallelGeometry(HALF, 14, size=9)
    columns = project(torch.eye(81).reshape(81, 9, 9), geometry)
    largest = torch.linalg.matrix_norm(columns.reshape(81, -1), 2)
    assert operator_norm(geometry) == pytest.approx(float(largest), rel=1e-3)


@pytest.mark.parametrize(
    "angles", [HALF[:1], HALF[:2], [0, 7, 30], np.linspace(0, 30, 9)], ids=len
)
def test_the_norm_is_near_for_few_views_and_a_wedge(angles: Any) -> None:
    geometry = ParallelGeometry(np.asarray(angles, float), 14, size=9)
    columns = project(torch.eye(81).reshape(81, 9, 9), geometry)
    largest = float(torch.linalg.matrix_norm(columns.reshape(81, -1), 2))
    # Step sizes of algorithms allow for an error of 1 %.
    assert 0.995 * largest < operator_norm(geometry) < 1.0001 * largest


def test_the_norm_takes_few_pairs_and_can_be_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(projector, "_norms", {})
    geometry, begun = ParallelGeometry(HALF, 14, size=9), []
    operator_norm(geometry, before_each=lambda: begun.append(1))
    assert 3 <= len(begun) <= 10

    def stop() -> None:
        raise Cancelled("Enough.")

    operator_norm(geometry, before_each=stop)  # it is known
    with pytest.raises(Cancelled):
        operator_norm(ParallelGeometry(HALF, 14, size=8), before_each=stop)
    assert len(projector._norms) == 1


def test_the_norm_is_worked_out_once_for_a_geometry(monkeypatch: Any) -> None:
    monkeypatch.setattr(projector, "_norms", {})
    once = operator_norm(ParallelGeometry(HALF, 14, size=9))
    monkeypatch.setattr(projector, "project", lambda *_: pytest.fail("again"))
    assert operator_norm(ParallelGeometry(HALF, 14, size=9)) == once
    monkeypatch.undo()
    for size in range(2, 20):
        operator_norm(ParallelGeometry(HALF[:2], 3, size=size), iterations=1)
    assert len(projector._norms) <= projector._MAX_NORMS


def test_half_precision_and_double_are_taken() -> None:
    geometry = GEOMETRIES["parallel"]
    x = random(geometry.volume_shape).double().requires_grad_()
    seen = project(x, geometry)
    assert seen.dtype == torch.float32
    seen.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float64


def test_wrong_shapes_are_told() -> None:
    geometry = GEOMETRIES["parallel"]
    with pytest.raises(ProjectionsError, match=r"\(24, 25\).*\(24, 24\)"):
        project(torch.zeros(24, 25), geometry)
    with pytest.raises(ProjectionsError, match="The projections have shape"):
        backproject(torch.zeros(13, 23), geometry)
