"""Positions: transforms, grids, the common box, resampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.volume import Volume
from napari_geosr.registration.overlap import common_box
from napari_geosr.registration.sampled import Grid, Resampling
from napari_geosr.registration.transform import Transform, identity, turn_in_plane


def grid(shape, size=1.0, origin=0.0) -> Grid:
    n = len(shape)
    return Grid(shape, np.full(n, float(size)), np.full(n, float(origin)))


def test_transforms_lead_there_and_back():
    turn = turn_in_plane(30.0, 3) * 1.2
    way = Transform.around(turn, (1.0, 2.0, 3.0), (7.0, 8.0, 9.0))
    assert way.apply((1.0, 2.0, 3.0)) == pytest.approx([7, 8, 9])
    points = np.random.default_rng(0).normal(size=(5, 3))
    assert way.inverse().apply(way.apply(points)) == pytest.approx(points)
    assert way.scale == pytest.approx(1.2)
    assert way.degrees == pytest.approx(30)
    twice = way.after(way)
    assert twice.apply(points) == pytest.approx(way.apply(way.apply(points)))
    assert Transform(turn_in_plane(-20.0, 2), np.zeros(2)).degrees == pytest.approx(20)
    assert identity(3).degrees == 0


def test_refined_and_coarsened_grids_keep_the_field_of_view():
    coarse = Grid((5, 7), np.array([4.0, 2.0]), np.array([10.0, -3.0]))
    fine = coarse.refined((4, 2))
    assert fine.shape == (20, 14)
    assert fine.voxel_size == pytest.approx([1.0, 1.0])
    assert fine.origin == pytest.approx([10 - 1.5, -3 - 0.5])
    assert fine.extent == pytest.approx(coarse.extent)
    assert fine.centre == pytest.approx(coarse.centre)
    again = fine.coarsened((4, 2))
    assert (again.shape, again.origin.tolist()) == (coarse.shape, [10.0, -3.0])


def test_the_common_box_of_upright_volumes_is_all_they_share():
    low = grid((20, 30, 40), 4.0)
    # A fine volume that fills the coarse voxels 3 … 12, 5 … 19 and 0 … 7 exactly.
    high = grid((40, 60, 32), 1.0)
    way = Transform(np.eye(3), np.array([12, 20, 0]) - 1.5)
    box = common_box(low, high, way.inverse(), (4, 4, 4))
    assert box == (slice(3, 13), slice(5, 20), slice(0, 8))
    apart = Transform(np.eye(3), np.array([500.0, 0, 0]))
    assert common_box(low, high, apart.inverse(), (4, 4, 4)) is None


def test_the_common_box_of_a_turned_volume_lies_inside_it():
    low, high = grid((41, 40, 40), 4.0), grid((100, 88, 80), 1.0)
    turn = turn_in_plane(12.0, 3)
    way = Transform.around(turn, high.centre, low.centre)
    box = common_box(low, high, way.inverse(), (4, 4, 4))
    fine = low.cut(box).refined((4, 4, 4))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in fine.shape), indexing="ij"))
    points = fine.origin + np.moveaxis(index, 0, -1) * fine.voxel_size
    back = way.inverse().apply(points)
    assert back.min() > -0.51
    assert (back < np.array(high.shape) - 0.49).all()
    # Without rotation, it would be 25 × 22 × 20 coarse voxels; a rotation by 12°
    # reduces the plane, but not the height.
    shape = [s.stop - s.start for s in box]
    assert shape[0] == 25
    assert shape[1] * shape[2] > 0.55 * 22 * 20


def ramp(shape, size, origin, slope=(0.3, -0.2, 0.5)) -> Volume:
    axes = [o + v * np.arange(n) for n, v, o in zip(shape, size, origin, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    data = sum(s * p for s, p in zip(slope, places, strict=True))
    return Volume(data.astype(np.float32), "ZYX", size, "µm", origin)


@pytest.mark.parametrize("size", [(1.0, 1.0, 1.0), (0.7, 1.1, 0.9), (0.5, 0.4, 0.45)])
def test_a_ramp_is_resampled_to_where_it_was(size):
    source = ramp((41, 37, 33), size, (5.0, -2.0, 1.0))
    turn = turn_in_plane(7.0, 3)
    middle = Grid.of(source).centre
    to_source = Transform.around(turn, (50.0, 60.0, 70.0), middle)
    target = Grid((9, 8, 7), np.full(3, 1.0), np.array([46.0, 56.5, 67.0]))
    whole = tuple(slice(0, n) for n in target.shape)
    made = Resampling(source, target, to_source)
    found = made.block(whole)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij"))
    points = target.origin + np.moveaxis(index, 0, -1) * target.voxel_size
    truth = to_source.apply(points) @ np.array([0.3, -0.2, 0.5])
    assert np.abs(found - truth).max() < 1e-3
    assert (made.blur > 0).any() == (min(size) < 0.9)


def test_blocks_make_what_the_whole_makes(rng):
    data = rng.normal(size=(40, 44, 48)).astype(np.float32)
    source = Volume(data, "ZYX", (1.0, 1.0, 1.0), "µm")
    way = Transform.around(turn_in_plane(4.0, 3), (12.0,) * 3, Grid.of(source).centre)
    made = Resampling(source, grid((24, 20, 24), 1.0, 1.0), way)
    whole = made.block((slice(0, 24), slice(0, 20), slice(0, 24)))
    pieces, count = np.full(whole.shape, np.nan, np.float32), 0
    for box in made.blocks((4, 4, 4), 600_000):
        assert np.isnan(pieces[box]).all()
        pieces[box], count = made.block(box), count + 1
    assert count > 4
    assert np.abs(pieces - whole).max() < 1e-5


def test_coarser_voxels_are_means():
    noise = np.random.default_rng(1).normal(size=(60, 60, 60))
    data = ndimage.gaussian_filter(noise, 1.0).astype(np.float32)
    source = Volume(data, "ZYX", (1.0, 1.0, 1.0), "µm")
    target = grid((18, 18, 18), 3.0, 1.0 + 3.0)
    found = Resampling(source, target, identity(3)).block((slice(0, 18),) * 3)
    means = data[3:57, 3:57, 3:57].reshape(18, 3, 18, 3, 18, 3).mean(axis=(1, 3, 5))
    assert np.corrcoef(found.ravel(), means.ravel())[0, 1] > 0.97
    assert found.std() == pytest.approx(means.std(), rel=0.15)


def test_a_turn_in_the_plane_goes_from_y_towards_x():
    z, y, x = np.eye(3)
    turn = turn_in_plane(90.0, 3)
    np.testing.assert_allclose(turn @ y, x, atol=1e-12)
    np.testing.assert_allclose(turn @ x, -y, atol=1e-12)
    np.testing.assert_allclose(turn @ z, z, atol=1e-12)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(turn_in_plane(45.0, 2) @ [1, 0], [half, half])
