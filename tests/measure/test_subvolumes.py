"""The size of a representative volume, and what it is based on."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import measure, scan
from scipy.ndimage import gaussian_filter

from napari_geosr.measure.phases.findings import Findings


def found(inside: np.ndarray) -> Findings:
    grey = scan(inside)
    report = measure(
        grey,
        "ZYX",
        statistics=("subvolumes",),
        voxel_size=(1.0, 1.0, 1.0),
        unit="µm",
        threshold=120.0,
    )
    return report.morphometry["subvolumes"]


def test_a_representative_size_that_no_other_size_confirms_is_uncertain() -> None:
    noise = np.random.default_rng(0).standard_normal((32, 32, 32))
    part = gaussian_filter(noise, 5, mode="wrap") > 0
    repeated = found(np.tile(part, (2, 2, 2)))  # only halves of it are equal
    assert repeated.values["RVE"] == pytest.approx(32)
    assert any("no larger one confirms it" in text for text in repeated.remarks)
    fine = found(np.random.default_rng(0).random((64, 64, 64)) < 0.3)
    assert fine.values["RVE"] < 32
    assert not any("confirms" in text for text in fine.remarks)
