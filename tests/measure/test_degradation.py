"""Blur and noise of a coarse scan are found using a fine one of the same material."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.resolution.degradation import degradation_steps
from napari_geosr.physics import fluorescence
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.degradations import ContrastLevels, ct, fluo
from napari_geosr.physics.sampling import area_downsample, coarse_scan
from napari_geosr.physics.specimens.phantoms import bicontinuous

FACTOR = 4
GAIN, OFFSET = 120.0, 30.0


@pytest.fixture(scope="module")
def fine() -> np.ndarray:
    made = bicontinuous((96, 192, 192), porosity=0.6, wavelength=36.0, seed=4)
    return (0.8 - 0.6 * made.fraction).astype(np.float32)


def scanned(fine: np.ndarray, blur: float, noise: float, seed: int = 0) -> np.ndarray:
    coarse = GAIN * coarse_scan(fine, FACTOR, blur) + OFFSET
    config = ct.Config(noise=noise / 0.6, grey_gain=GAIN, seed=seed)
    grain = ct.Noise(config, ContrastLevels(0.2, 0.8, 0.6), coarse.shape[1:])
    return np.stack([grain.add(plane, z) for z, plane in enumerate(coarse)])


@pytest.mark.every(3)
@pytest.mark.parametrize(("blur", "noise"), [(0.5, 0.05), (0.8, 0.12), (1.2, 0.03)])
def test_blur_and_noise_of_ct_are_found(fine, blur, noise):
    low = scanned(fine, blur, noise)
    found = run_to_end(degradation_steps([low], [fine], (FACTOR,) * 3))
    print(
        f"blur {blur} found {found.blur:.3f}, noise {GAIN * noise:.2f} "
        f"found {found.noise:.2f}, {found.shape}, gain {found.gain:.1f}"
    )
    assert found.blur == pytest.approx(blur, rel=0.15)
    assert found.noise == pytest.approx(GAIN * noise, rel=0.1)
    assert found.shape == "reconstruction"
    assert found.gain == pytest.approx(GAIN, rel=0.1)
    assert found.gain * 0.5 + found.offset == pytest.approx(
        GAIN * 0.5 + OFFSET, rel=0.05
    )
    assert found.along_z < 0.1
    assert found.misfit < 0.2


def test_the_two_scans_may_show_different_places(fine):
    low = scanned(fine[:, :, :128], 0.7, 0.08)
    found = run_to_end(degradation_steps([low], [fine[:, :, 64:]], (FACTOR,) * 3))
    assert found.blur == pytest.approx(0.7, rel=0.15)
    assert found.noise == pytest.approx(GAIN * 0.08, rel=0.1)


def test_blur_and_noise_of_fluorescence_are_found():
    rng = np.random.default_rng(3)
    light = gaussian_blur(fluorescence.random_phantom((48, 192, 192), rng), 1.0)
    fine = (100 + 1000 * light).astype(np.float32)
    levels = ContrastLevels(100.0, float(np.percentile(fine, 99.5)), 1.0)
    config = fluo.Config(blur=0.7, photons=60, read_noise=2.0, grey_gain=2.0)
    widths = fluo.blur_widths(config, (1.0, 1.0, 1.0), None)
    clean = 2 * area_downsample(gaussian_blur(fine, [2 * s for s in widths]), 2)
    noise = fluo.Noise(config, levels, clean.shape[1:])
    low = np.stack([noise.add(plane, z) for z, plane in enumerate(clean)])
    found = run_to_end(
        degradation_steps(
            [low], [fine], (2, 2, 2), relative_widths=(2.5, 1.0, 1.0), shapes=("white",)
        )
    )
    assert found.blur == pytest.approx(0.7, rel=0.15)
    assert found.noise == pytest.approx(float((low - clean).std()), rel=0.1)
    adopted = fluo.adopted(found, levels)
    assert adopted["photons"] == pytest.approx(60, rel=0.35)
    made = fluo.Noise(fluo.Config(**adopted), levels, clean.shape[1:])
    again = np.stack([made.add(plane, z) for z, plane in enumerate(clean)]) - clean
    assert again.std() == pytest.approx(float((low - clean).std()), rel=0.1)


def test_what_cannot_be_measured_is_said(fine):
    low = scanned(fine, 0.5, 0.05)
    with pytest.raises(VolumeError, match="at least 16 × 16"):
        run_to_end(degradation_steps([low[:, :12]], [fine], (FACTOR,) * 3))
    flat = [np.ones_like(fine)]
    with pytest.raises(VolumeError, match="is uniform"):
        run_to_end(degradation_steps([low], flat, (FACTOR,) * 3))
    with pytest.raises(Cancelled):
        run_to_end(
            degradation_steps([low], [fine], (FACTOR,) * 3, should_stop=lambda: True)
        )
