"""Stated errors of the specific surface of flat surfaces in special orientations."""

from __future__ import annotations

import numpy as np
import pytest
from test_morphometry import measured

from napari_geosr.measure.morphometry import two_point


def _plates(shape: tuple[int, ...], normal: tuple[int, ...]) -> np.ndarray:
    """Plates of 10 voxels with gaps of 10 voxels."""
    unit = np.array(normal) / np.linalg.norm(normal)
    along = np.tensordot(unit, np.indices(shape), axes=1)
    return (along + 3.3) % 20 < 10


@pytest.mark.parametrize(
    ("normal", "error"),
    [((1, 0, 0), -0.07), ((1, 1, 0), -0.07), ((1, 1, 1), -0.04), ((1, 2, 3), 0.0)],
)
def test_errors_of_flat_surfaces(normal: tuple[int, ...], error: float) -> None:
    values = measured(_plates((80, 80, 80), normal), "two_point", "trabecular").figures
    assert values["S_v"] / 0.1 - 1 == pytest.approx(error, abs=0.01)
    if error:
        assert f"{-100 * error:.0f} %" in two_point.CONVENTION
    # Surfaces are found between voxels, so half a voxel at each border is missing.
    assert values["BS/TV"] / 0.1 - 1 == pytest.approx(error - 0.015, abs=0.015)


@pytest.mark.parametrize("normal", [(1, 0), (1, 1)])
def test_errors_of_straight_lines(normal: tuple[int, ...]) -> None:
    values = measured(_plates((200, 200), normal), "two_point").figures
    assert values["L_A"] / 0.1 - 1 == pytest.approx(-0.05, abs=0.01)
