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

Array = npt.NDArray[np.float64]
SHAPE = (48, 64, 64)
POSITION = "depends on the position"


def blobs(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Two phases of grey values 0 and 100 with soft borders."""
    field = np.random.default_rng(seed).normal(size=shape)
    phase = ndimage.gaussian_filter(field, 5.0, mode="wrap") > 0
    return 100 * ndimage.gaussian_filter(phase.astype(float), 0.6)


def noise_of(levels: Array | float, shape: tuple[int, ...], axes: str = "ZYX") -> Noise:
    values = np.random.default_rng(1).normal(size=shape) * levels
    return estimate_noise(Volume(blobs(shape) + values, axes))


def said(noise: Noise) -> list[str]:
    return [sentence for sentence in noise.doubts if POSITION in sentence]


@pytest.mark.parametrize("level", [5.0, 20.0])
def test_equal_noise_is_not_doubted(level: float) -> None:
    assert not said(noise_of(level, SHAPE))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_noise_that_increases_along_an_axis_is_told(axis: int) -> None:
    along = np.linspace(5.0, 20.0, SHAPE[axis])
    levels = along.reshape([-1 if i == axis else 1 for i in range(3)])
    noise = noise_of(levels, SHAPE)
    assert len(said(noise)) == 1
    assert noise.level < 9, "the calmest regions are described"
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


@settings(max_examples=10, deadline=None)
@given(unit=st.sampled_from([1e-6, 0.01, 1.0, 300.0]), shift=st.floats(-1e4, 1e4))
def test_unit_of_grey_values_does_not_matter(unit: float, shift: float) -> None:
    along = np.linspace(5.0, 20.0, SHAPE[0])[:, None, None]
    scan = blobs(SHAPE) + np.random.default_rng(1).normal(size=SHAPE) * along
    noise = estimate_noise(Volume(unit * scan + unit * shift, "ZYX"))
    assert len(said(noise)) == 1
    assert noise.interval[1] / unit == pytest.approx(19, rel=0.15)
