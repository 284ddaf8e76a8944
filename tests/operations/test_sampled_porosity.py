"""Porosities of the samples of a restoration, at the threshold of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.core.volume import Volume
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
    low, high = (f"{100 * end:.1f} %" for end in sorted(porosities))
    assert f"from {low} to {high}" in remark
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
