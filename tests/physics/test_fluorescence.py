from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_geosr.physics import fluorescence
from napari_geosr.physics.fluorescence import (
    STRUCTURES,
    Microscope,
    expose,
    expose_coarse,
    phantom,
)
from napari_geosr.physics.noise import poisson_gaussian_noise

SHAPE = (12, 64, 64)


@settings(max_examples=12, deadline=None)
@given(
    level=st.floats(0.05, 2.0),
    photons=st.floats(2.0, 300.0),
    read_noise=st.floats(0.0, 4.0),
    seed=st.integers(0, 10_000),
)
def test_law_of_mean_and_variance(
    level: float, photons: float, read_noise: float, seed: int
) -> None:
    n = 200_000
    rng = np.random.default_rng(seed)
    volume = np.full(n, level, np.float32)
    noisy = poisson_gaussian_noise(volume, photons, read_noise, rng)
    variance = level / photons + (read_noise / photons) ** 2
    # Both are within five standard errors; the fourth moment of a Poisson variable is
    # larger by 1 / mean than that of a normal one.
    assert noisy.mean() == pytest.approx(level, abs=5 * np.sqrt(variance / n))
    spread = np.sqrt((2 + 1 / (level * photons)) / n)
    assert noisy.var() == pytest.approx(variance, rel=5 * spread)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_structures(kind: str) -> None:
    light = phantom(kind, SHAPE, np.random.default_rng(1), step=2.0)
    twin = phantom(kind, SHAPE, np.random.default_rng(1), step=2.0)
    np.testing.assert_array_equal(light, twin)
    assert light.shape == SHAPE
    assert light.dtype == np.float32
    assert light.min() >= 0
    assert light.max() == pytest.approx(1)
    assert 0.0005 < (light > 0.1).mean() < 0.9


def test_spots_keep_their_light() -> None:
    light = np.zeros((4, 4, 4), np.float32)
    points = np.array([[1.25, 2.5, 1.0]])
    fluorescence._splat(light, points, np.array([2.0]))
    assert light.sum() == pytest.approx(2.0)
    assert light[1, 2, 1] == pytest.approx(2.0 * 0.75 * 0.5)
    centre = [float((light * g).sum() / 2) for g in np.mgrid[:4, :4, :4]]
    assert centre == pytest.approx([1.25, 2.5, 1.0])


def test_exposures_are_in_photons_and_blurred_more_along_the_axis() -> None:
    light = np.zeros((33, 33, 33), np.float32)
    light[16, 16, 16] = 1
    microscope = Microscope(
        blur=1.5, elongation=2.0, step=1.0, photons=50.0, read_noise=2.0, background=0.2
    )
    made = expose(light, microscope, np.random.default_rng(0))
    signal = made.clean - made.clean.min()
    assert made.clean.min() == pytest.approx(50 * 0.2, rel=1e-3)
    widths = []
    for axis in range(3):
        line = signal.sum(axis=tuple(a for a in range(3) if a != axis))
        place = np.arange(33) - 16
        widths.append(np.sqrt((line * place**2).sum() / line.sum()))
    assert widths == pytest.approx([3.0, 1.5, 1.5], rel=0.05)
    dark = made.clean < made.clean.min() + 0.01
    noise = (made.noisy - made.clean)[dark]
    assert noise.var() == pytest.approx(10 + 4, rel=0.05)
    pair = np.corrcoef(noise, (made.again - made.clean)[dark])[0, 1]
    assert abs(pair) < 0.03


def test_random_phantoms_differ() -> None:
    rng = np.random.default_rng(2)
    made = [fluorescence.random_phantom(SHAPE, rng, step=2.0) for _ in range(6)]
    assert len({float(m.sum()) for m in made}) == 6
    drawn = [fluorescence.random_microscope(rng) for _ in range(50)]
    assert all(4 <= m.photons <= 300 for m in drawn)
    assert min(m.photons for m in drawn) < 10 < 100 < max(m.photons for m in drawn)


def test_wide_pixels_show_the_same_light_in_the_same_place() -> None:
    """With enough photons that noise is negligible."""
    light = np.zeros((9, 96, 80), np.float32)
    light[4, 41, 30] = 1
    microscope = Microscope(1.5, 1.0, 2.0, photons=1e8, read_noise=0, background=0.1)
    wide, sharp = expose_coarse(light, microscope, np.random.default_rng(0))
    assert (wide.shape, sharp.shape) == ((9, 48, 40), (9, 96, 80))
    assert wide.mean() == pytest.approx(sharp.mean(), rel=1e-3)
    widths = []
    for image, factor in ((wide, 2), (sharp, 1)):
        signal = np.maximum(image - 1.001e7, 0)
        z, y, x = np.indices(image.shape, dtype=float)
        total = signal.sum()
        # Positions in narrow pixels, counted from the outer edge of the image.
        places = [(g * signal).sum() / total for g in (z, y, x)]
        assert places[0] == pytest.approx(4, abs=1e-3)
        edges = [factor * (p + 0.5) for p in places[1:]]
        assert edges == pytest.approx([41.5, 30.5], abs=0.02)
        spread = ((factor * (y - places[1])) ** 2 * signal).sum() / total
        widths.append(np.sqrt(spread))
    # Averaging over pixels of two adds (4 - 1) / 12 to the variance.
    assert widths == pytest.approx([np.sqrt(9 + 0.25), 1.5], rel=0.02)


def test_wide_pixels_count_their_photons_after_they_were_joined() -> None:
    microscope = Microscope(photons=40.0, read_noise=2.0, background=0.5)
    light = np.zeros((4, 128, 128), np.float32)
    noisy, sharp = expose_coarse(light, microscope, np.random.default_rng(0))
    assert np.ptp(sharp) == 0
    assert sharp[0, 0, 0] == pytest.approx(20)
    assert noisy.mean() == pytest.approx(20, rel=0.01)
    # Independent noise of 20 photons and the camera in every wide pixel.
    assert noisy.var() == pytest.approx(20 + 4, rel=0.05)
    pair = np.corrcoef(noisy[:, :, :-1].ravel(), noisy[:, :, 1:].ravel())[0, 1]
    assert abs(pair) < 0.03
