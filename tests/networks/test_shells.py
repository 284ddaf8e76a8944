"""Shells over directions, compared with shells in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeSet
from napari_geosr.networks.sparse._directions import direction_grid
from napari_geosr.networks.sparse._shells import (
    Ellipsoid,
    ShellMaps,
    fit_ellipsoid,
    shell_maps,
)
from napari_geosr.networks.sparse._walls import shell_voxels
from napari_geosr.networks.sparse.shell_atlas import ShellAtlas

CENTRE, AXES = np.array([33.0, 36.5, 30.2]), np.array([24.0, 29.0, 21.0])
GRID = direction_grid(1500)


def shell(inner: float = 0.8, shape: tuple[int, ...] = (66, 74, 62)) -> np.ndarray:
    places = np.indices(shape).astype(float)
    radius = np.sqrt((((places.T - CENTRE) / AXES) ** 2).sum(-1).T)
    return (radius <= 1) & (radius >= inner)


def test_directions_are_equally_spaced() -> None:
    np.testing.assert_allclose(np.linalg.norm(GRID.units, axis=1), 1)
    np.testing.assert_allclose(GRID.units.mean(0), 0, atol=1e-3)
    nearest = GRID.distances[:, 0]
    assert nearest.max() < 2 * nearest.min()


@pytest.mark.parametrize("hole", [False, True])
def test_an_ellipsoid_is_found_also_without_its_top(hole: bool) -> None:
    inside = shell()
    if hole:
        inside[:22] = False
    found = fit_ellipsoid(inside)
    np.testing.assert_allclose(found.centre, CENTRE, atol=0.6)
    np.testing.assert_allclose(found.axes, AXES, atol=0.8)


def test_radius_and_thickness_of_a_known_shell() -> None:
    maps = shell_maps(shell(), Ellipsoid(CENTRE, AXES), GRID)
    assert maps.present.all()
    assert maps.outer.mean() == pytest.approx(1, abs=0.005)
    assert maps.thickness.mean() == pytest.approx(0.2, abs=0.005)
    assert maps.outer.std() < 0.02  # voxels are 1/20 to 1/30 of the radius


def test_a_ray_without_a_wall_has_no_values() -> None:
    inside = shell()
    inside[:, :, 31:] = False
    maps = shell_maps(inside, Ellipsoid(CENTRE, AXES), GRID)
    np.testing.assert_array_equal(
        maps.present[np.abs(GRID.units[:, 2]) > 0.1],
        (GRID.units[:, 2] < 0)[np.abs(GRID.units[:, 2]) > 0.1],
    )


def test_voxels_of_maps_are_the_shell() -> None:
    inside = shell()
    ellipsoid = Ellipsoid(CENTRE, AXES)
    maps = ShellMaps(np.ones(len(GRID)), np.full(len(GRID), 0.2))
    box = tuple(slice(0, n) for n in inside.shape)
    everywhere = np.ones(len(GRID), bool)
    found = shell_voxels(maps, everywhere, ellipsoid, GRID, box)
    assert (found != inside).sum() < 0.01 * inside.sum()
    # Slabs give the same voxels, and one half gives the same half.
    parts = [
        shell_voxels(maps, everywhere, ellipsoid, GRID, (slice(a, a + 22), *box[1:]))
        for a in (0, 22, 44)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), found)
    half = shell_voxels(maps, GRID.units[:, 0] > 0, ellipsoid, GRID, box)
    assert not half[:30].any()
    np.testing.assert_array_equal(half[36:], found[36:])


def test_unknown_values_continue_a_plane() -> None:
    """Bending energy is zero for linear maps, apart from the sphere's curvature."""
    values = 1 + 0.1 * GRID.units[:, 1]
    known = GRID.units[:, 0] < 0.8
    found = GRID.filled(values, known)
    np.testing.assert_array_equal(found[known], values[known])
    assert np.abs(found - values)[~known].max() < 0.02


def shells_of(n: int) -> list[ShellMaps]:
    """Shells that differ in two ways, each with an opening at the bottom."""
    rng = np.random.default_rng(0)
    opening = GRID.units[:, 0] > 0.9
    made = []
    for _ in range(n):
        bump, wall = 0.05 * rng.standard_normal(2)
        outer = 1 + bump * (3 * GRID.units[:, 0] ** 2 - 1) / 2
        thickness = 0.2 + wall * GRID.units[:, 1] / 2
        made.append(
            ShellMaps(
                np.where(opening, np.nan, outer), np.where(opening, np.nan, thickness)
            )
        )
    return made


def test_a_missing_part_is_predicted_and_a_natural_opening_is_not() -> None:
    *known, truth = shells_of(9)
    atlas = ShellAtlas.fitted(known, 2)
    hole = (GRID.units @ np.array([-0.8, 0.0, 0.6])) > 0.9
    given = ShellMaps(
        *(np.where(hole, np.nan, m) for m in (truth.outer, truth.thickness))
    )
    found = atlas.predicted(given)
    assert found.missing[hole].all()
    assert found.missing.sum() < 3 * hole.sum()
    assert not found.missing[GRID.units[:, 0] > 0.97].any()
    np.testing.assert_allclose(found.maps.outer[hole], truth.outer[hole], atol=2e-3)
    np.testing.assert_allclose(
        found.maps.thickness[hole], truth.thickness[hole], atol=2e-3
    )
    assert found.reproduced == 1


def test_a_complete_shell_has_nothing_missing() -> None:
    *known, truth = shells_of(9)
    assert not ShellAtlas.fitted(known, 2).predicted(truth).missing.any()


def test_the_method_needs_more_shells_than_components() -> None:
    module = SHAPE_METHODS.load("shell_completion")
    config = module.Config.create(simulated="skulls", number=10, components=10)
    with pytest.raises(ConfigError, match="10 shells for 10 components"):
        module.Method.check(config)


def test_a_stopped_fit_gives_no_model_and_the_same_seed_the_same_one() -> None:
    module = SHAPE_METHODS.load("shell_completion")
    config = module.Config.create(
        simulated="skulls", number=4, components=2, directions=300, patch=32
    )
    method = module.Method(config)
    shapes = ShapeSet(config)
    assert run_to_end(method.fit_steps(shapes, lambda: True)) is None
    one, two = (run_to_end(method.fit_steps(shapes, lambda: False)) for _ in range(2))
    np.testing.assert_array_equal(one.components.numpy(), two.components.numpy())
    assert one.components.abs().max() > 0
