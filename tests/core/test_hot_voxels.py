"""Hot voxels are isolated outliers; they are replaced by a local value."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_geosr.core.grey_values.hot_voxels import (
    GreySample,
    HotVoxelFilter,
    HotVoxels,
)


@pytest.fixture
def scan(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return rng.normal(1000, 50, (12, 20, 24)).astype("uint16")


def rule_of(array: np.ndarray[Any, Any]) -> HotVoxels:
    sample = GreySample(array.shape)
    sample.add(array)
    hot = sample.hot_voxels()
    assert hot is not None
    return hot


def everything(array: np.ndarray[Any, Any]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in array.shape)


def hot_places(array: np.ndarray[Any, Any]) -> set[tuple[int, ...]]:
    found = HotVoxelFilter(array, rule_of(array)).read(everything(array))[1]
    return {tuple(map(int, place)) for place in found}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_single_values_far_from_all_others_are_found(dtype, rng):
    scan = rng.normal(60, 5, (12, 20, 24)).astype(dtype)
    places = {(0, 0, 0), (5, 6, 7), (11, 19, 23)}
    for place in places:
        scan[place] = 255
    assert hot_places(scan) == places
    scan[3, 3, 3] = 0  # dead
    assert hot_places(scan) == {*places, (3, 3, 3)} if dtype != "uint8" else True


def test_an_ordinary_scan_has_none(scan):
    assert hot_places(scan) == set()
    hot = rule_of(scan)
    assert hot.limits[0] < scan.min() < scan.max() < hot.limits[1]


def test_a_bright_particle_is_no_hot_voxel(scan):
    scan[4:6, 8:10, 8:10] = 60000
    assert hot_places(scan) == set()


def test_a_blurred_bead_is_no_hot_voxel(rng):
    z, y, x = np.indices((15, 31, 31)) - np.array([7, 15, 15])[:, None, None, None]
    bead = np.exp(-(z**2 + y**2 + x**2) / 2)
    for height in (500, 1000, 3000, 30000):
        scan = rng.normal(1000, 50, bead.shape) + height * bead
        assert hot_places(scan.astype("float32")) == set()


def test_the_tail_of_bright_structure_is_none(rng):
    for power in (0.5, 1, 2):
        smooth = gaussian_filter(rng.normal(size=(40, 60, 60)), 1.5)
        tail = 100 * np.exp(power * smooth / smooth.std() / 2)
        assert hot_places(tail.astype("float32")) == set()


def test_a_pixel_that_is_hot_in_every_slice_is_found(rng):
    scan = rng.normal(1000, 50, (12, 40, 48)).astype("uint16")
    scan[:, 5, 6] = 60000
    assert hot_places(scan) == {(z, 5, 6) for z in range(12)}


def test_the_median_of_the_neighbours_replaces_it(scan):
    scan[5, 6, 7] = 60000
    around = scan[4:7, 5:8, 6:9].astype(float).ravel()
    expected = np.rint(np.median(np.delete(around, 13)))
    clean = np.asarray(HotVoxelFilter(scan, rule_of(scan)))
    assert clean[5, 6, 7] == expected
    clean[5, 6, 7] = 60000
    np.testing.assert_array_equal(clean, scan)


def test_not_finite_neighbours_do_no_harm(scan):
    odd = scan.astype("float32")
    odd[4:7, 5:8, 6:9] = np.nan
    odd[4, 5, 6], odd[5, 6, 7], odd[0, 0, 0] = 1000, 6e4, np.inf
    clean = np.asarray(HotVoxelFilter(odd, rule_of(odd)))
    assert clean[5, 6, 7] == 1000
    assert clean[0, 0, 0] == np.inf


def test_what_is_read_does_not_depend_on_the_region(scan, rng):
    places = rng.integers(0, scan.shape, (15, 3))
    scan[tuple(places.T)] = 60000
    scan[2, 2, 2:4] = 60000  # two side by side
    source = HotVoxelFilter(scan, HotVoxels((800, 1200), (400, 1600)))
    whole = np.asarray(source)
    assert whole.max() < 60000
    edges = [(0, 1, 5, 12), (0, 7, 20), (0, 3, 4, 24)]
    parts = itertools.product(*(itertools.pairwise(e) for e in edges))
    for box in parts:
        key = tuple(slice(a, b) for a, b in box)
        np.testing.assert_array_equal(source[key], whole[key])
    np.testing.assert_array_equal(source[2], whole[2])
    np.testing.assert_array_equal(source[::2, 3], whole[::2, 3])


def test_more_far_voxels_than_a_few_are_a_phase(scan, rng):
    scan[rng.random(scan.shape) < 0.01] = 60000
    assert hot_places(scan) == set()


def test_few_photons_are_no_hot_voxels(rng):
    for rate in (1e-4, 1e-3, 0.02, 0.3):
        counts = rng.poisson(rate, (40, 64, 64)).astype("uint8")
        sample = GreySample(counts.shape)
        sample.add(counts)
        hot = sample.hot_voxels()
        if hot is not None:
            assert not len(HotVoxelFilter(counts, hot).read(everything(counts))[1])


def test_the_sample_of_a_large_volume_is_small(monkeypatch, rng):
    monkeypatch.setattr("napari_geosr.core.grey_values.hot_voxels._SAMPLE", 5000)
    scan = rng.normal(0, 1, (20, 30, 40)).astype("float32")
    sample = GreySample(scan.shape)
    for plane in scan:
        sample.add(plane)
    hot = sample.hot_voxels()
    assert sum(len(part) for part in sample._parts) <= 5000
    assert hot is not None
    assert hot.usual == pytest.approx(rule_of(scan).usual, abs=0.5)


def test_a_scan_with_missing_values_only_has_no_range_without_them():
    sample = GreySample((1, 4, 4))
    sample.add(np.full((1, 4, 4), np.nan, np.float32))
    assert sample.values_if_others_are_missing(-1e38, 1e38) is None
