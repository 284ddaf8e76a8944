"""The distance between mid-axes, from which Tb.N is computed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.local_thickness.spheres import thickness_steps
from napari_geosr.measure.morphometry.trabecular import mid_axis_steps
from napari_geosr.measure.phases import Box, Mask

EDGE = 84
#: Distance between the plates, in voxels.
PITCH = 20


def plates(normal: tuple[float, float, float], wide: float) -> Mask:
    """Return parallel plates with this normal."""
    unit = np.array(normal) / np.linalg.norm(normal)
    along = np.tensordot(unit, np.indices((EDGE,) * 3), 1)
    found: Mask = (along + 0.3) % PITCH < wide
    return found


def mid_axes(phase: Mask, **settings: int) -> Mask:
    found = np.zeros(phase.shape, bool)

    def write(box: Box, marked: Mask) -> None:
        found[box] = marked

    run_to_end(mid_axis_steps(phase, write, **settings))
    return found


def distance(axes: Mask) -> float:
    """Return the mean distance between mid-axes in the middle of a volume."""
    within = np.zeros(axes.shape, bool)
    within[24:-24, 24:-24, 24:-24] = True
    steps = thickness_steps(~axes, to_centres=True, within=within & ~axes)
    mean = run_to_end(steps).mean
    assert mean is not None
    return mean


@pytest.mark.parametrize(
    ("normal", "wide"),
    [
        ((1, 0, 0), 10),
        ((1, 0, 0), 3),
        ((0.996, 0.087, 0), 10),
        ((0.36, 0.48, 0.8), 10),
        ((0.36, 0.48, 0.8), 2),
    ],
)
def test_plates_in_any_orientation(
    normal: tuple[float, float, float], wide: int
) -> None:
    assert distance(mid_axes(plates(normal, wide))) == pytest.approx(PITCH, rel=0.08)


def test_the_axis_of_a_plate_is_in_its_middle() -> None:
    plate = np.zeros((12, 9, 9), bool)
    plate[4:7] = True
    assert mid_axes(plate)[:, 4, 4].nonzero()[0].tolist() == [5]


def test_rough_surfaces_have_no_axes_of_their_own() -> None:
    smooth = gaussian_filter(plates((0.36, 0.48, 0.8), 10).astype(float), 1)
    noise = np.random.default_rng(1).normal(scale=0.2, size=smooth.shape)
    assert distance(mid_axes(smooth + noise > 0.5)) == pytest.approx(PITCH, rel=0.2)


def test_blocks_give_the_same_axes() -> None:
    noise = np.random.default_rng(2).normal(size=(60, 50, 40))
    solid = gaussian_filter(noise, 3) > 0
    assert np.array_equal(mid_axes(solid), mid_axes(solid, edge=20))


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.8])
def test_closed_pores_give_the_same_number_at_any_position(shift: float) -> None:
    """Between spheres, the largest spheres touch several pores at small angles."""
    near = ((np.arange(48) - shift) % 24 - 12) ** 2
    far = near[:, None, None] + near[:, None] + near
    axes = mid_axes(far >= 6**2)
    mean = run_to_end(thickness_steps(~axes, to_centres=True, within=~axes)).mean
    assert mean is not None
    assert 1 / mean == pytest.approx(0.025, rel=0.1)
