"""Histograms and thresholds compared with numpy and scikit-image on the full data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import MAX_BINS, GreyHistogram
from napari_geosr.measure.segment import phase_mask, threshold_of, threshold_value

SKIMAGE = {
    "otsu": filters.threshold_otsu,
    "li": filters.threshold_li,
    "triangle": filters.threshold_triangle,
}


def three_phases(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((24, 40, 40)), 2)
    smooth /= smooth.std()
    grey = np.select([smooth < -0.8, smooth < 0.9], [40.0, 110.0], 190.0)
    return grey + rng.normal(0, 9, grey.shape)


@pytest.mark.parametrize("rule", ["otsu", "li", "triangle"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_thresholds_are_those_of_scikit_image(rule, dtype) -> None:
    factor = 200 if dtype == np.uint16 else 1
    data = (three_phases() * factor).clip(0).astype(dtype)
    ours = threshold_value(data, PorosityConfig(threshold=rule))
    theirs = float(SKIMAGE[rule](data.copy()))
    width = 1.0 if data.dtype.kind == "u" else float(np.ptp(data)) / 256
    if data.dtype.kind == "u" and rule != "li":
        assert ours == theirs
    assert abs(ours - theirs) <= width * 1.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_multi_otsu_takes_the_side_of_the_pores(dtype) -> None:
    factor = 200 if dtype == np.uint16 else 1
    data = (three_phases() * factor).clip(0).astype(dtype)
    few = data if dtype == np.uint8 else (data / factor).astype(np.uint8)
    low, high = filters.threshold_multiotsu(few, classes=3)
    for phase, expected in (("dark", low), ("bright", high)):
        config = PorosityConfig(threshold="multi-otsu", phase=phase)
        assert abs(threshold_value(data, config) / factor - expected) <= 1.5
    with pytest.raises(VolumeError, match="fewer than three"):
        threshold_value(
            (few > 100).astype(np.uint8), PorosityConfig(threshold="multi-otsu")
        )


def test_a_number_is_taken_as_it_is() -> None:
    assert threshold_value(three_phases(), PorosityConfig(threshold=77.5)) == 77.5
    assert PorosityConfig.create(threshold="77.5").threshold == 77.5


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "f2", "f4", ">f4", "f8"]
)
def test_two_values_are_told_apart_in_every_type(dtype: str) -> None:
    data = np.zeros((4, 5, 6), dtype)
    data[1:3] = 1
    value = threshold_value(data, PorosityConfig())
    native = data.astype(data.dtype.newbyteorder("="))
    np.testing.assert_array_equal(phase_mask(native, value, "dark"), data == 0)
    np.testing.assert_array_equal(phase_mask(data, value, "bright"), data == 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-8, 1.0, 3e5]),
    shift=st.sampled_from([0.0, -4.0, 1e3]),
)
def test_float_histogram_counts_every_value(seed, scale, shift) -> None:
    rng = np.random.default_rng(seed)
    values = ((rng.standard_normal(500) + shift) * scale).astype(np.float32)
    values[:3] = np.nan, np.inf, -np.inf
    histogram = GreyHistogram(is_integer=False)
    for block in np.array_split(values, 5):
        histogram.add(block)
    finite = values[np.isfinite(values)].astype(float)
    assert histogram.n == finite.size
    assert histogram.n_nonfinite == 3
    assert len(histogram.counts) <= MAX_BINS
    assert histogram.counts[0]
    assert histogram.counts[-1]
    order = np.sort(finite)
    approximate = np.repeat(histogram.centres, histogram.counts)
    np.testing.assert_allclose(approximate, order, atol=histogram.width)
    assert histogram.width < np.ptp(finite) / 1000


def test_integer_histogram_is_exact(rng: np.random.Generator) -> None:
    values = rng.integers(-300, 60000, 5000).astype(np.int32)
    histogram = GreyHistogram(is_integer=True)
    for block in np.array_split(values, 7):
        histogram.add(block)
    expected = np.bincount(values - values.min())
    np.testing.assert_array_equal(histogram.counts, expected)
    np.testing.assert_array_equal(
        histogram.centres[[0, -1]], [values.min(), values.max()]
    )


def test_rebinning_keeps_the_counts(rng: np.random.Generator) -> None:
    histogram = GreyHistogram(is_integer=False)
    histogram.add(rng.random(1000))
    counts, edges = histogram.rebinned(64)
    assert counts.sum() == 1000
    assert len(edges) == 65
    assert edges[0] == histogram.minimum


def test_reading_can_be_stopped() -> None:
    with pytest.raises(Cancelled):
        threshold_value(three_phases(), PorosityConfig(), lambda: True)


@pytest.mark.parametrize("phase", ["dark", "bright"])
@pytest.mark.parametrize("value", [-5.0, 0.0, 2.7, 255.0, 1e9])
def test_integer_masks_compare_as_numbers(phase, value) -> None:
    block = np.array([0, 2, 3, 255], np.uint8)
    expected = block <= value if phase == "dark" else block > value
    np.testing.assert_array_equal(phase_mask(block, value, phase), expected)


def test_threshold_of_needs_no_second_sweep() -> None:
    histogram = GreyHistogram(is_integer=True)
    histogram.add(np.array([1, 1, 9, 9], np.uint8))
    assert threshold_of(histogram, PorosityConfig(), np.dtype("u1")) == 1
