"""Angles on a turn: half turns over zero, golden angles, several turns."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.turn import (
    along_turn,
    arc_degrees,
    covered_degrees,
    is_full_turn,
)

GOLDEN = 90 * (np.sqrt(5) - 1)
OVER_ZERO = np.r_[270.0:360.0, 0.0:90.0]
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "angles",
    [
        np.arange(360.0),
        np.linspace(0, 360, 121),
        np.arange(0, 356, 1.0),
        np.arange(181) * 360 / 181,
        np.arange(720.0),
        RNG.permutation(np.arange(-180, 180, 2.0)),
        np.arange(360.0) + RNG.normal(0, 0.03, 360),
        np.arange(720.0) + RNG.normal(0, 0.03, 720),
    ],
)
def test_full_turns(angles):
    assert is_full_turn(angles)
    assert arc_degrees(angles) == pytest.approx(360, abs=6)


@pytest.mark.parametrize(
    ("angles", "degrees"),
    [
        (np.arange(180.0), 180),
        (OVER_ZERO, 180),
        (OVER_ZERO[::-1] + 720, 180),
        (np.arange(-170.0, 170.0), 340),
        (np.array([0.0, 90.0]), 180),
        (np.r_[0.0:90.0, 180.0:270.0], 270.5),  # opposite, but only half the turn
    ],
)
def test_what_is_no_full_turn(angles, degrees):
    assert not is_full_turn(angles)
    assert arc_degrees(angles) == pytest.approx(degrees, abs=0.1)


@pytest.mark.parametrize("n", [55, 100, 180, 233, 500])
@pytest.mark.parametrize("step", [GOLDEN, 2 * GOLDEN])
def test_golden_angles_fill_a_turn_without_opposite_views(n, step):
    angles = np.arange(n) * step
    assert not is_full_turn(angles)
    assert arc_degrees(angles) > 350


def test_a_scan_over_zero_is_put_in_order():
    turned = along_turn(OVER_ZERO)
    np.testing.assert_array_equal(turned, np.arange(270.0, 450.0))
    shuffled = RNG.permutation(180)
    np.testing.assert_array_equal(along_turn(OVER_ZERO[shuffled]), turned[shuffled])
    for same in (np.arange(-90, 90, 0.7), np.arange(0, 360, 0.1), np.arange(5) * 30.0):
        np.testing.assert_array_equal(along_turn(same), same)


def test_directions_that_are_covered_twice_count_once():
    bow_tie = np.r_[0.0:45.0, 225.0:270.0]
    assert covered_degrees(bow_tie) == pytest.approx(90)
    assert covered_degrees(np.r_[0.0:45.0, 180.0:225.0], 180.0) == pytest.approx(45)
