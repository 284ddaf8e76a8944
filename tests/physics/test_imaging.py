from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.physics import blur, noise, sampling
from napari_geosr.physics.projection import radon


def test_blur_keeps_constants_and_the_sum(rng: np.random.Generator) -> None:
    assert blur.gaussian_blur(np.full((9, 9, 9), 3.0, np.float32), 2) == pytest.approx(
        3
    )
    point = np.zeros((31, 31, 31), np.float32)
    point[15, 15, 15] = 1
    spread = blur.gaussian_blur(point, 1.5)
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    z = np.arange(31) - 15
    sd = np.sqrt((spread.sum((1, 2)) * z**2).sum())
    assert sd == pytest.approx(1.5, rel=0.02)


def test_area_downsampling_keeps_mean_and_place() -> None:
    ramp = np.arange(24, dtype=np.float32)[:, None, None] * np.ones(
        (1, 6, 6), np.float32
    )
    low = sampling.area_downsample(ramp, 3)
    assert low.shape == (8, 2, 2)
    # The centre of coarse voxel i is at 3 i + (3 - 1) / 2 on the fine grid.
    np.testing.assert_allclose(low[:, 0, 0], 3 * np.arange(8) + 1)
    np.testing.assert_allclose(low.mean(), ramp.mean())
    with pytest.raises(VolumeError, match="multiple"):
        sampling.area_downsample(ramp, 5)


def test_coarse_scan_of_a_constant_is_constant() -> None:
    flat = np.full((8, 8, 8), 0.7, np.float32)
    np.testing.assert_allclose(sampling.coarse_scan(flat, 2, 0.5), 0.7, rtol=1e-6)


def test_noise_levels(rng: np.random.Generator) -> None:
    shape = (8, 64, 64)
    assert noise.gaussian_noise(shape, 0.3, rng).std() == pytest.approx(0.3, rel=0.02)
    made = noise.reconstruction_noise(shape, 0.3, rng)
    assert made.std() == pytest.approx(0.3, rel=1e-4)
    counted = noise.poisson_noise(np.full(shape, 2.0, np.float32), 50, rng)
    assert counted.mean() == pytest.approx(2, rel=0.01)
    assert counted.std() == pytest.approx(np.sqrt(2 / 50), rel=0.03)
    with pytest.raises(ConfigError, match="photons"):
        noise.poisson_noise(np.ones(shape, np.float32), 0, rng)


def _radial_power(planes: np.ndarray, n_rings: int = 12) -> np.ndarray:
    n = planes.shape[-1]
    window = np.outer(np.hanning(n), np.hanning(n))
    power = (np.abs(np.fft.fft2(planes * window)) ** 2).mean(axis=0)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij"))
    edges = np.linspace(0.02, 0.5, n_rings + 1)
    return np.array(
        [power[(f >= a) & (f < b)].mean() for a, b in itertools.pairwise(edges)]
    )


def test_reconstruction_noise_has_the_spectrum_of_real_back_projection(
    rng: np.random.Generator,
) -> None:
    """Compared with scikit-image's filtered back-projection of white noise."""
    from skimage.transform import iradon

    n = 96
    angles = np.linspace(0, 180, 180, endpoint=False)
    real = np.stack(
        [
            iradon(
                rng.standard_normal((n, 180)),
                angles,
                filter_name="hann",
                circle=True,
                interpolation="cubic",
            )
            for _ in range(6)
        ]
    )
    made = noise.reconstruction_noise((32, n, n), 1.0, rng, cutoff=1.0)
    centre = slice(n // 2 - 28, n // 2 + 28)
    of_real = _radial_power(real[:, centre, centre])
    of_made = _radial_power(made[:, centre, centre])
    of_real, of_made = of_real / of_real.sum(), of_made / of_made.sum()
    # Apart from interpolation, which suppresses the highest frequencies.
    np.testing.assert_allclose(of_made[:8], of_real[:8], atol=0.03)
    assert np.corrcoef(of_made, of_real)[0, 1] > 0.97
    # It is very different from white noise.
    assert of_real[0] < 0.7 * of_real.max()


def test_slices_of_reconstruction_noise_are_independent(rng) -> None:
    made = noise.reconstruction_noise((2, 96, 96), 1.0, rng)
    assert abs(np.corrcoef(made[0].ravel(), made[1].ravel())[0, 1]) < 0.05


def test_projection_and_its_inverse() -> None:
    beam = radon.ParallelBeam(64, 120)
    y, x = np.mgrid[:64, :64] - 31.5
    disk = (np.hypot(y, x) < 20).astype(np.float32)[None]
    sinogram = beam.project(disk)
    assert sinogram.shape == (120, beam.n_detectors, 1)
    # Every projection contains the same mass; the central ray crosses a diameter.
    np.testing.assert_allclose(sinogram.sum(axis=1), disk.sum(), rtol=1e-4)
    assert sinogram[:, beam.n_detectors // 2].mean() == pytest.approx(40, rel=0.03)
    back = beam.reconstruct(sinogram, cutoff=np.inf)[0]
    assert back[np.hypot(y, x) < 16].mean() == pytest.approx(1, abs=0.03)
    assert back[np.hypot(y, x) > 24].mean() == pytest.approx(0, abs=0.03)


def test_projection_agrees_with_scikit_image() -> None:
    from skimage.transform import radon as project

    y, x = np.mgrid[:64, :64] - 31.5
    disk = (np.hypot(y - 6, x + 9) < 11).astype(np.float32)
    beam = radon.ParallelBeam(64, 8)
    ours = beam.project(disk[None])[..., 0]
    theirs = project(disk, np.arange(8) * 180 / 8, circle=False).T
    # scikit-image rotates about pixel N // 2, we about the middle of the slice, so
    # compare the sorted profile of each view, which does not depend on this.
    width = min(ours.shape[1], theirs.shape[1])
    a = np.sort(ours, axis=1)[:, -width:]
    b = np.sort(theirs, axis=1)[:, -width:]
    assert np.abs(a - b).mean() < 0.25


def test_short_exposure_gives_the_noise_asked_for() -> None:
    volume = np.full((4, 64, 64), 0.5, np.float32)
    quiet = radon.short_exposure_scan(volume, n_angles=90, noise=1e-4, seed=0)
    loud = radon.short_exposure_scan(volume, n_angles=90, noise=0.2, seed=0)
    middle = (slice(None), slice(16, 48), slice(16, 48))
    assert (loud - quiet)[middle].std() == pytest.approx(0.2, rel=0.35)
    assert quiet[middle].mean() == pytest.approx(0.5, rel=0.03)
    again = radon.short_exposure_scan(volume, n_angles=90, noise=0.2, seed=0)
    np.testing.assert_array_equal(loud, again)
