"""Full turns folded into half turns, even with the axis near the detector's edge."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.angles import is_full_turn
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.tomography.full_turn import fold_full_turn, join


def sinogram(angles, n_columns, centre):
    """Smooth spheres around the axis in a parallel beam: (1, angle, column)."""
    rng = np.random.default_rng(3)
    t = np.arange(n_columns)[None] - centre
    turned = np.deg2rad(np.asarray(angles))[:, None]
    out = np.zeros((len(angles), n_columns))
    for far, phase, width in zip(
        rng.uniform(0, 30, 12),
        rng.uniform(0, 7, 12),
        rng.uniform(3, 6, 12),
        strict=True,
    ):
        out += np.exp(-0.5 * ((t - far * np.cos(turned - phase)) / width) ** 2)
    return out[None].astype(np.float32)


@pytest.mark.parametrize("centre", [39.5, 40.0, 12.0, 70.5, 10.3])
@pytest.mark.parametrize("n_angles", [120, 121])
def test_a_folded_turn_is_the_half_turn_of_a_wider_detector(centre, n_angles):
    angles = np.arange(n_angles) * 360 / n_angles
    folded, half, axis = fold_full_turn(sinogram(angles, 80, centre), angles, centre)
    assert half.max() < 180
    assert folded.dtype == np.float32
    wide = sinogram(half, folded.shape[2], axis)
    # With an odd number of views, the opposite ones are interpolated.
    tolerance = 0.03 if n_angles % 2 == 0 else 0.06
    np.testing.assert_allclose(folded, wide, atol=tolerance)
    reach = max(centre, 79 - centre)
    assert folded.shape[2] == pytest.approx(2 * reach + 1, abs=1)


def test_views_in_any_order_with_the_end_included():
    angles = np.linspace(0, 360, 121)
    order = np.random.default_rng(0).permutation(121)
    folded, half, axis = fold_full_turn(
        sinogram(angles[order], 80, 20.0), angles[order], 20.0
    )
    assert np.all(np.diff(half) > 0)
    assert len(half) == 60
    wide = sinogram(half, folded.shape[2], axis)
    np.testing.assert_allclose(folded, wide, atol=0.01)


GOLDEN = 90 * (np.sqrt(5) - 1)


def test_views_that_merely_fill_a_turn_are_all_kept():
    angles = np.arange(180) * GOLDEN
    folded, half, axis = fold_full_turn(sinogram(angles, 80, 20.0), angles, 20.0)
    assert len(half) >= 160
    assert np.diff(half).max() < 3
    wide = sinogram(half, folded.shape[2], axis)
    np.testing.assert_allclose(folded, wide, atol=0.05)


@pytest.mark.parametrize("turns", [1, 3])
def test_the_encoder_may_be_noisy(turns):
    rng = np.random.default_rng(0)
    angles = (np.arange(turns * 72) + rng.uniform(-0.4, 0.4, turns * 72)) * 5.0
    assert is_full_turn(angles)
    folded, half, axis = fold_full_turn(sinogram(angles, 80, 12.0), angles, 12.0)
    wide = sinogram(half, folded.shape[2], axis)
    np.testing.assert_allclose(folded, wide, atol=0.2)
    assert np.abs(folded - wide).mean() < 0.005


@pytest.mark.parametrize("off", [0.0, 0.02, -0.02])
def test_the_noise_of_two_turns_is_averaged(off):
    one = np.arange(60) * 6.0
    two = np.concatenate([one, one + 360 + off])
    noise = np.random.default_rng(0).standard_normal((40, 120, 60)).astype(np.float32)
    once, half, _ = fold_full_turn(noise[:, :60], one, 29.5)
    twice, same, _ = fold_full_turn(noise, two, 29.5)
    assert len(half) == len(same) == 30
    assert twice.std() == pytest.approx(once.std() / np.sqrt(2), rel=0.02)
    folded, _, _ = fold_full_turn(sinogram(two, 80, 20.0), two, 20.0)
    first, _, _ = fold_full_turn(sinogram(one, 80, 20.0), one, 20.0)
    np.testing.assert_allclose(folded, first, atol=5e-3)


def test_both_sides_count_the_same_with_the_axis_in_the_middle():
    near, far = np.ones((1, 2, 9)), np.zeros((1, 2, 9))
    joined, centre = join(near, far, 4.0)
    assert centre == 4
    np.testing.assert_allclose(joined, 0.5)
    joined, centre = join(near, far, 0.0)
    assert joined.shape == (1, 2, 17)
    assert centre == 8
    np.testing.assert_allclose(joined[..., 9:], 1)
    np.testing.assert_allclose(joined[..., :8], 0)


def test_what_is_no_full_turn_is_refused():
    angles = np.arange(0, 200, 2.0)
    with pytest.raises(ProjectionsError, match="span 200 degrees.*requires 360"):
        fold_full_turn(sinogram(angles, 40, 20), angles, 20.0)
    angles = np.arange(0, 360, 2.0)
    with pytest.raises(ProjectionsError, match="column 60 is not on the detector"):
        fold_full_turn(sinogram(angles, 40, 20), angles, 60.0)
    angles = np.array([0.0, 180.0])
    with pytest.raises(ProjectionsError, match="The 2 angles .* too wide a gap"):
        fold_full_turn(sinogram(angles, 40, 20), angles, 20.0)
