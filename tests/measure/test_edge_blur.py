"""The blur of a scan, estimated from the edges of its phases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.measure.comparison.edge_blur import FWHM, VOXEL_VARIANCE, edge_blur

SHAPE, FINER = (40, 56, 56), 3


@pytest.fixture(scope="module")
def pores() -> np.ndarray:
    """Spheres with voxels three times smaller than those of the scan."""
    rng = np.random.default_rng(1)
    grid = np.ogrid[tuple(slice(n * FINER) for n in SHAPE)]
    found = np.zeros([n * FINER for n in SHAPE], bool)
    for _ in range(24):
        middle = [rng.uniform(0, n * FINER) for n in SHAPE]
        radius = FINER * rng.uniform(7, 12)
        apart = sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True))
        found |= apart < radius**2
    return found


def scanned(pores: np.ndarray, sigma: tuple[float, ...], noise: float) -> np.ndarray:
    fine = np.where(pores, 40.0, 140.0)
    fine = ndimage.gaussian_filter(fine, [FINER * s for s in sigma])
    split = [m for n in SHAPE for m in (n, FINER)]
    scan = fine.reshape(split).mean((1, 3, 5))
    return scan + np.random.default_rng(2).normal(0, noise, scan.shape)


def expected(sigma: float, voxel: float) -> float:
    return FWHM * voxel * float(np.sqrt(sigma**2 + VOXEL_VARIANCE))


@pytest.mark.parametrize("noise", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_a_known_blur_is_found(pores: np.ndarray, sigma: float, noise: float) -> None:
    found = edge_blur([scanned(pores, (sigma,) * 3, noise)], (1.0, 1.0, 1.0))
    assert not found.reason
    assert found.width == pytest.approx([expected(sigma, 1)] * 3, rel=0.1)


def test_each_axis_has_its_width(pores: np.ndarray) -> None:
    scan = scanned(pores, (1.5, 0.7, 0.7), 5.0)
    found = edge_blur([scan[:20], scan[20:]], (4.0, 2.0, 2.0))
    across = [expected(1.5, 4), expected(0.7, 2), expected(0.7, 2)]
    assert found.width == pytest.approx(across, rel=0.15)
    bright = edge_blur([200 - scan], (4.0, 2.0, 2.0))
    assert bright.width == pytest.approx(across, rel=0.15)


def test_an_image_has_no_width_along_z(pores: np.ndarray) -> None:
    scan = scanned(pores, (0.0, 1.0, 1.0), 0.0)
    found = edge_blur([scan[z : z + 1] for z in range(0, 40, 4)], (1.0, 1.0, 1.0))
    assert found.width[0] is None
    assert found.width[1:] == pytest.approx([expected(1, 1)] * 2, rel=0.1)


def test_no_blur_is_that_of_a_voxel(pores: np.ndarray) -> None:
    found = edge_blur([scanned(pores, (0.0,) * 3, 0.0)], (1.0, 1.0, 1.0))
    assert found.width == pytest.approx([expected(0, 1)] * 3, rel=0.15)


def test_what_cannot_be_estimated_has_a_reason(pores: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    noisy = scanned(pores, (1.0,) * 3, 200.0)
    noise = rng.normal(100, 10, SHAPE)
    cells = ndimage.zoom(rng.integers(0, 2, (20, 28, 28)) * 100.0, 2, order=0)
    reasons = {
        "has no structure": [np.full(SHAPE, 5.0)],
        "too small": [np.zeros((4, 6, 6))],
        "too strong": [noisy],
        "too strong|8 voxels wide": [noise],
        "more than 8 voxels wide": [cells],
        "too small or": [],
    }
    for reason, blocks in reasons.items():
        found = edge_blur(blocks, (1.0, 1.0, 1.0))
        assert found.width == (None, None, None)
        assert any(part in found.reason for part in reason.strip().split("|")), reason
