"""Angles within a turn: half turns across zero, golden angles, several turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.angles import (
    along_turn,
    arc_degrees,
    closes_turn,
    covered_degrees,
    is_full_turn,
    missing_arcs,
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
        (np.array([0.0, 180.0]), 360),  # one direction, seen from both sides
        (np.array([0.0, 180.0, 360.0]), 360),
        (np.r_[0.0:90.0, 180.0:270.0], 270.5),  # opposite, but only half the turn
    ],
)
def test_what_is_no_full_turn(angles, degrees):
    assert not is_full_turn(angles)
    assert arc_degrees(angles) == pytest.approx(degrees, abs=0.1)


@pytest.mark.parametrize("begin", [0.0, -77.7, 180.0])
@pytest.mark.parametrize("off", [0.0, 0.01, -3.0])
def test_two_views_are_no_turn(begin, off):
    angles = begin + np.array([0.0, 180.0 + off])
    assert not closes_turn(angles)
    assert not closes_turn(angles, 2.5)
    assert not is_full_turn(angles)


@st.composite
def encoders(draw):
    """Readings of an encoder for even steps, in steps, with noise."""
    n = draw(st.integers(24, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        noise = rng.uniform(-0.4, 0.4, 2 * n)
    else:
        noise = np.clip(rng.normal(0, 0.2, 2 * n), -0.5, 0.5)
    return n, noise * draw(st.floats(0, 1))


@given(
    encoders(),
    st.sampled_from([1, 2]),
    st.floats(-720, 720),
    st.sampled_from([1, -1]),
    st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_an_encoder_may_be_noisy(encoder, turns, begin, way, wrapped):
    n, noise = encoder
    angles = begin + way * (np.arange(turns * n) + noise[: turns * n]) * 360 / n
    assert is_full_turn(np.mod(angles, 360) if wrapped else angles)


@given(encoders(), st.floats(-720, 720), st.floats(100, 330), st.sampled_from([1, -1]))
@settings(deadline=None, max_examples=150)
def test_a_noisy_encoder_makes_no_turn_of_a_part(encoder, begin, degrees, way):
    n, noise = encoder
    angles = begin + way * (np.arange(n) + noise[:n]) * degrees / n
    assert not is_full_turn(angles)


@pytest.mark.parametrize("n", [500, 2000, 3600])
def test_angles_may_be_rounded(n):
    assert is_full_turn(np.round(np.arange(n) * 360 / n, 1))
    assert not is_full_turn(np.round(np.arange(n) * 180 / n, 1))


@given(st.integers(0, 2**32 - 1), st.integers(30, 300))
@settings(deadline=None, max_examples=50)
def test_views_anywhere_around_are_not_in_steps(seed, n):
    angles = np.random.default_rng(seed).uniform(0, 360, n)
    assert not is_full_turn(angles)
    if n >= 100:  # fewer angles, once sorted, are sometimes evenly spaced by chance
        assert not is_full_turn(np.sort(angles))


@pytest.mark.parametrize("n", [55, 100, 180, 233, 500])
@pytest.mark.parametrize("step", [GOLDEN, 2 * GOLDEN])
def test_golden_angles_fill_a_turn_without_opposite_views(n, step):
    # Some numbers of angles (34 to 38, 131 to 161, 212 to 228) are spaced so evenly
    # that they are recognised as a turn. This does no harm, as the centre is found
    # without pairs.
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


@pytest.mark.parametrize(
    ("step", "wide", "is_missing"),
    [
        # Five steps is the largest gap accepted as a step of an uneven scan.
        (4.0, 19.6, False),
        (4.0, 20.4, True),
        (10.0, 49.0, False),
        (10.0, 51.0, True),
        # At least ten degrees, however small the steps are.
        (0.5, 9.8, False),
        (0.5, 10.2, True),
    ],
)
def test_a_gap_is_a_missing_wedge_beyond_five_steps_and_ten_degrees(
    step, wide, is_missing
):
    angles = np.arange(0.0, 180.0 - wide + step / 4, step)
    angles *= (180.0 - wide) / angles[-1]  # the gap over 180 degrees is `wide`
    step = angles[1]
    covered = 180.0 - wide + step if is_missing else 180.0
    assert covered_degrees(angles, 180.0) == pytest.approx(covered)
    arcs = missing_arcs(angles, 180.0)
    assert len(arcs) == is_missing
    for begin, width in arcs:
        assert begin == pytest.approx(180.0 - wide + step / 2)
        assert width == pytest.approx(wide - step)


@pytest.mark.parametrize(
    ("n", "off", "is_full"),
    [
        # Tolerated encoder noise, in steps, of opposite views.
        (60, 0.2, True),
        (60, 0.45, False),
    ],
)
def test_opposite_views_miss_each_other_by_a_part_of_a_step(n, off, is_full):
    places = np.arange(n) * 180 / n
    # Pairs in any order, unevenly spaced within half a turn; the other half is offset
    # by a fraction of a step.
    places = places + np.where(np.arange(n) % 3 == 0, 0.4, 0.0) * 180 / n
    step = 360 / (2 * n)
    pairs = np.concatenate([places, places + 180 + off * step])
    order = np.random.default_rng(1).permutation(2 * n)
    assert is_full_turn(pairs[order]) is is_full


@pytest.mark.parametrize(("n", "is_full"), [(12, True), (11, False)])
def test_a_dozen_views_in_steps_make_a_turn(n, is_full):
    # So uneven that this is known only from the order in which they were taken.
    noise = np.resize([0.3, -0.3, 0.1, -0.2, 0.25], n)
    angles = (np.arange(n) + noise) * 360 / n
    assert is_full_turn(angles) is is_full
