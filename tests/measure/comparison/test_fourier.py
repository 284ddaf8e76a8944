"""Fourier correlation in cases with known theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage, signal

from napari_geosr.measure.comparison.fourier import (
    CRITERIA,
    FourierCorrelation,
    checkerboard_correlation,
    fourier_correlation,
    information_threshold,
    power_spectrum,
)


def frequencies(shape, voxel_size) -> np.ndarray:
    axes = [np.fft.fftfreq(n, v) for n, v in zip(shape, voxel_size, strict=True)]
    return np.sqrt(sum(f**2 for f in np.meshgrid(*axes, indexing="ij")))


def filtered(rng, shape, transfer) -> np.ndarray:
    """White noise filtered with a transfer function; its power is the square of it."""
    spectrum = np.fft.fftn(rng.normal(size=shape)) * transfer
    return np.fft.ifftn(spectrum).real


def two_scans(rng, clean, sigma):
    return [
        (clean + sigma * rng.normal(size=clean.shape)).astype(np.float32)
        for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("shape", "voxel"),
    [((48, 50, 51), (1, 1, 1)), ((20, 33, 40), (2, 0.5, 0.7)), ((64, 65), (1, 1))],
)
def test_a_volume_correlates_with_itself(rng, shape, voxel):
    x = rng.normal(size=shape).astype(np.float32)
    for planes in (False, True):
        found = fourier_correlation(x, x, voxel, planes=planes)
        np.testing.assert_allclose(found.correlation, 1, atol=1e-6)
        assert found.cut_off("1/7") is None
        assert found.resolution("half-bit") == pytest.approx(1 / found.nyquist)
        assert found.is_limited_by_voxels("1-bit")


@pytest.mark.parametrize(
    ("shape", "cut"),
    [((512, 512), 0.15), ((512, 512), 0.25), ((160, 160, 160), 0.3)],
)
def test_the_cut_off_of_band_limited_noise(rng, shape, cut):
    """Within 3 % of theory, for a signal-to-noise ratio of 4 below the cut-off."""
    f = frequencies(shape, (1,) * len(shape))
    one, other = two_scans(rng, filtered(rng, shape, f < cut), 0.5)
    found = fourier_correlation(one, other, (1,) * len(shape))
    for criterion in CRITERIA:
        assert found.cut_off(criterion) == pytest.approx(cut, rel=0.03)
    inside = (found.frequency > 0.3 * cut) & (found.frequency < 0.9 * cut)
    assert found.correlation[inside].mean() == pytest.approx(4 / 5, abs=0.02)
    assert abs(found.correlation[found.frequency > 1.1 * cut].mean()) < 0.02


def test_a_gaussian_spectrum_ends_where_its_formula_says(rng):
    """Signal exp(-f²/w²), noise 0.05: FSC = S / (S + N) is 1/7 at S/N = 1/6."""
    w, noise = 0.1, 0.05
    f = frequencies((128,) * 3, (1,) * 3)
    clean = filtered(rng, (128,) * 3, np.exp(-(f**2) / (2 * w**2)))
    one, other = two_scans(rng, clean, math.sqrt(noise))
    found = fourier_correlation(one, other, (1, 1, 1))
    expected = w * math.sqrt(math.log(6 / noise))
    assert found.cut_off("1/7") == pytest.approx(expected, rel=0.03)
    power = np.exp(-(found.frequency**2) / w**2)
    theory = power / (power + noise)
    clear = (theory > 0.05) & (theory < 0.95) & (found.frequency > 0.05)
    np.testing.assert_allclose(found.correlation[clear], theory[clear], atol=0.06)


def test_shells_are_physical_where_voxels_are_anisotropic(rng):
    """The same object and resolution, with twice the sampling distance along Z."""
    voxel = (1.0, 0.5, 0.5)
    shape = (64, 128, 128)
    f = frequencies(shape, voxel)
    one, other = two_scans(rng, filtered(rng, shape, f < 0.3), 0.5)
    found = fourier_correlation(one, other, voxel, unit="µm")
    assert found.nyquist == 0.5
    assert found.cut_off("half-bit") == pytest.approx(0.3, rel=0.08)
    rings = fourier_correlation(one, other, voxel, unit="µm", planes=True)
    assert rings.kind == "ring"
    assert rings.nyquist == 1.0
    assert rings.to_json_dict()["frequency_unit"] == "1/µm"


def test_independent_noise_stays_below_half_a_bit(rng):
    one, other = two_scans(rng, np.zeros((64, 64, 64)), 1.0)
    found = fourier_correlation(one, other, (1, 1, 1))
    above = found.correlation > found.threshold("half-bit")
    assert above[found.independent > 4].sum() <= 1
    assert found.resolution("half-bit") is None


def test_the_scatter_of_noise_is_that_of_independent_values(rng):
    """Counts the values that remain independent after windowing."""
    scatter = []
    for _ in range(40):
        one, other = two_scans(rng, np.zeros((96, 96)), 1.0)
        found = fourier_correlation(one, other, (1, 1))
        scatter.append(found.correlation)
    measured = np.std(scatter, axis=0)[8:45]
    expected = 1 / np.sqrt(2 * found.independent[8:45])
    np.testing.assert_allclose(np.mean(measured / expected), 1, atol=0.1)


def test_thresholds_are_those_of_van_heel_and_schatz():
    n = np.array([10.0, 100.0, 1000.0])
    root = np.sqrt(n)
    half = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    one = (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root)
    ratio = math.sqrt(2) / 2 - 0.5
    np.testing.assert_allclose(information_threshold(ratio, n), half, rtol=2e-3)
    np.testing.assert_allclose(information_threshold(0.5, n), one, rtol=1e-4)


@pytest.mark.parametrize(("shape", "w"), [((128,) * 3, 0.06), ((512, 512), 0.06)])
def test_a_checkerboard_tells_what_two_scans_would(rng, shape, w):
    d = len(shape)
    f = frequencies(shape, (1,) * d)
    clean = filtered(rng, shape, np.exp(-(f**2) / (2 * w**2)))
    one, other = two_scans(rng, clean, math.sqrt(0.02))
    single = checkerboard_correlation(one, (1,) * d)
    double = fourier_correlation(one, other, (1,) * d)
    assert single.kind == f"checkerboard {double.kind}"
    assert single.nyquist == 0.25
    assert single.cut_off("1/7") == pytest.approx(double.cut_off("1/7"), rel=0.12)


def test_a_checkerboard_in_slices(rng):
    f = frequencies((96, 96), (1, 1))
    clean = np.stack([filtered(rng, (96, 96), f < 0.12) for _ in range(20)])
    one, other = two_scans(rng, clean, 0.5)
    single = checkerboard_correlation(one, (1, 1, 1), planes=True)
    double = fourier_correlation(one, other, (1, 1, 1), planes=True)
    assert single.cut_off("half-bit") == pytest.approx(
        double.cut_off("half-bit"), rel=0.08
    )


def test_blur_that_correlates_noise_fools_the_checkerboard(rng):
    """It is rejected there because smoothed pure noise seems to have detail."""
    noise = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 1.2)
    found = checkerboard_correlation(noise.astype(np.float32), (1, 1))
    assert found.correlation.min() > 0.7
    assert found.is_limited_by_voxels("1/7")


def test_power_is_that_of_welch(rng):
    """Its integral over the plane of frequencies is the variance."""
    x = 3 * rng.normal(size=(30, 128, 128))
    found = power_spectrum(x.astype(np.float32), (2.0, 0.5, 0.5))
    np.testing.assert_allclose(found.power.mean(), 9 * 0.25, rtol=0.03)
    along = ndimage.gaussian_filter1d(x, 2, axis=2, mode="wrap")
    one_axis = power_spectrum(along[:, :1].repeat(128, axis=1), (1, 1, 1))
    _, welch = signal.welch(along[:, 0], nperseg=128, axis=-1, noverlap=0)
    density = welch.mean(axis=0) / 2  # of one side
    # Rows that are all alike: all power lies on one axis of frequencies.
    ratio = one_axis.power[3:20] * one_axis.frequency[3:20]
    shape = density[4:21]
    assert np.corrcoef(np.log(ratio), np.log(shape))[0, 1] > 0.95


def test_correlation_beyond_a_limit_is_not_used():
    """A correlation that dips briefly and rises again has no cut-off of its own."""
    frequency = np.arange(1, 101) / 200
    correlation = np.where(np.abs(frequency - 0.305) < 0.004, -0.01, 0.9)
    curve = FourierCorrelation(
        "ring", frequency, correlation, np.full(100, 1e3), 0.5, "pixel", (200, 200)
    )
    assert curve.cut_off("1/7") is None
    assert curve.resolution("1/7") == 2
    assert curve.up_to(0.25).resolution("1/7") == 4
    assert curve.up_to(0.305).cut_off("1/7") == pytest.approx(0.3, abs=0.005)
    assert curve.up_to(0.9).resolution("1/7") == 2
