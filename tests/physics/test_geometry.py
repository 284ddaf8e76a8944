"""Geometries: rejected values, defaults, and the paths of rays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import project
from napari_geosr.physics.projection.rays import rays_of

FAN: dict[str, Any] = {"source_distance": 40, "detector_distance": 20}


def test_what_is_not_given_is_filled_in() -> None:
    geometry = ConeGeometry([0, 90], 11, n_rows=6, **FAN, pixel_size=1.5)
    assert geometry.centre == 5
    assert geometry.size == 11
    assert geometry.row_centre == 2.5
    assert geometry.n_slices == 6
    assert geometry.slice_centre == 2.5
    assert geometry.row_size == 1.5
    assert geometry.voxel_size == pytest.approx(1.0)
    assert geometry.volume_shape == (6, 11, 11)
    assert geometry.sinogram_shape == (6, 2, 11)


def test_subset_keeps_everything_but_the_angles() -> None:
    geometry = FanGeometry(np.arange(0, 360, 10.0), 11, 4.2, 8, **FAN)
    some = geometry.subset(slice(1, None, 4))
    assert isinstance(some, FanGeometry)
    np.testing.assert_array_equal(some.angles, np.arange(10.0, 360, 40))
    assert (some.centre, some.size, some.source_distance) == (4.2, 8, 40)
    with pytest.raises(ValueError, match="read-only"):
        some.angles[0] = 1


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (ParallelGeometry, {"angles": []}, "at least one"),
        (ParallelGeometry, {"angles": [[0.0]]}, "list"),
        (ParallelGeometry, {"angles": [0, np.nan]}, "projection 1 is nan"),
        (ParallelGeometry, {"n_columns": 0}, "n_columns"),
        (ParallelGeometry, {"size": -1}, "size"),
        (ParallelGeometry, {"pixel_size": 0}, "pixel_size"),
        (ParallelGeometry, {"centre": np.inf}, "rotation axis"),
        (FanGeometry, {}, "source distance is missing"),
        (FanGeometry, {"source_distance": 9}, "detector distance is missing"),
        (FanGeometry, {**FAN, "source_distance": -1}, "source_distance"),
        (FanGeometry, {**FAN, "detector_distance": -1}, "detector_distance"),
        (FanGeometry, {"source_distance": 5, "detector_distance": 0}, "inside"),
        (ConeGeometry, FAN, "n_rows"),
        (ConeGeometry, {**FAN, "n_rows": 3, "row_size": -1}, "row_size"),
        (ConeGeometry, {**FAN, "n_rows": 3, "row_centre": np.inf}, "central ray"),
        (ConeGeometry, {**FAN, "n_rows": 3, "slice_centre": np.inf}, "source.s height"),
    ],
)
def test_nonsense_is_refused(
    kind: type[ParallelGeometry], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProjectionsError, match=words):
        kind(**{"angles": [0.0, 90.0], "n_columns": 11, **values})


def test_slabs_know_the_rows_that_see_them() -> None:
    geometry = ConeGeometry(
        np.arange(0, 360, 30.0),
        19,
        size=13,
        n_rows=23,
        row_centre=9.2,
        n_slices=17,
        row_size=1.3,
        source_distance=25,
        detector_distance=10,
    )
    for first, stop in ((0, 2), (7, 8), (8, 17), (0, 17)):
        low, high = geometry.rows_of(first, stop)
        slab = geometry.slab(first, stop)
        assert slab.volume_shape == (stop - first, 13, 13)
        assert slab.sinogram_shape == (high - low, 12, 19)
        assert slab.row_centre - slab.slice_centre == pytest.approx(
            geometry.row_centre - low - geometry.slice_centre + first
        )
        part = torch.rand(stop - first, 13, 13)
        volume = torch.zeros(geometry.volume_shape)
        volume[first:stop] = part
        seen = project(volume, geometry)
        torch.testing.assert_close(project(part, slab), seen[low:high])
        assert not seen[:low].any()
        assert not seen[high:].any()


def test_keys_tell_geometries_apart() -> None:
    keys = {
        ParallelGeometry([0, 90], 11).key,
        ParallelGeometry([0, 91], 11).key,
        ParallelGeometry([0, 90], 11, 4.0).key,
        FanGeometry([0, 90], 11, **FAN).key,
    }
    assert len(keys) == 4
    assert ParallelGeometry([0.0, 90.0], 11, 5.0).key in keys


def test_rays_run_from_source_to_detector() -> None:
    geometry = FanGeometry(np.arange(0, 360, 7.0), 9, 3.2, 15, 0.8, **FAN)
    rays = rays_of(geometry)
    h, middle = geometry.voxel_size, 7
    for angle, degrees in enumerate(geometry.angles):
        turn = np.deg2rad(degrees)
        outward = np.array([-np.sin(turn), np.cos(turn)])
        sideways = np.array([np.cos(turn), np.sin(turn)])
        for column in range(9):
            pixel = 20 * outward + (column - 3.2) * 0.8 * sideways
            for point, depth in ((-40 * outward, 0.0), (pixel, 1.0)):
                x, y = point / h + middle
                across, along = (x, y) if rays.along_y[angle, column] else (y, x)
                a, b = rays.offset[angle, column], rays.slope[angle, column]
                assert a + b * along == pytest.approx(across, abs=1e-3)
                c, d = rays.depth_offset[angle, column], rays.depth_slope[angle, column]
                assert c + d * along == pytest.approx(depth, abs=1e-4)
                assert abs(b) <= 1 + 1e-6


def test_runs_cover_every_ray_once() -> None:
    geometry = FanGeometry([0, 40, 50, 90], 41, size=20, **FAN)
    covered = np.zeros((4, 41), int)
    for angle, first, stop, along_y in rays_of(geometry).runs:
        covered[angle, first:stop] += 1
        assert (rays_of(geometry).along_y[angle, first:stop] == along_y).all()
    assert (covered == 1).all()
