from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from napari_geosr.physics import scans
from napari_geosr.physics.specimens import phantoms, samples


@pytest.mark.parametrize("kind", ["independent", "reconstruction", "few-photons"])
@pytest.mark.parametrize("downsample", [1, 2])
def test_scan(kind: scans.NoiseKind, downsample: int) -> None:
    phantom = phantoms.sphere_foam((16, 64, 64), seed=1)
    imaging = scans.Imaging(noise=0.3, noise_kind=kind, downsample=downsample)
    made = scans.scan(phantom, imaging, solid=0.2, pore=0.8, seed=2)
    assert made.noisy.dtype == made.clean.dtype == np.float32
    assert made.clean.shape == made.mask.shape == (16, 64, 64)
    assert made.noisy.shape == tuple(n // downsample for n in made.clean.shape)
    assert made.contrast == pytest.approx(-0.6)
    assert made.clean[made.mask].mean() > 0.7
    # Bright pores remain bright, and the noise is about as strong as requested.
    low = made.clean.reshape(
        16 // downsample, downsample, 64 // downsample, downsample, -1, downsample
    ).mean((1, 3, 5))
    assert np.corrcoef(made.noisy.ravel(), low.ravel())[0, 1] > 0.4
    assert 0.1 < (made.noisy - low).std() < 0.35
    again = scans.scan(phantom, imaging, solid=0.2, pore=0.8, seed=2)
    np.testing.assert_array_equal(made.noisy, again.noisy)


@pytest.mark.parametrize("downsample", [1, 2])
def test_random_scans_are_varied_and_reproducible(downsample: int) -> None:
    shape = (12, 32, 32)
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    signs = set()
    for _ in range(12):
        made = scans.random_scan(shape, rng, downsample=downsample)
        twin = scans.random_scan(shape, again, downsample=downsample)
        np.testing.assert_array_equal(made.noisy, twin.noisy)
        assert made.noisy.shape == shape
        assert np.isfinite(made.noisy).all()
        signs.add(np.sign(made.contrast))
    assert signs == {-1.0, 1.0}


def test_noisy_foam_shows_why_restoration_is_needed() -> None:
    from skimage.filters import threshold_otsu

    noisy, clean = samples.noisy_foam()
    assert noisy.axes == clean.axes == "ZYX"
    assert noisy.shape == clean.shape
    assert noisy.voxel_size == clean.voxel_size == (4.0, 4.0, 4.0)
    assert noisy.unit == "µm"
    assert noisy.origin == clean.origin
    true = (clean.data < 0.5).mean()
    found = (noisy.data < threshold_otsu(noisy.data)).mean()
    assert found > 1.5 * true
    twin, _ = samples.noisy_foam()
    np.testing.assert_array_equal(noisy.data, twin.data)


def test_resolution_pair_fills_one_box() -> None:
    low, high = samples.resolution_pair(shape=(16, 16, 16))
    assert high.shape == (32, 32, 32)
    for axis in range(3):
        start_low = low.origin[axis] - low.voxel_size[axis] / 2
        start_high = high.origin[axis] - high.voxel_size[axis] / 2
        assert start_low == pytest.approx(start_high)
        size_low = low.shape[axis] * low.voxel_size[axis]
        assert size_low == pytest.approx(high.shape[axis] * high.voxel_size[axis])
    averaged = high.data.reshape(16, 2, 16, 2, 16, 2).mean((1, 3, 5))
    assert np.corrcoef(low.data.ravel(), averaged.ravel())[0, 1] > 0.8


def test_physics_needs_no_torch() -> None:
    code = (
        "import sys; from napari_geosr.physics import scans, noise\n"
        "from napari_geosr.physics.specimens import samples\n"
        "from napari_geosr.physics.projection import radon\n"
        "samples.resolution_pair(shape=(8, 8, 8)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["independent", "reconstruction", "few-photons"])
def test_noise_free_is_the_mean_of_many_scans(kind: scans.NoiseKind) -> None:
    phantom = phantoms.sphere_foam((2, 48, 48), porosity=0.3, radius=(3, 6), seed=1)
    imaging = scans.Imaging(noise=0.3, noise_kind=kind, blur=0.8, n_angles=60)
    made = [scans.scan(phantom, imaging, seed=seed) for seed in range(60)]
    ideal = scans.noise_free(made[0].clean, imaging)
    assert ideal.shape == made[0].noisy.shape
    each = float((made[0].noisy - ideal).std())
    mean = np.mean([m.noisy for m in made], axis=0) - ideal
    assert each > 0.1
    assert mean.std() < 1.3 * each / np.sqrt(60)
