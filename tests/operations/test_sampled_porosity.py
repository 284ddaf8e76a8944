"""Porosities of the samples of a restoration, at the threshold of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_geosr as geosr
from napari_geosr.core.volume import Volume
from napari_geosr.measure.interval import (
    conformal_quantile,
    needed_shift,
    sample_quantiles,
)
from napari_geosr.measure.reports.html import page
from napari_geosr.operations.measure import figure_rows
from napari_geosr.operations.measure.sampled import sampled_porosities

SHAPE = (8, 24, 24)


def mean_of_samples(**more: Any) -> Volume:
    """A volume with a porosity of 1/4, and 1/5 and 2/5 in its two samples."""
    grey = np.full(SHAPE, 200, np.float32)
    grey[:2] = 50
    grey += np.random.default_rng(0).normal(0, 3, SHAPE).astype(np.float32)
    record = {
        "operation": "restore",
        "uncertainty": {"kind": "diffusion", "this": "mean", "calibration": None},
        "porosity_samples": {
            "levels": [0.0, 100.0, 150.0, 250.0],
            "below_level": [[0.0, 0.2, 0.2, 1.0], [0.0, 0.4, 0.4, 1.0]],
            "threshold": 125.0,
            "porosity": [0.2, 0.4],
            "shape": list(SHAPE),
        },
    }
    return Volume(grey, "ZYX", name="mean", provenance=(record | more,))


@pytest.mark.parametrize(
    ("phase", "porosities"), [("dark", (0.2, 0.4)), ("bright", (0.8, 0.6))]
)
def test_porosities_at_the_threshold(
    phase: str, porosities: tuple[float, float]
) -> None:
    volume = mean_of_samples()
    report = geosr.measure_porosity(volume, threshold=125, phase=phase)
    found = sampled_porosities(volume, report)
    assert found is not None
    assert found.porosities == pytest.approx(porosities)
    assert found.mean_image == report.porosity
    assert found.caption == "Spread of 2 samples, not a calibrated interval."
    (remark,) = [w for w in report.warnings if "samples that agree" in w]
    low, high = (f"{100 * end:.0f}" for end in sorted(porosities))
    assert f"is {low} to {high} % (mean" in remark
    assert "standard deviation 14 percentage points" in remark
    assert "not a calibrated interval" in remark


def test_part_of_a_volume_is_not_compared_with_the_whole() -> None:
    volume = mean_of_samples()
    mask = volume.replace(data=np.indices(SHAPE)[1] > 3, provenance=())
    found = sampled_porosities(
        volume, geosr.measure_porosity(volume, threshold=125, mask=mask)
    )
    assert found is not None
    assert found.mean_image is None
    assert "in the whole volume, not a calibrated" in found.caption


EMPTY = {"light": b"", "dark": b""}
CALIBRATION = {
    "kind": "diffusion",
    "members": 2,
    "factor": 3.0,
    "nominal": 0.9,
    "scans": 20,
    "sampling_steps": 10,
    "quantile_shift": 0.05,
}


def calibrated(members: int = 2, **more: Any) -> Volume:
    """The mean of two samples of a calibrated model."""
    uncertainty = {
        "kind": "diffusion",
        "this": "mean",
        "members": ["sample"] * members,
        "calibration": CALIBRATION | more,
    }
    return mean_of_samples(uncertainty=uncertainty, settings={"sampling_steps": 10})


def test_calibrated_quantiles_are_the_interval() -> None:
    volume = calibrated()
    report = geosr.measure_porosity(volume, threshold=125)
    # The 5 and 95 % quantiles of 0.2 and 0.4, moved apart by 0.05.
    assert report.figures["porosity_interval"] == pytest.approx([0.16, 0.44])
    assert report.figures["porosity_interval_nominal"] == 0.9
    assert report.figures["porosity_interval_factor"] is None
    assert report.figures["pores_per_mm3_interval"] is None
    (remark,) = [w for w in report.warnings if "samples that agree" in w]
    assert "The calibrated interval, from these samples, is 16 to 44 %." in remark
    assert not any("less often" in w for w in report.warnings)
    found = sampled_porosities(volume, report)
    assert found is not None
    assert found.caption.endswith("Calibrated 90 % interval: 16 to 44 %.")
    (row,) = [row for row in figure_rows({"a": report}) if "interval" in row.label]
    assert row.label == "Porosity interval (90 %)"
    assert "Quantiles of the porosities of the samples" in row.help
    text = page({"a": report}, title="a", pictures={}, histogram=EMPTY, records=[])
    assert "quantiles of the porosities of the samples" in text
    assert "90 % of scans like those used" in text
    assert "standard deviations of the restoration" not in text


def test_the_interval_applies_to_runs_like_those_of_the_calibration() -> None:
    report = geosr.measure_porosity(calibrated(members=3), threshold=125)
    assert any("calibrated with 2 members" in w for w in report.warnings)
    mask = calibrated().replace(data=np.indices(SHAPE)[1] > 3, provenance=())
    part = geosr.measure_porosity(calibrated(), threshold=125, mask=mask)
    assert part.interval is None
    old = geosr.measure_porosity(calibrated(quantile_shift=None), threshold=125)
    assert old.interval is None
    other = geosr.measure_porosity(calibrated(), threshold=130)
    assert other.interval is None  # it was calibrated at Otsu's threshold


def test_a_part_of_the_restored_volume_has_no_interval() -> None:
    volume = calibrated()
    half = volume.replace(data=np.asarray(volume.data)[:4])
    assert geosr.measure_porosity(half, threshold=125).interval is None
    holes = np.array(volume.data)
    holes[0] = np.nan
    report = geosr.measure_porosity(volume.replace(data=holes), threshold=125)
    assert report.interval is None


def test_levels_that_are_too_far_apart_give_no_porosities() -> None:
    """For example because of a few grains far brighter than everything else."""
    samples = {"levels": [0.0, 1000.0, 5000.0], "below_level": [[0.0, 1.0, 1.0]] * 2}
    volume = mean_of_samples(porosity_samples=samples)
    report = geosr.measure_porosity(volume, threshold=125)
    assert sampled_porosities(volume, report) is None
    at = {"threshold": 125.0, "porosity": [0.2, 0.4]}
    volume = mean_of_samples(porosity_samples=samples | at)
    found = sampled_porosities(volume, report)
    assert found is not None
    assert found.porosities == (0.2, 0.4)


def test_rounded_results_are_measured_between_two_grey_values() -> None:
    levels = np.linspace(50, 100, 51).tolist()
    below = [[(level - 50) / 50 for level in levels]] * 2
    record = {"levels": levels, "below_level": below}
    volume = mean_of_samples(porosity_samples=record)
    whole = volume.replace(data=np.rint(np.asarray(volume.data)).astype(np.uint8))
    for one, expected in ((volume, 0.6), (whole, 0.61)):
        report = geosr.measure_porosity(one, threshold=80)
        found = sampled_porosities(one, report)
        assert found is not None
        assert found.porosities == pytest.approx([expected] * 2)


def test_standard_deviations_have_precedence() -> None:
    volume = calibrated()
    record = dict(volume.provenance[-1])
    record["uncertainty"] = record["uncertainty"] | {"this": "standard deviation"}
    deviation = volume.replace(data=np.full(SHAPE, 1.0, np.float32))
    deviation = deviation.replace(provenance=(record,))
    report = geosr.measure_porosity(volume, threshold=125, deviation=deviation)
    assert report.figures["porosity_interval_factor"] == 3.0
    assert report.figures["porosity_interval"] == pytest.approx([0.25, 0.25])


@given(
    porosities=st.lists(st.floats(0, 1), min_size=2, max_size=32),
    nominal=st.floats(0.5, 0.99),
    truth=st.floats(0, 1),
)
def test_the_needed_shift_just_reaches_the_porosity(porosities, nominal, truth) -> None:
    shift = needed_shift(porosities, nominal, truth)
    low, high = sample_quantiles(porosities, nominal, shift)
    assert low - 1e-9 <= truth <= high + 1e-9
    low, high = sample_quantiles(porosities, nominal, shift - 0.01)
    assert low <= high
    assert not low < truth < high or low == 0 or high == 1


def test_calibrated_intervals_have_the_nominal_coverage() -> None:
    """Samples that vary far too little: split conformal prediction widens them."""
    rng = np.random.default_rng(0)

    def scan() -> tuple[list[float], float]:
        truth = rng.uniform(0.2, 0.4)
        centre = truth + rng.normal(0, 0.03)
        return list(centre + rng.normal(0, 0.003, 16)), truth

    shift = conformal_quantile([needed_shift(s, 0.9, t) for s, t in _n(scan, 99)], 0.9)
    held = 0
    for samples, truth in _n(scan, 1000):
        low, high = sample_quantiles(samples, 0.9, shift)
        held += low <= truth <= high
    assert held == pytest.approx(900, abs=60)


def _n(make: Any, n: int) -> list[Any]:
    return [make() for _ in range(n)]


def test_other_volumes_have_no_samples() -> None:
    mean = mean_of_samples()
    spread = {"kind": "diffusion", "this": "standard deviation", "calibration": None}
    others = {
        "scan": mean.replace(provenance=()),
        "restored again": mean.replace(
            provenance=(*mean.provenance, {"operation": "restore"})
        ),
        "deviation": mean_of_samples(uncertainty=spread),
        "not measured": mean_of_samples(porosity_samples={"left_out": 0}),
    }
    for name, volume in others.items():
        report = geosr.measure_porosity(volume)
        assert sampled_porosities(volume, report) is None, name
        assert not any("samples that agree" in w for w in report.warnings), name
    local = geosr.measure_porosity(mean, local_window=40)
    assert sampled_porosities(mean, local) is None
