from __future__ import annotations

import math

import numpy as np
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.measure.comparison import quality


def _balls(shape: tuple[int, ...], balls: list[tuple[float, float, float, float]]):
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for z, y, x, r in balls:
        centre = np.array([z, y, x]).reshape(3, 1, 1, 1)
        mask |= ((grid - centre) ** 2).sum(axis=0) <= r**2
    return mask


@pytest.fixture
def two_balls() -> np.ndarray:
    return _balls((24, 32, 32), [(8, 8, 8, 5), (14, 22, 22, 4)])


def test_psnr_and_ssim_agree_with_scikit_image(rng: np.random.Generator) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    truth = rng.random((16, 16, 16))
    image = truth + 0.1 * rng.standard_normal(truth.shape)
    expected = peak_signal_noise_ratio(truth, image, data_range=1.0)
    assert quality.psnr(image, truth, 1.0) == pytest.approx(expected, abs=1e-6)
    expected = structural_similarity(
        truth,
        image,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert quality.ssim(image, truth, 1.0) == pytest.approx(expected, abs=1e-6)
    assert quality.ssim(truth, truth, 1.0) == pytest.approx(1)


def test_psnr_of_known_cases() -> None:
    truth = np.zeros((4, 4))
    assert quality.psnr(truth + 0.1, truth, 1.0) == pytest.approx(20)
    assert quality.psnr(truth + 0.1, truth, 10.0) == pytest.approx(40)
    assert quality.psnr(truth, truth, 1.0) == math.inf
    with pytest.raises(VolumeError, match="range"):
        quality.psnr(truth, truth, 0.0)
    with pytest.raises(VolumeError, match="resample"):
        quality.psnr(truth, np.zeros((4, 5)), 1.0)


def test_integers_do_not_wrap() -> None:
    low, high = np.full((4, 4), 10, np.uint8), np.full((4, 4), 250, np.uint8)
    assert quality.psnr(low, high, 240) == pytest.approx(0)


def test_dice() -> None:
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    assert quality.dice(a, b) == 1
    a[0], b[0, :2] = True, True
    assert quality.dice(a, b) == pytest.approx(2 * 2 / (4 + 2))
    assert quality.dice(a, ~a) == 0


def test_errors_are_signed_and_relative() -> None:
    assert quality.relative_error(3, 2) == pytest.approx(0.5)
    assert quality.relative_error(1, -2) == pytest.approx(1.5)
    assert quality.relative_error(0, 0) == 0
    assert quality.relative_error(1, 0) == math.inf
    mask, truth = np.zeros(10, bool), np.zeros(10, bool)
    mask[:3], truth[:2] = True, True
    assert quality.porosity_error(mask, truth) == pytest.approx(0.5)


def test_equal_masks_have_no_error(two_balls: np.ndarray) -> None:
    found = quality.compare_pores(two_balls, two_balls)
    assert found == quality.PoreQuality(0.0, 0.0, 0.0, 0.0, 1.0)


def test_lost_and_invented_pores(two_balls: np.ndarray) -> None:
    one = _balls(two_balls.shape, [(8, 8, 8, 5)])
    lost = quality.compare_pores(one, two_balls)
    assert lost.pores_per_mm3_error == pytest.approx(-0.5)
    assert lost.porosity_error < 0
    assert lost.euler_error == pytest.approx(-0.5)
    assert quality.compare_pores(two_balls, one).pores_per_mm3_error == pytest.approx(1)


def test_specks_below_the_smallest_pore_do_not_count(two_balls: np.ndarray) -> None:
    specked = two_balls.copy()
    specked[2, 2::4, 30] = True
    found = quality.compare_pores(specked, two_balls, smallest=8)
    assert found.pores_per_mm3_error == 0
    assert quality.compare_pores(specked, two_balls, smallest=1).pores_per_mm3_error > 1
    assert found.euler_error > 0


def test_histogram_distance_is_in_decades() -> None:
    volumes = np.array([10.0, 100.0, 1000.0])
    distance = quality.volume_histogram_distance
    assert distance(10 * volumes, volumes) == pytest.approx(1)
    assert distance(volumes, volumes) == 0
    assert distance(np.array([]), volumes) == math.inf
    assert distance(np.array([]), np.array([])) == 0


def test_volumes_agree_with_scipy(rng: np.random.Generator) -> None:
    from scipy import ndimage

    mask = ndimage.gaussian_filter(rng.standard_normal((20, 24, 28)), 1.5) > 0.1
    for connectivity, structure in ((26, np.ones((3, 3, 3))), (6, None)):
        labels, n = ndimage.label(mask, structure)
        expected = ndimage.sum_labels(mask, labels, np.arange(1, n + 1)) * 2.5
        found = quality.pore_volumes(mask, 2.5, 20.0, connectivity)
        np.testing.assert_allclose(np.sort(found), np.sort(expected[expected >= 20]))
    plane = mask[3]
    labels, n = ndimage.label(plane, np.ones((3, 3)))
    assert len(quality.pore_volumes(plane, smallest=1)) == n


def test_two_resolutions_of_one_field_of_view(two_balls: np.ndarray) -> None:
    """A coarse mask compared with a fine truth: physical volumes, repeated voxels."""
    coarse = two_balls
    fine = two_balls.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    found = quality.compare_pores(coarse, fine, voxel_volume=8.0, smallest=64.0)
    assert found == quality.PoreQuality(0.0, 0.0, 0.0, 0.0, 1.0)
    with pytest.raises(VolumeError, match="field of view"):
        quality.compare_pores(coarse[:-1], fine)


def test_euler_number_of_a_torus_is_zero() -> None:
    z, y, x = np.mgrid[-8:9, -16:17, -16:17]
    torus = (np.hypot(y, x) - 9) ** 2 + z**2 <= 16
    assert quality.euler_number(torus) == 0
    assert quality.euler_number(_balls((20, 20, 20), [(9, 9, 9, 5)])) == 1
