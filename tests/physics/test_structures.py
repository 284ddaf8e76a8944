"""Structures made some slices at a time: blocks equal parts of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.physics.specimens.packing import ball_fraction
from napari_geosr.physics.specimens.phantoms import place_balls
from napari_geosr.physics.specimens.structures import (
    STRUCTURES,
    Ellipsoids,
    foam,
    lacunae,
)

SHAPE = (20, 32, 32)
SETTINGS = {
    "foam": {"porosity": 0.25, "radius": (3.0, 6.0)},
    "blobs": {"porosity": 0.3, "radius": (3.0, 3.0)},
    "bone": {"porosity": 0.7, "radius": (3.0, 3.0)},
    "lacunae": {"porosity": 0.03, "radius": (7.0, 9.0)},
    "dentin": {"porosity": 0.15, "radius": (2.0, 4.0)},
    "cells": {"porosity": 0.03, "radius": (1.0, 4.0)},
}


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_blocks_make_the_whole(name):
    made = STRUCTURES[name](SHAPE, seed=1, **SETTINGS[name])
    whole = made.block(0, SHAPE[0])
    assert whole.shape == SHAPE
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    parts = [made.block(a, b) for a, b in ((0, 1), (1, 8), (8, 20))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


@pytest.mark.parametrize("name", ["blobs", "bone"])
def test_porosity_is_about_the_one_asked_for(name):
    shape = (48, 64, 64)
    made = STRUCTURES[name](shape, seed=2, **SETTINGS[name])
    found = (made.block(0, shape[0]) >= 0.5).mean()
    assert found == pytest.approx(SETTINGS[name]["porosity"], abs=0.05)


@pytest.mark.parametrize("name", list(STRUCTURES))
def test_the_seed_decides(name):
    one, same, other = (
        STRUCTURES[name](SHAPE, seed=seed, **SETTINGS[name]).block(4, 12)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.5


def test_an_ellipsoid_has_its_volume():
    axes = np.diag([8.0, 5.0, 3.0])[None]
    made = Ellipsoids((24, 24, 24), np.full((1, 3), 11.5), axes)
    volume = made.block(0, 24).sum()
    assert volume == pytest.approx(4 / 3 * np.pi * 8 * 5 * 3, rel=0.03)


def test_balls_do_not_overlap():
    made = foam((24, 32, 32), porosity=0.3, radius=(3.0, 6.0), seed=0)
    centres, radii = made.balls[:, :3], made.balls[:, 3]
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (apart > radii[:, None] + radii[None]).all()


def test_too_many_lacunae_are_refused():
    with pytest.raises(ConfigError, match="smaller porosity"):
        lacunae(SHAPE, porosity=0.2, radius=(7.0, 9.0), seed=0)


def test_a_porosity_of_all_is_refused():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        STRUCTURES["blobs"](SHAPE, porosity=1.0, radius=(3.0, 3.0), seed=0)


def test_a_foam_that_is_reached_is_what_seeds_made_before():
    asked = {"porosity": 0.25, "radius": (3.0, 6.0), "seed": 1}
    before = place_balls(SHAPE, gap=1.0, **asked)
    np.testing.assert_array_equal(foam(SHAPE, **asked).balls, before)


@pytest.mark.every(2)
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_a_dense_foam_is_packed_on_with_smaller_balls(gap):
    shape, radius = (16, 64, 64), (2.0, 16.0)
    asked = {"porosity": 0.5, "radius": radius, "seed": 0, "gap": gap}
    before, made = place_balls(shape, **asked), foam(shape, **asked)
    assert ball_fraction(shape, before) < 0.37
    assert made.share() == pytest.approx(0.5, abs=0.01)
    assert made.block(0, 16).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(made.balls[: len(before)], before)
    centres, radii = made.balls[:, :3], made.balls[:, 3]
    walls = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    walls -= radii[:, None] + radii[None]
    np.fill_diagonal(walls, np.inf)
    assert walls.min() >= gap - 1e-9
    assert radii.min() >= radius[0]
    assert radii.max() <= radius[1]
    np.testing.assert_array_equal(foam(shape, **asked).balls, made.balls)


def test_a_foam_that_cannot_be_packed_ends_below():
    shape = (8, 24, 24)
    made = foam(shape, porosity=0.9, radius=(2.0, 3.0), seed=0)
    assert 0.2 < made.share() < 0.5
