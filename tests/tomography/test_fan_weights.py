"""Fan- and cone-beam scans over part of a turn, or with an offset detector."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.angles import covered_degrees
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.physics.projection.geometry import ConeGeometry, FanGeometry
from napari_geosr.tomography.algorithms import reconstruct_slices, require_geometry
from napari_geosr.tomography.fan_weights import (
    arc_of,
    needed_degrees,
    ray_weights,
)

N = 64
BEAM: Any = {"source_distance": 150, "detector_distance": 75, "pixel_size": 1.5}
#: Centre (y, x) relative to the axis, radius, attenuation per pixel.
DISCS = ((0.0, 0.0, 28.0, 0.02), (-8.0, 6.0, 9.0, 0.01), (11.0, -9.0, 5.0, -0.015))
STEP = 1.5


def fan(angles: Any, columns: int = 84, centre: float = 41.5) -> FanGeometry:
    return FanGeometry(angles, columns, centre, N, **BEAM)


def shadows(geometry: FanGeometry) -> torch.Tensor:
    """Exact projections of the discs, (1, angle, column)."""
    turn = np.deg2rad(geometry.angles)[:, None]
    t = (np.arange(geometry.n_columns) - geometry.centre) * geometry.pixel_size
    gamma = np.arctan2(t, geometry.source_distance + geometry.detector_distance)
    # The parallel ray equivalent to each ray: its angle, and its distance from the
    # axis.
    parallel = turn - gamma
    distance = geometry.source_distance * np.sin(gamma)
    total = np.zeros(np.broadcast_shapes(turn.shape, t.shape))
    for b, a, radius, value in DISCS:
        off = distance - a * np.cos(parallel) - b * np.sin(parallel)
        total += 2 * value * np.sqrt(np.clip(radius**2 - off**2, 0, None))
    return torch.from_numpy(total.astype(np.float32))[None]


def truth() -> torch.Tensor:
    """The discs with soft edges, (N, N)."""
    y, x = (np.mgrid[: 4 * N, : 4 * N] + 0.5) / 4 - N / 2
    fine = sum(v * ((y - b) ** 2 + (x - a) ** 2 < r**2) for b, a, r, v in DISCS)
    return torch.from_numpy(fine.reshape(N, 4, N, 4).mean((1, 3)).astype(np.float32))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the error relative to that of the truth, within the field of view of all
    views.
    """
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    seen = torch.from_numpy(np.hypot(y, x) < 31)
    return float(((found - expected) * seen).norm() / (expected * seen).norm())


def fbp(geometry: FanGeometry) -> torch.Tensor:
    return reconstruct_slices("fbp", shadows(geometry), geometry)[0]


@pytest.fixture(scope="module")
def full() -> torch.Tensor:
    found = fbp(fan(np.arange(0, 360, STEP)))
    assert relative(found, truth()) < 0.06  # sharp edges on a pixel grid
    return found


NEEDED = needed_degrees(fan([0.0]))


@pytest.mark.parametrize("degrees", [NEEDED - 1, NEEDED, 240, 300, 350])
@pytest.mark.parametrize("first", [0.0, 250.0])
def test_a_short_scan_is_the_full_one(
    full: torch.Tensor, degrees: float, first: float
) -> None:
    angles = first + np.arange(0, degrees, STEP)
    found = fbp(fan(angles))
    assert relative(found, full) < 0.015
    assert relative(found, truth()) < 0.06
    middle = found[28:36, 28:36].mean() / full[28:36, 28:36].mean()
    assert float(middle) == pytest.approx(1, abs=1e-3)


def test_angles_may_be_uneven_shuffled_and_beyond_a_turn(full: torch.Tensor) -> None:
    uneven = np.concatenate([np.arange(0, 90, 1.0), np.arange(90, 230, 1.6)])
    shuffled = np.random.default_rng(0).permutation(uneven - 77)
    assert relative(fbp(fan(shuffled)), full) < 0.02
    twice = np.concatenate([np.arange(0, 360, STEP), np.arange(360, 500, STEP)])
    assert relative(fbp(fan(twice)), full) < 0.01


def test_a_short_scan_of_a_cone_is_the_full_one() -> None:
    wide: Any = {**BEAM, "n_rows": 9, "n_slices": 3}

    def fdk(angles: Any) -> torch.Tensor:
        geometry = ConeGeometry(angles, 84, 41.5, N, **wide)
        rows = shadows(fan(angles)).expand(9, -1, -1).clone()
        return reconstruct_slices("fdk", rows, geometry)[1]

    whole, short = (fdk(np.arange(0, d, STEP)) for d in (360, NEEDED))
    assert relative(short, whole) < 0.015


