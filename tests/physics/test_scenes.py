"""Scenes for training denoisers: reproducible, of any kind, never noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.physics.scenes import power_law_field, random_scene

SHAPE = (10, 40, 48)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_scene_is_a_function_of_its_seed(seed):
    first, again = (random_scene(SHAPE, np.random.default_rng(seed)) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == SHAPE
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)


def test_scenes_have_structure_of_all_sizes():
    """Sharp edges, flat parts and many grey values in some of a dozen scenes."""
    made = [random_scene(SHAPE, np.random.default_rng(n)) for n in range(12)]
    steps = [np.abs(np.diff(s, axis=2)) for s in made]
    assert max(float(step.max()) for step in steps) > 0.4
    assert max(float((step < 1e-3).mean()) for step in steps) > 0.5
    assert len({round(float(s.mean()), 3) for s in made}) == 12


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_the_spectrum_of_a_field_falls_as_asked(exponent):
    field = power_law_field((32, 32, 32), exponent, np.random.default_rng(0))
    assert abs(float(field.std()) - 1) < 1e-5
    power = np.abs(np.fft.fftn(field)) ** 2
    axes = np.meshgrid(*[np.fft.fftfreq(32)] * 3, indexing="ij")
    f = np.sqrt(sum(a**2 for a in axes))
    kept = (f > 0.05) & (f < 0.45)
    slope = np.polyfit(np.log(f[kept]), np.log(power[kept]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)
