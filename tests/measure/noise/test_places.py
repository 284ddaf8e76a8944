"""Tests of noise that is not equally strong everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.inputs.scan import describe_noise

Array = npt.NDArray[np.float64]
SHAPE = (48, 64, 64)
POSITION = "depends on the position"


def blobs(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Two phases of grey values 0 and 100 with soft borders."""
    field = np.random.default_rng(seed).normal(size=shape)
    phase = ndimage.gaussian_filter(field, 5.0, mode="wrap") > 0
    return 100 * ndimage.gaussian_filter(phase.astype(float), 0.6)


def noise_of(
    levels: Array | float,
    shape: tuple[int, ...],
    axes: str = "ZYX",
    *,
    blur: float = 0.0,
) -> Noise:
    """The noise measured in blobs with noise of these standard deviations."""
    values = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=shape), blur)
    return estimate_noise(Volume(blobs(shape) + values / values.std() * levels, axes))


def said(noise: Noise) -> list[str]:
    return [sentence for sentence in noise.doubts if POSITION in sentence]


@pytest.mark.parametrize("blur", [0.0, 0.7])
@pytest.mark.parametrize("level", [5.0, 20.0])
def test_equal_noise_is_not_doubted(level: float, blur: float) -> None:
    assert not said(noise_of(level, SHAPE, blur=blur))


@pytest.mark.parametrize("seed", range(3))
def test_equal_noise_in_a_small_image_is_not_doubted(seed: int) -> None:
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=(112, 112)), 0.9
    )
    scan = blobs((112, 112), seed) + 10 * noise / noise.std()
    assert not said(estimate_noise(Volume(scan, "YX")))


def test_photon_noise_of_a_bright_corner_is_no_matter_of_position() -> None:
    rng = np.random.default_rng(2)
    clean = 50 + blobs((48, 80, 80)) / 2
    clean[:14, :24, :24] = 700
    noise = estimate_noise(Volume(rng.poisson(clean).astype(float), "ZYX"))
    assert not said(noise)
    assert noise.at([700.0])[0] == pytest.approx(np.sqrt(700), rel=0.1)


def test_noisy_ends_of_a_large_scan_are_told() -> None:
    """Only a part of it is read, but from all its regions."""
    rng = np.random.default_rng(3)
    shape = (100, 160, 160)
    for axis in range(3):
        outer = np.minimum(np.arange(shape[axis]), np.arange(shape[axis])[::-1])
        levels = np.where(outer < 0.18 * shape[axis], 20.0, 5.0)
        levels = levels.reshape([-1 if i == axis else 1 for i in range(3)])
        scan = 100 + levels * rng.normal(size=shape)
        noise = estimate_noise(Volume(scan.astype(np.float32), "ZYX"))
        assert len(said(noise)) == 1, axis
        assert noise.interval[1] == pytest.approx(20, rel=0.15)


def test_few_pores_do_not_make_the_noise_stronger_than_the_contrast() -> None:
    """Less than 2 % of the voxels are pores, so that the percentiles exclude them."""
    clean = np.full((40, 64, 64), 100.0)
    for z, y, x in np.random.default_rng(5).integers(6, 34, (6, 3)):
        clean[z - 3 : z + 3, y - 3 : y + 3, x - 3 : x + 3] = 0
    noise = np.random.default_rng(6).normal(0, 5, clean.shape)
    doubts = estimate_noise(Volume(clean + noise, "ZYX")).doubts
    assert not any("stronger than the contrast" in text for text in doubts)


def test_calm_region_of_a_noisy_scan_is_told() -> None:
    """The level is measured in the other regions, at other grey values."""
    clean = blobs(SHAPE)
    calm = np.zeros(SHAPE, bool)
    calm[:, :24] = True
    rng = np.random.default_rng(7)
    clean[calm] += 20 * rng.normal(size=(2, 2, 2)).repeat(24, 0).repeat(12, 1).repeat(
        32, 2
    ).reshape(-1)
    levels = np.where(calm, 2.0, 12.0)
    noise = estimate_noise(Volume(clean + levels * rng.normal(size=SHAPE), "ZYX"))
    assert said(noise)
    assert noise.interval[0] < 3
    assert noise.interval[1] > 10


def test_two_scans_show_it_too() -> None:
    rng = np.random.default_rng(4)
    clean = blobs(SHAPE)
    levels = np.linspace(5.0, 20.0, SHAPE[1])[:, None]
    first, second = (
        Volume(clean + levels * rng.normal(size=SHAPE), "ZYX") for _ in range(2)
    )
    noise = estimate_noise(first, second=second)
    assert len(said(noise)) == 1
    assert noise.interval[1] == pytest.approx(19, rel=0.15)


def test_it_is_printed() -> None:
    levels = np.linspace(5.0, 20.0, SHAPE[1])[:, None]
    assert POSITION in describe_noise(noise_of(levels, SHAPE))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_noise_that_increases_along_an_axis_is_told(axis: int) -> None:
    along = np.linspace(5.0, 20.0, SHAPE[axis])
    levels = along.reshape([-1 if i == axis else 1 for i in range(3)])
    noise = noise_of(levels, SHAPE)
    assert len(said(noise)) == 1
    assert noise.level < 9, "the least noisy regions are described"
    assert "structure may be removed" not in said(noise)[0]
    assert noise.interval[1] == pytest.approx(19, rel=0.15)


def test_noise_that_increases_towards_the_edge_is_told() -> None:
    """Corners have ten times the noise of the axis, as in the worst case reported."""
    y, x = np.ogrid[:96, :96]
    distance = np.hypot(y - 47.5, x - 47.5) / 48
    noise = noise_of(5 + 20 * distance**2, (32, 96, 96))
    assert len(said(noise)) == 1
    assert noise.interval[1] > 3 * noise.level


def test_image_with_a_noisy_half_is_told() -> None:
    levels = np.where(np.arange(192)[:, None] < 96, 4.0, 16.0)
    noise = noise_of(levels, (192, 192), "YX")
    assert len(said(noise)) == 1
    assert "times as strong as stated" in said(noise)[0]
    assert noise.interval[1] == pytest.approx(16, rel=0.1)


def test_noise_in_one_half_only_is_told_without_a_level() -> None:
    levels = np.where(np.arange(SHAPE[0])[:, None, None] < 24, 0.3, 10.0)
    noise = noise_of(levels, SHAPE)
    assert noise.level == 0
    assert noise.interval[1] == pytest.approx(10, rel=0.2)
    assert "% of the contrast in others" in said(noise)[0]


@settings(max_examples=4, deadline=None)
@given(unit=st.sampled_from([1e-6, 0.01, 1.0, 300.0]), shift=st.floats(-1e4, 1e4))
def test_unit_of_grey_values_does_not_matter(unit: float, shift: float) -> None:
    along = np.linspace(5.0, 20.0, SHAPE[0])[:, None, None]
    scan = blobs(SHAPE) + np.random.default_rng(1).normal(size=SHAPE) * along
    noise = estimate_noise(Volume(unit * scan + unit * shift, "ZYX"))
    assert len(said(noise)) == 1
    assert noise.interval[1] / unit == pytest.approx(19, rel=0.15)
