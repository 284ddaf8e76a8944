"""Shift of the threshold for the range of the porosity: cases calculated by hand."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import measure

from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.segment import shifted_thresholds


def shifted(values: np.ndarray, threshold: float) -> tuple[float, float]:
    source = np.broadcast_to(values, (2, 3, len(values)))
    return shifted_thresholds(
        run_to_end(histogram_steps(source, thickness=2)), threshold
    )


def test_five_percent_of_the_distance_between_the_means() -> None:
    # There is no grey value between 40 and 90, so the middle of the gap is shifted.
    values = np.array([40, 40, 40, 90], np.uint8)
    assert shifted(values, 55.0) == pytest.approx((62.5, 67.5))


def test_neighbouring_integers_leave_a_gap() -> None:
    # The pores are the same for any threshold between 10 and 11.
    values = np.array([10, 10, 10, 11], np.uint8)
    for threshold in (10.0, 10.25, 10.75):
        assert shifted(values, threshold) == pytest.approx((10.45, 10.55))


def test_floating_grey_values_without_a_gap_move_the_threshold_itself() -> None:
    values = np.linspace(0, 1, 200_001, dtype=np.float32)
    low, high = shifted(values, 0.6)
    # Means of 0 to 0.6 and of 0.6 to 1.
    assert low == pytest.approx(0.6 - 0.05 * 0.5, abs=1e-4)
    assert high == pytest.approx(0.6 + 0.05 * 0.5, abs=1e-4)


def test_one_phase_moves_nothing() -> None:
    assert shifted(np.array([7, 7, 8], np.uint8), 9.0) == (9.0, 9.0)


def test_the_range_of_the_porosity_is_that_of_the_moved_thresholds() -> None:
    # Every grey value once: means of 249.5 and 749.5, a shift of 25.
    ramp = np.random.default_rng(0).permutation(1000).reshape(10, 10, 10)
    report = measure(ramp.astype(np.uint16), threshold=499.5)
    assert report.porosity == pytest.approx(0.5)
    assert report.porosity_low == pytest.approx(0.475)
    assert report.porosity_high == pytest.approx(0.525)
