"""PSNR, NRMSE and SSIM compared with scikit-image, in slabs and with a mask."""

from __future__ import annotations

import math

import numpy as np
import pytest
from grey_helpers import compared
from skimage.metrics import (
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError


@pytest.fixture
def truth(rng) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(rng.random((24, 37, 41)), 1.5).astype(np.float32)


@pytest.fixture
def image(rng, truth) -> np.ndarray:
    return (0.8 * truth + 0.1 + 0.02 * rng.normal(size=truth.shape)).astype("f4")


SSIM = {
    "data_range": 1.0,
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
}


@pytest.mark.parametrize("budget", [10**9, 10**6])
def test_figures_agree_with_scikit_image(image, truth, budget):
    """For any thickness of the slabs."""
    found = compared(image, truth, budget=budget)
    figures = found.figures["other"]
    wide = image.astype("f8"), truth.astype("f8")
    assert figures.psnr == pytest.approx(
        peak_signal_noise_ratio(wide[1], wide[0], data_range=1.0), rel=1e-9
    )
    centred = wide[1] - wide[1].mean(), wide[0] - wide[1].mean()
    assert figures.nrmse == pytest.approx(normalized_root_mse(*centred), rel=1e-6)
    assert figures.correlation == pytest.approx(
        np.corrcoef(image.ravel(), truth.ravel())[0, 1]
    )
    assert figures.ssim == pytest.approx(
        structural_similarity(wide[1], wide[0], **SSIM), abs=1e-6
    )
    assert found.window == "11 × 11 × 11 voxels"
    assert found.voxels == truth.size


def test_the_fit_is_least_squares_and_only_when_asked(image, truth):
    plain = compared(image, truth).figures["other"]
    fitted = compared(image, truth, affine=True).figures["other"]
    gain, offset = np.polyfit(image.ravel().astype("f8"), truth.ravel(), 1)
    assert (plain.gain, plain.offset) == (1, 0)
    assert (fitted.gain, fitted.offset) == pytest.approx((gain, offset), rel=1e-5)
    best = peak_signal_noise_ratio(truth, image * gain + offset, data_range=1.0)
    assert fitted.psnr == pytest.approx(best, rel=1e-5)
    assert plain.psnr_range_invariant == pytest.approx(best, rel=1e-5)
    assert plain.psnr < best - 1
    again = structural_similarity(
        truth.astype("f8"), image.astype("f8") * gain + offset, **SSIM
    )
    assert fitted.ssim == pytest.approx(again, abs=1e-5)


def test_slices_have_a_window_of_their_own(image, truth):
    few = compared(image[:10], truth[:10])
    assert few.window == "11 × 11 voxels in each slice"
    expected = np.mean(
        [
            structural_similarity(t, i, **SSIM)
            for t, i in zip(
                truth[:10].astype("f8"), image[:10].astype("f8"), strict=True
            )
        ]
    )
    assert few.figures["other"].ssim == pytest.approx(expected, abs=1e-6)
    asked = compared(image, truth, slicewise=True)
    assert asked.window == "11 × 11 voxels in each slice"
    narrow = compared(image[:, :10], truth[:, :10])
    assert narrow.window == ""
    assert narrow.figures["other"].ssim is None
    flat = compared(image[3], truth[3])
    assert flat.figures["other"].ssim == pytest.approx(
        structural_similarity(truth[3].astype("f8"), image[3].astype("f8"), **SSIM),
        abs=1e-6,
    )


@pytest.mark.parametrize("budget", [10**9, 10**6])
def test_outside_of_a_round_field_of_view_nothing_counts(image, truth, budget):
    y, x = np.ogrid[:37, :41]
    outside = np.hypot(y - 18, x - 20) > 18
    expected = peak_signal_noise_ratio(
        truth[:, ~outside], image[:, ~outside], data_range=1.0
    )
    image[:, outside] = np.nan
    found = compared(image, truth, budget=budget)
    figures = found.figures["other"]
    assert found.voxels == 24 * (~outside).sum()
    assert figures.psnr == pytest.approx(expected, rel=1e-5)
    # For voxels with a known window, nothing outside has any influence.
    filled = np.where(np.isnan(image), truth, image).astype("f8")
    _, whole = structural_similarity(truth.astype("f8"), filled, full=True, **SSIM)
    near = np.array(
        [
            [
                outside[max(0, i - 5) : i + 6, max(0, j - 5) : j + 6].any()
                for j in range(41)
            ]
            for i in range(37)
        ]
    )
    near[:5] = near[-5:] = near[:, :5] = near[:, -5:] = True
    assert figures.ssim == pytest.approx(whole[5:-5, ~near].mean(), abs=1e-6)


def test_a_mask_says_what_the_sample_is(image, truth):
    mask = np.zeros(truth.shape, np.uint8)
    mask[:, 10:30] = 7
    figures = compared(image, truth, mask).figures["other"]
    kept = truth[:, 10:30], image[:, 10:30]
    assert figures.psnr == pytest.approx(
        peak_signal_noise_ratio(*kept, data_range=1.0), rel=1e-6
    )
    with pytest.raises(VolumeError, match="No voxel is known"):
        compared(image, truth, np.zeros(truth.shape, np.uint8))


def test_the_range_is_that_of_the_base_or_the_smallest(image, truth):
    low, high = np.percentile(truth, (0.1, 99.9))
    asked = compared(image, truth, data_range=None)
    assert asked.data_range == pytest.approx(high - low, rel=1e-5)
    low, high = np.percentile(image, (0.1, 99.9))
    least = compared(3 * truth, image, data_range=None, of_base=False)
    assert least.data_range == pytest.approx(high - low, rel=1e-5)
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="data range"):
            compared(image, truth, data_range=wrong)
    with pytest.raises(VolumeError, match="one grey value"):
        compared(image, np.full_like(truth, 3), data_range=None)


def test_equal_volumes_have_an_infinite_psnr(truth):
    figures = compared(truth, truth).figures["other"]
    assert figures.psnr == math.inf
    assert figures.ssim == pytest.approx(1)
    assert figures.to_json_dict()["psnr"] is None


def test_it_can_be_stopped(image, truth):
    with pytest.raises(Cancelled):
        compared(image, truth, should_stop=lambda: True)
