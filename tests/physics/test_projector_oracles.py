"""Projections compared with chords calculated by hand, scikit-image and ASTRA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import project

HALF = np.linspace(0, 180, 45, endpoint=False)
N = 65


def ball(shape: tuple[int, ...], middle: tuple[float, ...], radius: float) -> Any:
    """Sphere (disc) of ones with soft edges; `middle` is in voxels from the centre."""
    fine = 3
    axes = [(np.arange(n * fine) + 0.5) / fine - n / 2 for n in shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True)) < radius**2
    split = [part for n in shape for part in (n, fine)]
    odd = tuple(range(1, 2 * len(shape), 2))
    return inside.reshape(split).mean(odd).astype(np.float32)


@pytest.fixture(scope="module")
def phantom() -> Any:
    solid = ball((N, N), (0, 0), 28) - 0.6 * ball((N, N), (11, -9), 5)
    return solid + 0.5 * ball((N, N), (-8, 6), 9) + 0.4 * ball((N, N), (4, 14), 4)


def relative(ours: Any, theirs: Any) -> float:
    difference = np.asarray(ours, float) - np.asarray(theirs, float)
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs))


def chords(geometry: ParallelGeometry, middle: tuple[float, ...], radius: float) -> Any:
    """Lengths of rays in a sphere at `middle` ([z,] y, x), in the unit of length."""
    turn = np.deg2rad(geometry.angles)[:, None]
    t = (np.arange(geometry.n_columns) - geometry.centre) * geometry.pixel_size
    side = np.stack([np.cos(turn) + 0 * t, np.sin(turn) + 0 * t, 0 * turn + 0 * t])
    out = np.stack([-np.sin(turn) + 0 * t, np.cos(turn) + 0 * t, 0 * turn + 0 * t])
    rise = np.zeros((3, 1, 1))
    if isinstance(geometry, FanGeometry):
        start = -geometry.source_distance * out
        way = out * (geometry.source_distance + geometry.detector_distance) + t * side
        if isinstance(geometry, ConeGeometry):
            rows = np.arange(geometry.n_rows) - geometry.row_centre
            rise = np.zeros((3, geometry.n_rows, 1, 1))
            rise[2, :, 0, 0] = rows * geometry.row_size
            start, way = start[:, None], way[:, None]
    else:
        start, way = t * side, out
    way = way + rise
    way = way / np.linalg.norm(way, axis=0)
    at = np.array([*middle[::-1], 0][:3]).reshape(3, *[1] * (way.ndim - 1))
    offset = at - start
    squared = (offset**2).sum(0) - (offset * way).sum(0) ** 2
    return 2 * np.sqrt(np.clip(radius**2 - squared, 0, None))


@pytest.mark.parametrize(
    "geometry",
    [
        ParallelGeometry(HALF, 70, 31.4, 64),
        ParallelGeometry(2 * HALF, 91, size=64, pixel_size=0.2),
        FanGeometry(2 * HALF, 90, 41.5, 64, source_distance=90, detector_distance=60),
    ],
    ids=["parallel", "parallel, full turn", "fan"],
)
def test_a_disc_casts_the_shadow_of_its_chords(geometry: ParallelGeometry) -> None:
    h = geometry.voxel_size
    disc = ball((64, 64), (7, -11), 17)
    seen = project(torch.from_numpy(disc), geometry)
    exact = chords(geometry, (7 * h, -11 * h), 17 * h)
    assert relative(seen, exact) < 0.02  # the edge consists of pixels
    inner = exact > 17 * h
    assert relative(seen.numpy()[inner], exact[inner]) < 0.01


def test_a_ball_casts_the_shadow_of_its_chords() -> None:
    geometry = ConeGeometry(
        np.arange(0, 360, 40.0),
        48,
        22.0,
        32,
        pixel_size=1.5,
        source_distance=90,
        detector_distance=45,
        n_rows=30,
        row_centre=12.5,
        n_slices=24,
        row_size=1.8,
    )
    solid = ball((24, 32, 32), (2, 4, -5), 8.5)
    seen = project(torch.from_numpy(solid), geometry)
    exact = chords(geometry, (2.0, 4.0, -5.0), 8.5)
    inner = exact > 12
    assert inner.any()
    assert relative(seen.numpy()[inner], exact[inner]) < 0.01


def test_scikit_image_agrees(phantom: Any) -> None:
    transform = pytest.importorskip("skimage.transform")
    ours = project(torch.from_numpy(phantom), ParallelGeometry(HALF, N))
    # Its Y axis points up.
    assert relative(ours, transform.radon(phantom, -HALF, circle=True).T) < 0.01


@pytest.mark.parametrize(("projector", "bound"), [("linear", 1e-5), ("strip", 0.01)])
def test_astra_agrees(phantom: Any, projector: str, bound: float) -> None:
    astra = pytest.importorskip("astra")
    ours = project(torch.from_numpy(phantom), ParallelGeometry(HALF, 80, size=N))
    scan = astra.create_proj_geom("parallel", 1.0, 80, np.deg2rad(HALF))
    slices = astra.create_vol_geom(N, N)
    theirs = astra.OpTomo(astra.create_projector(projector, scan, slices))
    assert relative(ours, theirs.FP(np.ascontiguousarray(phantom[::-1]))) < bound


def test_astra_agrees_on_a_fan(phantom: Any) -> None:
    astra = pytest.importorskip("astra")
    geometry = FanGeometry(
        2 * HALF,
        85,
        size=N,
        source_distance=120,
        detector_distance=40,
        pixel_size=4 / 3,
    )
    ours = project(torch.from_numpy(phantom), geometry)
    scan = astra.create_proj_geom("fanflat", 4 / 3, 85, np.deg2rad(2 * HALF), 120, 40)
    slices = astra.create_vol_geom(N, N)
    theirs = astra.OpTomo(astra.create_projector("line_fanflat", scan, slices))
    assert relative(ours, theirs.FP(np.ascontiguousarray(phantom[::-1]))) < 0.01
