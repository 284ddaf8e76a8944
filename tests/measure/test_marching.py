"""Surfaces are extracted in small cubes, and do not depend on these."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage import measure

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import interruptible
from napari_geosr.measure.kernels.meshes import number_parts
from napari_geosr.measure.shapes import check_surface, marching
from napari_geosr.measure.shapes.surface import mesh_volume
from napari_geosr.physics.shapes import sampled, trabeculae

NOISE = np.pad(np.random.default_rng(0).random((23, 31, 18)) < 0.3, 3)
BONE = np.pad(sampled(trabeculae(np.random.default_rng(1)), (30, 41, 25)), 3)
#: Not symmetric, so that no value of the smoothed shapes is exactly at the level.
LEVEL = 0.499


def field(inside: np.ndarray, smoothing: float) -> np.ndarray:
    values = inside.astype(np.float32)
    return gaussian_filter(values, smoothing) if smoothing else values


def assert_same_surface(one, other, tolerance: float) -> None:
    """The same vertices and triangles in any order."""
    (places, faces), (other_places, other_faces) = one, other
    distances, twins = KDTree(other_places).query(places)
    assert distances.max() <= tolerance
    np.testing.assert_array_equal(np.sort(twins), np.arange(len(other_places)))

    def ordered(triangles: np.ndarray) -> np.ndarray:
        """Each from its lowest vertex, without a change of its orientation."""
        first = triangles.argmin(1)[:, None]
        turned = np.take_along_axis(triangles, (first + np.arange(3)) % 3, 1)
        return turned[np.lexsort(turned.T)]

    np.testing.assert_array_equal(ordered(twins[faces]), ordered(other_faces))


def area(places: np.ndarray, faces: np.ndarray) -> float:
    corners = places.astype(np.float64)[faces]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(sides, axis=1).sum() / 2)


@pytest.mark.parametrize("cells", [1, 5, 24])
@pytest.mark.parametrize("smoothing", [0.0, 0.7])
@pytest.mark.parametrize("inside", [NOISE, BONE], ids=["noise", "bone"])
def test_the_surface_does_not_depend_on_the_cubes(
    inside, smoothing, cells, monkeypatch
) -> None:
    values = field(inside, smoothing)
    whole = marching.marched(values, LEVEL)
    monkeypatch.setattr(marching, "_CELLS", cells)
    found = marching.marched(values, LEVEL)
    assert_same_surface(found, whole, 1e-5)
    assert check_surface(found[1]).is_watertight
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("inside", [NOISE, BONE], ids=["noise", "bone"])
def test_the_surface_is_that_of_one_pass(inside, monkeypatch) -> None:
    monkeypatch.setattr(marching, "_CELLS", 7)
    values = field(inside, 0)
    found = marching.marched(values, LEVEL)
    assert_same_surface(found, measure.marching_cubes(values, LEVEL)[:2], 1e-5)
    values = field(inside, 0.7)
    found = marching.marched(values, LEVEL)
    places, faces, _, _ = measure.marching_cubes(values, LEVEL, allow_degenerate=False)
    assert mesh_volume(*found) == pytest.approx(mesh_volume(places, faces), rel=1e-4)
    assert area(*found) == pytest.approx(area(places, faces), rel=1e-4)


def test_vertices_on_different_edges_differ(monkeypatch) -> None:
    """Values that (almost) equal the level would place them all in one point."""
    monkeypatch.setattr(marching, "_CELLS", 3)
    values = np.zeros((9, 9, 9), np.float32)
    values[2:7, 2:7, 2:7] = 1
    for value in (LEVEL, np.nextafter(np.float32(LEVEL), np.float32(1))):
        values[3, 3, 2:4] = value
        values[3, 6, 6] = value
        places, faces = marching.marched(values, LEVEL)
        far = (places + 900).astype(np.float32)
        assert len(np.unique(far, axis=0)) == len(places)
        assert check_surface(faces).is_watertight
        assert np.unique(faces).size == len(places)


def test_only_small_cubes_are_marched_at_once(monkeypatch) -> None:
    """Marching cubes blocks all other threads."""
    march, sizes = measure.marching_cubes, []

    def noted(values, *more):
        sizes.append(values.shape)
        return march(values, *more)

    monkeypatch.setattr(measure, "marching_cubes", noted)
    inside = np.zeros((70, 150, 140), bool)
    inside[60:65, 5:145, 5:20] = True
    marching.marched(field(inside, 0.7), LEVEL)
    assert max(map(max, sizes)) == 65
    assert len(sizes) == 6  # of 18; the others are empty


def test_it_is_stopped_between_cubes(monkeypatch) -> None:
    monkeypatch.setattr(marching, "_CELLS", 8)
    cubes = []
    march = marching._marched_cube
    monkeypatch.setattr(
        marching, "_marched_cube", lambda *given: cubes.append(1) or march(*given)
    )
    with interruptible(lambda: len(cubes) == 3), pytest.raises(Cancelled):
        marching.marched(field(NOISE, 0.7), LEVEL)
    assert len(cubes) == 3


@pytest.mark.parametrize("order", ["given", "shuffled"])
def test_parts_are_those_of_a_graph(order) -> None:
    inside = np.pad(np.random.default_rng(2).random((20, 20, 20)) < 0.05, 2)
    places, faces = marching.marched(field(inside, 0), LEVEL)
    faces = faces[::2]  # some vertices have no triangle
    if order == "shuffled":
        rng = np.random.default_rng(3)
        faces = rng.permutation(len(places)).astype(np.int32)[rng.permutation(faces)]
    parts = np.empty(len(places), np.int32)
    n_parts = number_parts(faces, parts)
    ends = (faces[:, :2].ravel(), faces[:, 1:].ravel())
    shape = (len(places), len(places))
    graph = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=shape)
    n_expected, expected = connected_components(graph, directed=False)
    assert n_parts == n_expected > 100
    assert len(set(zip(parts.tolist(), expected.tolist(), strict=True))) == n_parts
