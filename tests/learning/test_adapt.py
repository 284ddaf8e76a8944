"""Learning from one or two noisy scans: what input and target have in common."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.noise import Noise
from napari_geosr.learning.methods.adapt import (
    Config,
    Method,
    choose,
    hidden_neighbours,
    photon_skewness,
)
from napari_geosr.learning.noise_input import noise_arrays
from napari_geosr.learning.recorruption import STRENGTH, recorrupt
from napari_geosr.physics.correlated_noise import noise_like


def noise(**correlation: float) -> Noise:
    return Noise(0.5, 2.0, correlation={"z": 0.0, "y": 0.0, "x": 0.0} | correlation)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([0.0, 0.3, 0.6]), st.floats(0.05, 2.0), st.integers(0, 2**16))
def test_input_and_target_share_no_noise(along: float, level: float, seed: int) -> None:
    """For a scan of pure noise, whatever its level and correlation."""
    rng = np.random.default_rng(seed)
    correlation = {"z": 0.0, "y": along, "x": along}
    shape = (5, 96, 96)
    scan = (level * noise_like(shape, correlation, rng)).astype(np.float32)
    told = noise_arrays(Noise(level, 4.0, correlation=correlation))
    numbers = np.arange(5).reshape(-1, 1, 1)
    found = recorrupt({"source": scan, "slices": numbers, **told}, rng, deep=False)
    given, target = found["source"][2], found["target"][0]
    variance = level**2
    assert given.var() == pytest.approx((1 + STRENGTH**2) * variance, rel=0.15)
    assert target.var() == pytest.approx((1 + STRENGTH**-2) * variance, rel=0.15)
    assert abs((given * target).mean()) < 0.15 * variance
    for shifted in (given[1:] * target[:-1], given[:, 1:] * target[:, :-1]):
        assert abs(shifted.mean()) < 0.15 * variance
    np.testing.assert_allclose(
        found["levels"], told["levels"] * np.sqrt(1 + STRENGTH**2), rtol=1e-5
    )


@pytest.mark.parametrize("deep", [False, True])
def test_added_noise_has_the_spectrum_of_a_reconstruction(deep: bool) -> None:
    """A band of frequencies, unlike blurred noise with the same neighbours."""
    rng = np.random.default_rng(1)
    shape = (1, 8, 128, 128) if deep else (3, 128, 128)
    told = Noise(
        1.0, 4.0, correlation={"z": 0.0, "y": 0.1, "x": 0.1}, white=0.1, cutoff=0.8
    )
    sample = {
        "source": np.zeros(shape, np.float32),
        "slices": np.arange(3).reshape(-1, 1, 1),
        **noise_arrays(told),
    }
    found = recorrupt(sample, rng, deep=deep)["source"] / STRENGTH
    power = (np.abs(np.fft.fft2(found)) ** 2).reshape(-1, 128, 128).mean(0) / 128**2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128)] * 2))
    assert power.mean() == pytest.approx(1, rel=0.1)
    middle = power[(frequency > 0.1) & (frequency < 0.2)].mean()
    assert power[(frequency > 0) & (frequency < 0.02)].mean() < middle / 2
    assert power[(frequency > 0.3) & (frequency < 0.5)].mean() < middle / 10


@pytest.mark.parametrize("deep", [False, True])
def test_a_clean_scan_stays_what_it_is(deep: bool) -> None:
    rng = np.random.default_rng(0)
    scan = rng.normal(size=(1, 8, 16, 16) if deep else (3, 16, 16)).astype(np.float32)
    told = noise_arrays(Noise(0.0, 1.0))
    sample = {"source": scan, "slices": np.arange(3).reshape(-1, 1, 1), **told}
    found = recorrupt(sample, rng, deep=deep)
    np.testing.assert_array_equal(found["source"], scan)
    np.testing.assert_array_equal(found["target"], scan[:1] if deep else scan[1:2])


def test_a_slice_that_is_there_twice_gets_the_same_noise() -> None:
    """An image also replaces its neighbours; other noise would be visible."""
    rng = np.random.default_rng(0)
    sample = {
        "source": np.zeros((3, 16, 16), np.float32),
        "slices": np.array([1, 0, 1]).reshape(-1, 1, 1),
        **noise_arrays(noise()),
    }
    found = recorrupt(sample, rng, deep=False)["source"]
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_two_scans_are_guessed_from_each_other_and_one_gets_more_noise() -> None:
    how, why = choose(noise(x=0.4), has_second=True)
    assert how == "noise2noise"
    assert "each scan from the other" in why
    how, why = choose(noise(x=0.4), has_second=False)
    assert how == "recorrupted"
    assert "25.0 %" in why
    assert "X 0.40" in why


def test_voxels_are_hidden_where_noise_is_that_of_few_photons() -> None:
    """With a variance of 20 per grey value, the skewness at a level of 30 is 2/3."""
    few = Noise(
        30.0,
        120.0,
        greys=(20.0, 120.0),
        levels=(20.0, 2400**0.5),
        correlation={"y": 0.0, "x": 0.0},
    )
    assert photon_skewness(few) == pytest.approx(20 / 30)
    assert photon_skewness(noise()) == 0
    assert choose(few, has_second=False)[0] == "noise2void"
    assert choose(few, has_second=True)[0] == "noise2noise"
    config = Config.create(from_model="m", source=["a"], how="recorrupted")
    patches: Any = SimpleNamespace(scenes=[SimpleNamespace(noises={"source": few})])
    with pytest.raises(ConfigError, match="photon noise"):
        Method(config).prepare(patches)
    many = Noise(3.0, 120.0, greys=(20.0, 120.0), levels=(2.5, 3.2))
    assert choose(many, has_second=False)[0] == "recorrupted"


def test_neighbours_that_share_noise_are_hidden_with_a_voxel() -> None:
    assert hidden_neighbours(noise()) == ()
    along_x = hidden_neighbours(noise(x=0.4))
    assert along_x == ((0, 0, -2), (0, 0, -1), (0, 0, 1), (0, 0, 2))
    plane = hidden_neighbours(noise(x=0.4, y=-0.3))
    assert len(plane) == 24
    assert {z for z, _, _ in plane} == {0}
    with pytest.raises(ConfigError, match="every axis"):
        hidden_neighbours(noise(x=0.4, y=0.3, z=0.2))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"source": ["a"]}, "--model"),
    ({"from_model": "m", "source": ["a", "b"], "target": ["c"]}, "second"),
    ({"from_model": "m", "source": ["a"], "how": "noise2noise"}, "--second"),
    ({"from_model": "m"}, "--source"),
]


@pytest.mark.parametrize(("values", "said"), BAD)
def test_what_is_missing_is_said(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Method.check(Config.create(**values))
