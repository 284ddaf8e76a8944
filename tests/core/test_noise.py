"""The class `Noise`: its curve, its scaling, and invalid values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.noise import Noise


def test_the_curve_is_linear_between_and_constant_beyond():
    noise = Noise(5.0, 100.0, greys=(0.0, 100.0), levels=(2.0, 6.0))
    assert noise.at([-50, 0, 25, 100, 500]).tolist() == [2, 2, 3, 6, 6]


def test_without_a_curve_the_level_holds_everywhere():
    assert Noise(5.0, 100.0).at([-1e6, 0, 1e6]).tolist() == [5, 5, 5]


def test_a_scan_without_contrast_has_no_relative_level():
    assert Noise(5.0, 0.0).relative == 0


@given(
    st.floats(0, 10),
    st.floats(-100, 100),
    st.floats(0.01, 100),
    st.floats(-50, 50),
)
def test_standardising_commutes_with_the_curve(strength, mean, std, grey):
    noise = Noise(
        4.0, 50.0, (-10.0, 0.0, 30.0), (1.0, 2.0, 7.0), interval=(3.0, 5.0)
    ).scaled(strength)
    other = noise.standardised(mean, std)
    expected = noise.at(grey) / std
    assert np.isclose(other.at((grey - mean) / std), expected, rtol=1e-6, atol=1e-9)
    assert np.isclose(other.relative, noise.relative)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"greys": (0.0, 1.0), "levels": (1.0,)}, "one level"),
        ({"greys": (1.0, 1.0), "levels": (1.0, 1.0)}, "ascend"),
        ({"levels": (-1.0,)}, "negative"),
    ],
)
def test_curves_that_are_none_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        Noise(1.0, 1.0, **values)
