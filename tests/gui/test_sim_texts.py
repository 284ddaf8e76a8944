"""Texts of the SIM dock about results."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.volume import Volume
from napari_geosr.gui.sim.texts import figures
from napari_geosr.operations.sim import SimResult
from napari_geosr.operations.sim.trust import SimTrust


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1234.5, "nm", "1234"),
        (123.4, "nm", "123"),
        (120.0, "nm", "120"),
        (98.0, "nm", "98.0"),
        (0.12, "µm", "0.120"),
    ],
)
def test_a_resolution_has_three_digits(value: float, unit: str, text: str) -> None:
    image, angles = np.zeros((8, 8), np.float32), np.ones(3, np.float32)
    frames, part = np.ones((3, 3), np.float32), (slice(0, 8), slice(0, 8))
    checks = SimTrust(
        frame_residuals=frames,
        pattern_residuals=frames,
        held_out=None,
        residual=image,
        place=part,
        phase_errors=frames,
        wave_vector_errors=angles,
        modulation=angles,
        frc_resolution=value,
        widefield_frc_resolution=None,
        decorrelation_resolution=value,
        unit=unit,
    )
    volume = Volume(image, "YX", (1.0, 1.0), unit)
    result = SimResult(volume, "wiener", {}, {"seconds": 1.0}, checks=checks)
    found = [each for each in figures(result) if each.label.startswith("Resolution")]
    assert [(each.value, each.unit) for each in found] == [(text, unit)] * 2
