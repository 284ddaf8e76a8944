"""The finest detail of an image by decorrelation analysis."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.measure.comparison.decorrelation import finest_detail

N = 384


def seen(rng, cut: float, noise: float) -> np.ndarray:
    """Noisy points under a microscope that resolves a period of ``1 / cut``."""
    points = np.zeros((N, N))
    points[rng.integers(0, N, 2000), rng.integers(0, N, 2000)] = 100 * rng.random(2000)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(N), np.fft.fftfreq(N)))
    x = np.clip(f / cut, 0, 1)
    transfer = 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x * x))
    image = np.fft.ifft2(np.fft.fft2(points) * transfer).real
    return image + noise * image.max() * rng.normal(size=image.shape)


@pytest.mark.parametrize("cut", [0.1, 0.15, 0.25])
@pytest.mark.parametrize("noise", [0.003, 0.03])
def test_the_detail_of_a_microscope(rng, cut, noise):
    """It ends slightly before the transfer function, whatever the noise."""
    found = finest_detail(seen(rng, cut, noise), (0.5, 0.5))
    assert found == pytest.approx(0.5 / cut, rel=0.2)


def test_finer_images_have_finer_detail(rng):
    found = [finest_detail(seen(rng, cut, 0.01), (1, 1)) for cut in (0.1, 0.2, 0.3)]
    assert found[0] > 1.5 * found[1] > 2 * found[2]


def test_noise_and_small_images_have_none(rng):
    assert finest_detail(rng.normal(size=(128, 128)), (1, 1)) is None
    assert finest_detail(np.ones((128, 128)), (1, 1)) is None
    assert finest_detail(seen(rng, 0.1, 0)[:20], (1, 1)) is None
