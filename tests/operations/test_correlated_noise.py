"""Methods that assume independent noise issue a warning if it is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.train.noise import correlated_noise_warning
from napari_geosr.physics.noise import reconstruction_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam


@pytest.mark.parametrize("sigma", [0.4, 0.6, 0.8])
def test_correlation_of_filtered_noise(sigma: float, rng: np.random.Generator) -> None:
    white = rng.normal(size=(24, 96, 96))
    filtered = gaussian_filter(white, (0, sigma, 0), mode="wrap")
    truth = float((filtered * np.roll(filtered, 1, 1)).mean() / filtered.var())
    found = estimate_noise(Volume(filtered, "ZYX")).correlation
    assert found["y"] == pytest.approx(truth, abs=0.05)
    assert abs(found["x"]) < 0.03
    assert abs(found["z"]) < 0.03


@pytest.mark.parametrize("sd", [0.05, 0.3])
def test_an_object_is_not_taken_for_correlated_noise(
    sd: float, rng: np.random.Generator
) -> None:
    foam = sphere_foam((20, 80, 80), porosity=0.3, radius=(4, 9), gap=1.0, seed=3)
    clean = 1 - foam.fraction
    white = Volume(clean + rng.normal(0, sd, clean.shape), "ZYX", name="scan")
    assert max(map(abs, estimate_noise(white).correlation.values())) < 0.05
    plane = Volume(clean[9] + rng.normal(0, sd, clean[9].shape), "YX")
    assert max(map(abs, estimate_noise(plane).correlation.values())) < 0.1
    assert correlated_noise_warning(white, "noise2void") == ""
    noise = reconstruction_noise(clean.shape, sd, rng)
    projected = white.replace(data=clean + noise)
    sentence = correlated_noise_warning(projected, "noise2void")
    truth = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    found = estimate_noise(projected).correlation
    assert found["x"] == pytest.approx(truth, abs=0.08)
    assert f"X {found['x']:.2f}" in sentence
    assert "'scan'" in sentence
    assert correlated_noise_warning(projected, "noise2void", along="z") == ""


def test_volumes_without_noise_say_nothing() -> None:
    assert (
        correlated_noise_warning(Volume(np.ones((16, 40, 40)), "ZYX"), "noise2void")
        == ""
    )
    assert (
        correlated_noise_warning(Volume(np.ones((1, 4, 4)), "ZYX"), "noise2void") == ""
    )
