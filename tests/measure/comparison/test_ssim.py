"""MS-SSIM compared with maps of scikit-image, in slabs, slices and with a mask."""

from __future__ import annotations

import numpy as np
import pytest
from grey_helpers import compared
from scipy import ndimage
from skimage.measure import block_reduce
from skimage.metrics import structural_similarity

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def structure(
    shape: tuple[int, ...], widths: tuple[float, ...] = (1.5, 6, 20)
) -> np.ndarray:
    """Grains of several sizes, between about 0 and 1."""
    rng = np.random.default_rng(0)
    found = np.zeros(shape, np.float32)
    for width in widths:
        part = ndimage.gaussian_filter(rng.normal(size=shape).astype("f4"), width)
        found += part / part.std()
    return (0.5 + found / 10).astype(np.float32)


def noisy(truth: np.ndarray, level: float, width: float = 15) -> np.ndarray:
    """Noise, and contrast and brightness that vary with position."""
    rng = np.random.default_rng(1)
    change = ndimage.gaussian_filter(rng.normal(size=truth.shape).astype("f4"), width)
    change *= 0.05 / change.std()
    made = (1 + change) * truth + change + rng.normal(0, level, truth.shape)
    return made.astype(np.float32)


def ssim_map(image: np.ndarray, truth: np.ndarray, luminance: bool) -> np.ndarray:
    """SSIM of scikit-image; for a large C₁, its luminance term is 1 everywhere."""
    return structural_similarity(
        truth,
        image,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
        K1=0.01 if luminance else 1e7,
    )[1]


def expected(image, truth, known=None) -> float:
    """MS-SSIM of whole arrays, as published."""
    known = np.ones(truth.shape, bool) if known is None else known
    # Unknown voxels may have any value.
    image = np.where(known, image, 9.0).astype("f8")
    truth = np.where(known, truth, -5.0).astype("f8")
    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        found = ssim_map(image, truth, luminance=scale == len(WEIGHTS) - 1)
        complete = ndimage.minimum_filter(known, 11, mode="constant", cval=0)
        result *= found[complete].mean() ** weight
        even = tuple(slice(0, n // 2 * 2) for n in truth.shape)
        image, truth = (block_reduce(v[even], 2, np.mean) for v in (image, truth))
        known = block_reduce(known[even], 2, np.min)
    return float(result)


#: Memory for about this many rows of the images below at once.
ROW = 207 * (140 + 4 * 2 + 2 * 8)


@pytest.mark.parametrize("rows", [1, 2, 7, 100, 10**5])
def test_an_image_in_bands_of_any_height(rows):
    truth = structure((213, 207))
    image = noisy(truth, 0.05)
    found = compared(image, truth, budget=ROW * (rows + 10)).figures["other"]
    assert found.ms_ssim == pytest.approx(expected(image, truth), abs=1e-6)
    assert 0.5 < found.ms_ssim < 0.99
    assert abs(found.ms_ssim - found.ssim) > 0.02


@pytest.mark.slow  # a volume with five scales is large
def test_a_volume_has_windows_of_all_axes():
    truth = structure((181, 178, 177), (1.5, 4))
    image = noisy(truth, 0.1, width=4)
    # A budget for slabs of a few slices.
    found = compared(image, truth, budget=200_000_000)
    assert found.figures["other"].ms_ssim == pytest.approx(
        expected(image, truth), abs=1e-6
    )
    assert found.remark == ""


@pytest.mark.parametrize("budget", [10**9, 10**7])
def test_in_slices_it_is_their_mean(budget):
    truth = structure((5, 190, 177))
    image = noisy(truth, 0.05)
    image[2] += np.float32(0.3) * truth[1]
    found = compared(image, truth, budget=budget)
    each = [expected(i, t) for i, t in zip(image, truth, strict=True)]
    assert np.ptp(each) > 0.001
    assert found.figures["other"].ms_ssim == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize("budget", [10**9, ROW * 30])
def test_unknown_voxels_and_those_outside_of_the_sample_do_not_count(budget):
    truth = structure((260, 250))
    image = noisy(truth, 0.05)
    known = np.ones(truth.shape, bool)
    known[:20] = known[100:103, 230:] = False
    mask = known.copy()
    known[:, :3] = False
    image[:, :3] = np.nan
    found = compared(image, truth, mask.astype("u1"), budget=budget).figures["other"]
    assert found.ms_ssim == pytest.approx(expected(image, truth, known), abs=1e-6)
    assert found.ms_ssim != pytest.approx(expected(noisy(truth, 0.05), truth), abs=1e-6)


def test_it_is_one_for_equal_volumes_and_falls_with_noise():
    truth = structure((200, 200))
    found = [
        compared(noisy(truth, level) if level else truth, truth).figures["other"]
        for level in (0, 0.02, 0.05, 0.1, 0.2, 0.5)
    ]
    values = [figures.ms_ssim for figures in found]
    assert values[0] == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    # Fine noise matters less than at one scale.
    assert all(f.ms_ssim > f.ssim for f in found[1:])


def test_an_inverted_image_has_none_of_it():
    truth = structure((200, 200))
    assert compared(1 - truth, truth).figures["other"].ms_ssim == 0


def test_the_gain_is_fitted_first():
    truth = structure((200, 200))
    fitted = compared(0.2 * truth, truth, affine=True).figures["other"]
    assert fitted.ms_ssim == pytest.approx(1, abs=1e-4)
    assert compared(0.2 * truth, truth).figures["other"].ms_ssim < 0.9


def test_fewer_scales_are_not_reported():
    truth = structure((12, 175, 300))
    image = noisy(truth, 0.05)
    found = compared(image[0], truth[0])
    assert found.figures["other"].ssim is not None
    assert found.figures["other"].ms_ssim is None
    assert "at least 176 voxels along Y and X, and the comparison has 175 × 300" in (
        found.remark
    )
    assert "--ssim slices" not in compared(image, truth).remark
    truth = structure((12, 176, 180))
    image = noisy(truth, 0.05)
    found = compared(image, truth)
    assert found.figures["other"].ms_ssim is None
    assert "along Z, Y and X" in found.remark
    assert "(--ssim slices)" in found.remark
    assert compared(image, truth, slicewise=True).figures["other"].ms_ssim is not None


def test_a_mask_that_leaves_no_coarse_window_is_said():
    truth = structure((200, 200))
    mask = np.ones(truth.shape, np.uint8)
    mask[::90] = 0
    found = compared(noisy(truth, 0.05), truth, mask)
    assert found.figures["other"].ssim is not None
    assert found.figures["other"].ms_ssim is None
    assert "leave no complete window of 176 voxels" in found.remark
