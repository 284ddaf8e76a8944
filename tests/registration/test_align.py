"""A known rigid transform or similarity is recovered."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.registration import itk
from napari_geosr.registration.align import align_steps
from napari_geosr.registration.sampled import Grid, SampledVolume
from napari_geosr.registration.search import search_steps
from napari_geosr.registration.transform import turn_in_plane


def test_a_small_field_of_view_is_found_and_aligned(scene):
    found = run_to_end(align_steps(scene.low, scene.high))
    start, error = scene.error(found.start), scene.error(found.transform)
    print(f"error of the search {start:.2f}, aligned {error:.3f} coarse voxels")
    assert error < 0.15  # the target is 0.5
    assert start < 3
    assert found.how == "search"
    assert found.correlation > 0.7
    assert found.transform.degrees == pytest.approx(3.0, abs=0.3)
    assert found.transform.scale == pytest.approx(1)


def test_a_wrong_voxel_size_is_a_scale(scene):
    wrong = scene.high.replace(voxel_size=(2.0 * 1.03,) * 3)
    found = run_to_end(
        align_steps(scene.low, wrong, kind="similarity", search_angle=0.0)
    )
    assert found.transform.scale == pytest.approx(1 / 1.03, abs=0.01)
    # The truth is valid for the original lengths.
    as_is = found.transform.matrix * 1.03
    assert np.allclose(as_is, scene.truth.matrix, atol=0.01)
    middle = Grid.of(wrong).centre
    at = scene.truth.apply(Grid.of(scene.high).centre)
    assert np.abs(found.transform.apply(middle) - at).max() / 8 < 0.2


@pytest.mark.parametrize("start", ["offset", "positions", "centres"])
def test_other_starts_lead_there_too(scene, start):
    at = scene.truth.apply(Grid.of(scene.high).centre)
    corner = at - Grid.of(scene.high).extent / 2
    near = corner + np.array([6.0, -7.0, 5.0])  # a shift of almost one coarse voxel
    settings = {"start": start}
    high, low = scene.high, scene.low
    if start == "offset":
        first = Grid.of(low).origin - Grid.of(low).voxel_size / 2
        settings = {"offset": tuple(near - first)}
    elif start == "positions":
        high = high.replace(origin=tuple(near + 1.0))
    else:  # a scan whose middle is the other one
        shift = at - Grid.of(low).centre
        first = np.maximum(0, np.round(shift / 8)).astype(int)
        edge = low.shape[0]
        stop = np.minimum(edge, edge + np.round(shift / 8)).astype(int)
        key = tuple(slice(int(2 * a), int(b)) for a, b in zip(first, stop, strict=True))
        low = Volume(low.data[key], "ZYX", low.voxel_size, "µm")
        origin = Grid.of(scene.low).cut(key).origin
        low = low.replace(origin=tuple(origin.tolist()))
    found = run_to_end(align_steps(low, high, **settings))
    assert found.how == start
    moved = found.transform.apply(Grid.of(high).centre)
    assert np.abs(moved - at).max() / 8 < 0.2
    assert found.transform.degrees == pytest.approx(3.0, abs=0.3)


def test_a_quarter_turn_is_searched_for(scene):
    turned = Volume(
        np.ascontiguousarray(np.rot90(scene.high.data, axes=(1, 2))),
        "ZYX",
        scene.high.voxel_size,
        "µm",
    )
    small = SampledVolume(
        area_downsample(turned.data, 8), Grid.of(turned).coarsened((8, 8, 8))
    )
    large = SampledVolume(
        area_downsample(scene.low.data, 2), Grid.of(scene.low).coarsened((2, 2, 2))
    )
    found = run_to_end(search_steps(large, small, degrees=180.0))
    at = scene.truth.apply(Grid.of(scene.high).centre)
    assert np.abs(found[0].transform.apply(small.grid.centre) - at).max() / 8 < 2.5
    expected = turn_in_plane(90.0, 3)
    off = found[0].transform.matrix @ expected  # one of the two is the inverse
    assert np.abs(off - np.eye(3)).max() < 0.3


def test_what_shows_something_else_correlates_little(scene, rng):
    noise = rng.normal(size=(20, 20, 20)).astype(np.float32)
    small = SampledVolume(noise, Grid((20,) * 3, np.full(3, 8.0), np.zeros(3)))
    large = SampledVolume(scene.low.data, Grid.of(scene.low))
    found = run_to_end(search_steps(large, small))
    assert abs(found[0].correlation) < 0.2


def test_scans_that_do_not_overlap_are_refused(scene):
    far = scene.high.replace(origin=(9000.0, 0.0, 0.0))
    with pytest.raises(VolumeError, match="do not overlap"):
        run_to_end(align_steps(scene.low, far, start="positions"))


def test_missing_voxels_are_refused(scene):
    data = scene.high.data.copy()
    data[40, 40, 40] = np.nan
    with pytest.raises(VolumeError, match="'spot' contains NaN or infinite voxels"):
        run_to_end(align_steps(scene.low, scene.high.replace(data=data)))
    flat = scene.high.replace(data=np.ones((40, 40, 40), np.float32))
    with pytest.raises(VolumeError, match="only one grey value"):
        run_to_end(align_steps(scene.low, flat))


def test_it_stops_within_an_iteration(scene):
    asked = []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) > 12

    steps = align_steps(
        scene.low, scene.high, offset=(90.0, 120.0, 100.0), should_stop=should_stop
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert len(asked) < 30


def test_without_simpleitk_it_says_how_to_install_it(scene, monkeypatch):
    monkeypatch.setattr(itk, "find_spec", lambda _name: None)
    with pytest.raises(
        ConfigError, match=r"pip install 'napari-geosr\[registration\]'"
    ):
        run_to_end(align_steps(scene.low, scene.high))


def test_images_are_aligned_in_their_plane(scene):
    plane = scene.low.data[18]
    low = Volume(np.kron(plane, np.ones((4, 4), np.float32)), "YX", (2.0, 2.0), "µm")
    part = low.data[30:110, 41:121]
    high = Volume(part.copy(), "YX", (2.0, 2.0), "µm")
    found = run_to_end(align_steps(low, high))
    expected = np.array([60.0, 82.0])
    assert found.transform.apply(np.zeros(2)) == pytest.approx(expected, abs=0.3)
