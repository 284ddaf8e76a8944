"""Noise after a linear filter, computed and simulated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.physics.correlated_noise import filtered_covariance, noise_of_scan

SHAPE = (64, 128, 128)
#: White, blurred, alternating, mixed; of a reconstruction, pure and mixed.
NOISES = {
    "white": Noise(1.0, 9.0),
    "blurred": Noise(1.0, 9.0, correlation={"z": 0.2, "y": 0.6, "x": 0.4}),
    "alternating": Noise(1.0, 9.0, correlation={"z": -0.4, "y": 0.3, "x": -0.2}),
    "mixed": Noise(1.0, 9.0, correlation={"z": 0.4, "y": 0.4, "x": 0.3}, white=0.5),
    "reconstructed": Noise(1.0, 9.0, correlation={"z": 0.5}, cutoff=1.0),
    "reconstructed, mixed": Noise(
        1.0, 9.0, correlation={"z": 0.2}, white=0.4, cutoff=0.65
    ),
}
KERNELS = {
    "nothing": [np.ones(1)] * 3,
    "means of pairs": [np.ones(1), np.full(2, 0.5), np.full(2, 0.5)],
    "means of blocks": [np.full(4, 0.25)] * 3,
    "differences": [np.array([0.25, 0.5, 0.25]), np.array([1.0, -1.0]), np.ones(1)],
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: noise_of_scan(noise, SHAPE, rng) for name, noise in NOISES.items()}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", NOISES)
def test_the_covariance_of_filtered_noise(drawn, name, kernels):
    values, weights = drawn[name], KERNELS[kernels]
    for axis, kernel in enumerate(weights):
        values = ndimage.convolve1d(values, kernel, axis=axis, mode="wrap")
    values = values[4:-4, 4:-4, 4:-4]
    variance = filtered_covariance(NOISES[name], weights)
    assert values.var() == pytest.approx(variance, rel=0.05)
    for axis in range(3):
        for step in (1, 2, 4):
            moved = np.moveaxis(values, axis, 0)
            measured = float((moved[step:] * moved[:-step]).mean())
            distance = [step if a == axis else 0 for a in range(3)]
            covariance = filtered_covariance(NOISES[name], weights, distance)
            assert measured == pytest.approx(covariance, abs=0.03 * variance)


def test_the_noise_of_an_image():
    flat = Noise(1.0, 9.0, correlation={"y": 0.6, "x": 0.4})
    deep = NOISES["blurred"]
    kernels = KERNELS["means of blocks"][1:]
    assert filtered_covariance(flat, kernels, (0, 3)) == pytest.approx(
        filtered_covariance(deep, [[1.0], *kernels], (0, 0, 3))
    )
