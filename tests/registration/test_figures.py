"""Figures of a pair in known cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.registration.figures import (
    block_shifts,
    correlation,
    mutual_information,
)
from napari_geosr.registration.grey_match import match_grey_values


@pytest.fixture
def texture(rng):
    return ndimage.gaussian_filter(rng.normal(size=(40, 44, 48)), 2).astype(np.float32)


def test_mutual_information_of_known_cases(rng):
    two = rng.integers(0, 2, 40_000).astype(np.float32)
    assert mutual_information(two, two) == pytest.approx(1.0, abs=0.01)
    assert mutual_information(two, 5 - 2 * two) == pytest.approx(1.0, abs=0.01)
    other = rng.integers(0, 2, 40_000).astype(np.float32)
    assert mutual_information(two, other) < 0.01
    mask = np.zeros(two.shape, bool)
    assert mutual_information(two, two, mask) == 0


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.4, -0.7, 1.2)])
def test_a_shift_is_measured_in_every_block(texture, shift):
    moved = ndimage.shift(texture, shift, order=3, mode="nearest")
    found = block_shifts(texture, moved)
    assert len(found) == 2 * 2 * 3
    for block in found:
        assert block.shift == pytest.approx(shift, abs=0.15)
    assert np.median([b.length for b in found]) == pytest.approx(
        np.linalg.norm(shift), abs=0.1
    )


def test_inverted_contrast_is_no_shift(texture):
    found = block_shifts(texture, -texture)
    assert all(b.length == 0 and b.correlation < -0.99 for b in found)


def test_blocks_without_anything_in_common_say_nothing(texture, rng):
    noise = rng.normal(size=texture.shape).astype(np.float32)
    assert block_shifts(texture, noise) == []
    assert block_shifts(texture, np.zeros_like(texture)) == []
    assert correlation(texture, np.zeros_like(texture)) == 0


@pytest.mark.parametrize("gain", [180.0, -40.0])
def test_grey_values_are_matched_in_spite_of_blur_noise_and_outliers(
    texture, rng, gain
):
    texture = texture / texture.std()
    low = gain * ndimage.gaussian_filter(texture, 0.8) + 30
    low = low + rng.normal(0, 0.2 * abs(gain), low.shape)
    low[:6, :6, :6] = 9000  # a bright grain in one of them
    match = match_grey_values(low.astype(np.float32), texture, "linear")
    assert match.gain == pytest.approx(gain, rel=0.06)
    assert match.offset == pytest.approx(30, abs=0.05 * abs(gain))
    assert match.blur == pytest.approx(0.8, abs=0.3)
    assert match.apply(texture)[9, 9, 9] == pytest.approx(
        match.gain * texture[9, 9, 9] + match.offset, rel=1e-5
    )


def test_a_curve_matches_what_no_line_does(texture):
    high = texture / texture.std()
    low = np.exp(0.5 * high)
    curve = match_grey_values(low, high, "histogram")
    line = match_grey_values(low, high, "linear")
    inner = (slice(4, -4),) * 3
    error = np.abs(curve.apply(high) - low)[inner].mean()
    assert error < 0.5 * np.abs(line.apply(high) - low)[inner].mean()
    rising = curve.apply(np.linspace(-9, 9, 200, dtype=np.float32))
    assert (np.diff(rising) >= 0).all()
    none = match_grey_values(low, high, "none")
    assert none.apply(high) is high