@pytest.mark.parametrize("degrees", [NEEDED, 250, 357, 360])
def test_every_line_counts_once(degrees: float) -> None:
    geometry = fan(np.arange(0, degrees, 0.25))
    weights = ray_weights(geometry)
    assert weights.min() >= 0
    assert weights.max() <= np.deg2rad(0.2501)
    # Lines at one distance from the axis, recorded from either side, over a turn.
    lines = weights.sum(0) + weights.sum(0)[::-1]
    np.testing.assert_allclose(lines, 2 * np.pi, rtol=2e-3)


def test_what_is_needed_is_half_a_turn_and_the_fan() -> None:
    geometry = fan([0.0], 84, 30.0)
    assert needed_degrees(geometry) == pytest.approx(
        180 + 2 * np.rad2deg(np.arctan(53 * 1.5 / 225))
    )


@pytest.mark.parametrize(("columns", "centre"), [(60, 15.2), (60, 43.8), (75, 20.0)])
def test_one_side_of_the_axis_from_each_side(columns: int, centre: float) -> None:
    geometry = fan(np.arange(0, 360, STEP), columns, centre)
    found, expected = fbp(geometry), truth()
    assert relative(found, expected) < 0.05
    # In the middle, and far from the axis, where each ray is recorded once.
    for part in (np.s_[28:36, 28:36], np.s_[30:34, 6:9]):
        level = float(expected[part].mean())
        assert float(found[part].mean()) == pytest.approx(level, rel=0.01)


def test_arcs() -> None:
    assert arc_of(np.arange(0, 360, 2.0)).is_full_turn
    assert arc_of(np.arange(0, 360, 2.0)).shares.sum() == pytest.approx(360)
    arc = arc_of(np.array([350.0, 0.0, 5.0, 340.0, 0.0]))
    assert arc.length == pytest.approx(32.5)
    np.testing.assert_allclose(arc.places, [15, 25, 30, 5, 25])
    np.testing.assert_allclose(arc.shares, [10, 3.75, 5, 10, 3.75])
    assert arc_of(np.array([12.0])).length == 0


def test_degrees_that_are_covered() -> None:
    assert covered_degrees(np.arange(0, 360, 1.0)) == pytest.approx(360)
    assert covered_degrees(np.arange(-100, 100, 1.0)) == pytest.approx(200)
    two = np.concatenate([np.arange(0, 60, 1.0), np.arange(200, 260, 1.0)])
    assert covered_degrees(two) == pytest.approx(120)


@pytest.mark.parametrize(
    ("angles", "says"),
    [
        (np.arange(0, 180, 1.0), r"cover 180° of the turn.*needs 210\.\d°.*SIRT"),
        (np.array([40.0]), "cover 0° of the turn"),
        (np.array([0.0, 90.0]), "cover 180° of the turn"),
        (
            np.concatenate([np.arange(0, 120, 1.0), np.arange(150, 300, 1.0)]),
            r"Projections are missing in two or more .* \(61° and 31°",
        ),
    ],
)
@pytest.mark.parametrize("name", ["fbp", "fdk"])
def test_what_cannot_be_right_is_refused(angles: Any, says: str, name: str) -> None:
    geometry = fan(angles)
    if name == "fdk":
        geometry = ConeGeometry(angles, 84, 41.5, N, n_rows=2, **BEAM)
    with pytest.raises(ProjectionsError, match=says):
        require_geometry(name, geometry)
    shape = geometry.sinogram_shape if name == "fdk" else (1, *geometry.sinogram_shape)
    with pytest.raises(ProjectionsError, match=says):
        reconstruct_slices(name, torch.zeros(shape), geometry)
    require_geometry("sirt", geometry)


def test_an_axis_beside_the_detector_is_refused() -> None:
    with pytest.raises(ProjectionsError, match=r"column -4 is not on the detector"):
        ray_weights(fan(np.arange(0, 360, 1.0), 84, -4.0))


def test_an_uneven_angle_counts_half_the_gap_to_both_neighbours() -> None:
    # By hand: gaps of 20, 40, 60, 80, 80 and 80 degrees around the turn.
    angles = np.array([0.0, 20, 60, 120, 200, 280])
    expected = np.array([50.0, 30, 50, 70, 80, 80])
    for begin in (0.0, -77.0, 400.0):
        order = [3, 0, 5, 1, 4, 2]
        found = arc_of(begin + angles[order])
        assert found.is_full_turn
        np.testing.assert_allclose(found.shares, expected[order], atol=1e-4)
