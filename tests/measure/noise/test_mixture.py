"""Noise that is a mixture of correlated and white noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.measure.noise.mixture import Mixture, without_structure

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "microscopy"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the real files of ../shared/data"
)


def mixture(correlated: list[float], white: list[float]) -> Mixture:
    variances = np.add(correlated, white)
    shares = np.zeros(len(variances))
    return Mixture(variances, np.array(white) / variances, shares, (0.5,) * 3, None, 0)


def test_noise_shared_by_most_classes_is_kept_without_structure_of_others() -> None:
    found = without_structure(mixture([4, 4.2, 3.9, 4.1, 40], [1, 1, 2, 2, 9]))
    assert found is not None
    np.testing.assert_allclose(found.variances[:4], [5, 5.2, 5.9, 6.1])
    assert found.variances[4] == pytest.approx(1.5 * 4.1 + 9)
    assert found.white[4] == pytest.approx(9 / (1.5 * 4.1 + 9))
    np.testing.assert_array_equal(found.shares[:4], 0)
    assert found.shares[4] == pytest.approx(1 - (1.5 * 4.1 + 9) / 49)


def test_a_correlated_part_that_differs_between_classes_may_all_be_structure() -> None:
    assert without_structure(mixture([0, 2, 1, 0, 6, 24, 0, 36], [25] * 8)) is None
    equal = mixture([4, 4, 8, 6], [1, 1, 1, 1])
    assert without_structure(equal) is equal


def noisy(
    clean: np.ndarray, level: float, widths: tuple[float, ...], seed: int
) -> np.ndarray:
    """Add noise of a level relative to the contrast, correlated along each axis."""
    noise = np.random.default_rng(seed).standard_normal(clean.shape)
    noise = gaussian_filter(noise, widths, mode="wrap")
    low, high = np.percentile(clean, (2, 98))
    return clean + level * (high - low) * noise / noise.std()


@needs_data
def test_correlated_noise_over_the_photon_noise_of_beads() -> None:
    """The photon noise of the bright beads is white, and that of the background weak.

    With a single spectrum, most of the correlated noise of the background would count
    as structure (level too low by 40 %).
    """
    clean = tifffile.imread(DATA / "Bead_Image1_crop.tif")[8:32, 27:123, 27:123] * 1.0
    scan = noisy(clean, 0.1, (0.8, 0.8, 0.8), 3)
    background = gaussian_filter(clean, 2) < 1.35
    found = estimate_noise(Volume(scan, "ZYX"))
    true = float(scan[background].std())
    assert found.at(1.1) == pytest.approx(true, rel=0.15)
    assert found.correlation["z"] > 0.5


@needs_data
def test_fine_bright_structure_does_not_hide_the_noise_of_the_background() -> None:
    """Membranes have no uniform bright region, only a uniform background."""
    clean = tifffile.imread(DATA / "membrane_2d_timelapse.tif")[0] * 1.0
    scan = noisy(clean, 0.05, (0.8, 0.8), 7)
    found = estimate_noise(Volume(scan, "YX"))
    low, high = np.percentile(clean, (2, 98))
    assert found.at(160.0) == pytest.approx(0.05 * (high - low), rel=0.15)
    assert found.correlation["x"] > 0.55
