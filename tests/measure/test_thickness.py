from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.measure.local_thickness.spheres import kernels, local_thickness


@pytest.mark.parametrize("width", [4, 9, 16])
def test_a_plate_is_as_thick_as_it_is(width: int) -> None:
    mask = np.zeros((40, 24, 24), bool)
    mask[10 : 10 + width] = True
    found = local_thickness(mask)
    assert found[mask].mean() == pytest.approx(width, abs=0.55)
    assert not found[~mask].any()


@pytest.mark.parametrize("width", range(1, 9))
def test_thin_plates_along_an_axis_are_exact(width: int) -> None:
    mask = np.zeros((40, 24, 24), bool)
    mask[10 : 10 + width] = True
    assert local_thickness(mask)[mask].mean() == pytest.approx(width, abs=0.01)


@pytest.mark.parametrize("radius", [6.0, 10.5])
def test_a_ball_is_as_thick_as_its_diameter(radius: float) -> None:
    grid = np.indices((33, 33, 33)) - 16.0
    mask = (grid**2).sum(0) <= radius**2
    found = local_thickness(mask)
    assert found[mask].mean() == pytest.approx(2 * radius, abs=1.2)
    assert found.max() == pytest.approx(2 * radius, abs=0.8)


def test_a_thin_part_beside_a_thick_one_stays_thin() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:40] = True
    mask[22:28, 40:75] = True
    found = local_thickness(mask)
    assert found[25, 65] == pytest.approx(6, abs=0.8)
    assert found[25, 25] == pytest.approx(30, abs=1.5)


def test_no_phase_and_nothing_else() -> None:
    assert not local_thickness(np.zeros((4, 4), bool)).any()
    assert np.isinf(local_thickness(np.ones((4, 4), bool))).all()


@pytest.mark.parametrize(
    ("width", "cut"), [(1, 0.0), (2, -1.0), (4, 1.0), (6, 2.5)], ids=str
)
def test_distances_are_exact(width: float, cut: float) -> None:
    """Short and long runs of voxels, compared with scipy; the nearest position is at
    that distance.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    noise = np.random.default_rng(0).normal(size=(37, 50, 61))
    smooth = gaussian_filter(noise, width)
    phase = (smooth / smooth.std() < cut).astype(np.uint8)
    squares, nearest = (np.empty(phase.shape, np.int32) for _ in range(2))
    kernels().distances.squared_distances(phase, squares, nearest)
    expected = np.rint(distance_transform_edt(phase) ** 2)
    np.testing.assert_array_equal(squares, expected)
    found = np.stack(np.unravel_index(nearest, phase.shape))
    assert not phase[tuple(found)].any()
    offsets = found - np.indices(phase.shape)
    np.testing.assert_array_equal((offsets**2).sum(0), expected)


def test_few_voxels_outside_are_found_far_away() -> None:
    """Farther than `WITHIN`, and in the last, narrower tile; of equals, the first."""
    distances = kernels().distances
    shape = (2 * distances.WITHIN + 60, 21, 19)
    sites = [(0, 3, 4), (0, 3, 18), (300, 20, 11), (314, 0, 0)]
    phase = np.ones(shape, np.uint8)
    phase[tuple(np.transpose(sites))] = 0
    squares, nearest = (np.empty(shape, np.int32) for _ in range(2))
    distances.squared_distances(phase, squares, nearest)
    grid = np.indices(shape)
    every = [sum((g - c) ** 2 for g, c in zip(grid, s, strict=True)) for s in sites]
    np.testing.assert_array_equal(squares, np.min(every, axis=0))
    flat = np.ravel_multi_index(tuple(np.transpose(sites)), shape)
    np.testing.assert_array_equal(nearest, flat[np.argmin(every, axis=0)])
    assert squares.max() > distances.WITHIN**2
