"""Closed shells are completed on grids that differ from those of the training data."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.measure.shapes import dice
from napari_geosr.operations.shapes import CompleteShapeConfig
from napari_geosr.operations.shapes.complete import complete_mask_steps
from napari_geosr.operations.shapes.simulation import simulated_skull


def score(given: np.ndarray, missing: np.ndarray, **more) -> float:
    """Dice coefficient of the part that the bundled model adds."""
    part = run_to_end(complete_mask_steps(given, CompleteShapeConfig(), **more))
    return dice(part.implant, missing)


def test_the_crown_of_a_skull_in_thick_slices_is_completed() -> None:
    """The wall is one or two slices thick where it lies in their plane."""
    whole = simulated_skull(103, 144, "none").complete
    z, y, x = np.ogrid[tuple(slice(n) for n in whole.shape)]
    middle = np.argwhere(whole).mean(0)
    near = (y - middle[1]) ** 2 + (x - middle[2]) ** 2 < 30**2
    full, hole = (
        mask.reshape(48, 3, 144, 144).mean(1) > 0.5
        for mask in (whole, near & (z > middle[0]))
    )
    assert score(full & ~hole, full & hole) > 0.85


def test_a_part_that_is_cut_off_at_the_end_of_the_volume_is_reported() -> None:
    whole = simulated_skull(101, 96, "none").complete
    planes = np.flatnonzero(whole.any((1, 2)))
    cut = planes[0] + int(0.8 * (planes[-1] - planes[0]))
    given = whole.copy()
    given[cut:] = False

    def warnings(volume: np.ndarray) -> list[str]:
        steps: list = []
        run_to_end(complete_mask_steps(volume, CompleteShapeConfig()), steps.append)
        found = [s.message for s in steps if isinstance(s, WarningIssued)]
        return [text for text in found if "cut off" in text]

    assert not warnings(given)
    (text,) = warnings(given[: cut + 4])
    assert " along Z)" in text
    assert " along Y" not in text
