"""The search for a position: which parts are compared, with synthetic arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.steps import run_to_end
from napari_geosr.registration.sampled import Grid, SampledVolume
from napari_geosr.registration.search import Candidate, search_steps


def sampled(data: np.ndarray, first: Sequence[float] = (0.0, 0.0)) -> SampledVolume:
    """An array with pixels of size 1, the first one at `first`."""
    grid = Grid(data.shape, np.ones(data.ndim), np.array(first, float))
    return SampledVolume(data.astype(np.float32), grid)


def corner(found: Candidate) -> np.ndarray:
    """Position of the first pixel of the small image."""
    return found.transform.apply(np.zeros(2))


def texture(seed: int, shape: tuple[int, int], smooth: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape)
    made = ndimage.gaussian_filter(values, smooth, mode="wrap")
    return np.asarray(made / made.std())


def test_a_place_of_little_contrast_is_found() -> None:
    """Half of the image has ten times the contrast, and shows something else."""
    large = texture(0, (60, 80))
    large[:, :40] *= 10
    small = 3 + 2 * large[20:36, 55:71]
    found = run_to_end(search_steps(sampled(large), sampled(small)))
    np.testing.assert_allclose(corner(found[0]), (20, 55), atol=1e-6)
    assert found[0].correlation == pytest.approx(1, abs=1e-3)


def test_where_the_image_is_flat_nothing_is_found() -> None:
    """Constant apart from rounding, so correlations with it are meaningless."""
    large = np.zeros((60, 80))
    large[:, :40] = 10 * texture(0, (60, 40))
    rounding = 1e-4 * texture(1, (60, 40))
    large[:, 40:] = rounding
    small = rounding[20:36, 12:28]
    for found in run_to_end(search_steps(sampled(large), sampled(small))):
        assert corner(found)[1] < 40
        assert abs(found.correlation) < 0.9


def test_what_lies_by_a_third_outside_is_found() -> None:
    whole = texture(2, (60, 90))
    large, small = whole[:, :60], whole[20:44, 44:68]  # 16 of 24 columns overlap
    found = run_to_end(search_steps(sampled(large), sampled(small)))
    np.testing.assert_allclose(corner(found[0]), (20, 44), atol=1e-6)
    assert found[0].correlation == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_small_image_lies_in_the_large_one(seed: int) -> None:
    """A few pixels in a corner may correlate with anything."""
    large, small = texture(seed, (40, 40)), texture(seed + 9, (20, 20))
    found = run_to_end(search_steps(sampled(large), sampled(small)))
    assert len(found) == 3
    for candidate in found:
        first = corner(candidate)
        ends = np.minimum(first + 20, 40) - np.maximum(first, 0)
        assert ends.prod() >= 0.49 * small.size


def test_candidates_are_places_and_not_neighbours() -> None:
    """The pixels next to the best position are nearly as good, but not useful."""
    pattern = texture(5, (20, 20), smooth=2.5)
    large = 0.3 * texture(6, (64, 64), smooth=2.5)
    places = ((5, 8), (38, 36))
    for (y, x), strength in zip(places, (1.0, 0.6), strict=True):
        large[y : y + 20, x : x + 20] += strength * pattern
    found = run_to_end(search_steps(sampled(large), sampled(pattern), most=2))
    for candidate, place in zip(found, places, strict=True):
        np.testing.assert_allclose(corner(candidate), place, atol=1.01)
    assert found[0].correlation > found[1].correlation > 0.7


def test_what_begins_before_the_large_image_is_found() -> None:
    whole = texture(7, (60, 90))
    large, small = whole[6:, 10:70], whole[:24, 4:28]  # 18 of 24 rows and columns
    found = run_to_end(search_steps(sampled(large), sampled(small)))
    np.testing.assert_allclose(corner(found[0]), (-6, -6), atol=1e-6)
    assert found[0].correlation == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("degrees", [-8.0, 8.0])
def test_the_sense_of_a_rotation(degrees: float) -> None:
    """Positive from Y towards X: structure along Y is rotated towards X."""
    large = texture(8, (90, 90), smooth=3.0)
    a = np.deg2rad(degrees)
    # Positions in the small image, around its middle, and in the large image.
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    middle, goes_to = np.array([19.5, 19.5]), np.array([40.0, 50.0])
    small = ndimage.affine_transform(
        large, matrix, offset=goes_to - matrix @ middle, output_shape=(40, 40), order=1
    )
    steps = search_steps(sampled(large), sampled(small), degrees=8.0)
    (best, *_) = run_to_end(steps)
    np.testing.assert_allclose(best.transform.matrix, matrix, atol=0.03)
    np.testing.assert_allclose(best.transform.apply(middle), goes_to, atol=1.0)
    along_y = best.transform.matrix @ [1.0, 0.0]
    assert np.sign(along_y[1]) == np.sign(degrees)
