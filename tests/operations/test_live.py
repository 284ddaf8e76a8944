"""Tiles that are restored when they are shown."""

from __future__ import annotations

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import restore_region
from napari_geosr.operations.restore import RestoreConfig, live, prepare_steps
from napari_geosr.operations.restore.live import CoarseScan, LiveTiles


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EDGE", 16)


def prepared(shape: tuple[int, ...], model: str = "gaussian"):
    rng = np.random.default_rng(3)
    data = rng.normal(100, 20, shape).astype(np.float32)
    volume = Volume(data, "ZYX"[-len(shape) :], name="scan")
    config = RestoreConfig(model=model, device="cpu")
    return run_to_end(prepare_steps(volume, config)), volume


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("gaussian", (5, 40, 37)),
        ("gaussian", (33, 50)),
        ("cubic-x2", (5, 40, 37)),
        ("cubic-x2", (3, 16, 16)),
    ],
)
def test_the_finest_level_is_the_result(shape: tuple[int, ...], model: str) -> None:
    ready, volume = prepared(shape, model)
    tiles = LiveTiles(ready)
    whole = tiles.levels[0]
    expected = np.asarray(geosr.restore(volume, model).data)
    assert whole.shape == expected.shape
    index = (2,) if len(shape) == 3 else ()
    assert np.isnan(whole[index]).all()  # at once, and requested
    assert tiles.is_waiting
    run_to_end(tiles.steps())
    np.testing.assert_allclose(whole[index], expected[index], rtol=1e-5, atol=1e-3)
    # Any part of it, as numpy would give it.
    for key in [
        (*index, slice(3, 20), slice(7, None, 3)),
        (*index, -1),
        (*index, slice(5, 5), slice(None)),
        (..., slice(10, 12), 4),
    ]:
        np.testing.assert_equal(np.shape(whole[key]), np.shape(expected[key]))
    part = (*index, slice(3, 20), slice(7, None, 3))
    np.testing.assert_allclose(whole[part], expected[part], rtol=1e-5, atol=1e-3)


def test_coarser_levels_restore_every_nth_voxel() -> None:
    ready, volume = prepared((3, 64, 50))
    tiles = LiveTiles(ready)
    assert [level.shape for level in tiles.levels] == [
        (3, 64, 50),
        (3, 32, 25),
        (3, 16, 13),
    ]
    assert tiles.levels[2][1].shape == (16, 13)
    run_to_end(tiles.steps())
    coarse = volume.data[:, ::4, ::4]  # with the filter that was tuned on the whole
    expected = restore_region(
        ready.network,
        coarse,
        tuple(slice(0, n) for n in coarse.shape),
        statistics=ready.statistics,
        budget=1 << 28,
    )
    np.testing.assert_allclose(tiles.levels[2][1], expected[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("step", [2, 3, 8])
def test_coarse_scans_are_cut_like_arrays(step: int) -> None:
    data = np.arange(2 * 21 * 18).reshape(2, 21, 18)
    coarse, expected = CoarseScan(data, step), data[:, ::step, ::step]
    assert coarse.shape == expected.shape
    for key in [
        np.s_[:],
        np.s_[1],
        np.s_[0, 1:2, -1],
        np.s_[..., 0:1],
        np.s_[:, 2:2],
        np.s_[:, :, ::2],
    ]:
        np.testing.assert_array_equal(coarse[key], expected[key])


def test_what_is_no_longer_shown_is_not_restored() -> None:
    ready, _ = prepared((9, 40, 40))
    tiles = LiveTiles(ready)
    for plane in range(9):
        tiles.levels[0][plane]
    assert {tile.plane for tile in tiles._waiting} == {8}
    steps = tiles.steps()
    next(steps)
    # The newest request of the level on screen comes first.
    tiles.levels[2][8]
    tiles.show(2)
    next(steps)
    assert next(reversed(tiles._done)).level == 2
    assert not np.isnan(tiles.levels[2][8]).any()
    run_to_end(steps)
    assert not np.isnan(tiles.levels[0][8]).any()


def test_a_tile_in_progress_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, _ = prepared((9, 16, 16))
    tiles = LiveTiles(ready)
    tiles.levels[0][0]
    restore = live.restore_region

    def moved_meanwhile(*args, should_stop, **kwargs):
        if tiles.is_waiting and args[2][0].start == 0:
            tiles.levels[0][5]
            assert should_stop()
        return restore(*args, should_stop=should_stop, **kwargs)

    monkeypatch.setattr(live, "restore_region", moved_meanwhile)
    run_to_end(tiles.steps())
    assert [tile.plane for tile in tiles._done] == [5]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_CACHE_BYTES", 5 * 16 * 16 * 4)
    ready, _ = prepared((20, 16, 16))
    tiles = LiveTiles(ready)
    for plane in range(20):
        tiles.levels[0][plane]
        run_to_end(tiles.steps())
        assert not np.isnan(tiles.levels[0][plane]).any()
    assert [tile.plane for tile in tiles._done] == [15, 16, 17, 18, 19]
    # A request for everything, as of a 3D view, restores nothing.
    assert np.isnan(LiveTiles(prepared((70, 16, 16))[0]).levels[0][:]).all()
    tiles.forget()
    assert np.isnan(tiles.levels[0][19]).all()


def test_a_fault_does_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, _ = prepared((2, 16, 16))
    tiles = LiveTiles(ready)
    requests: list[int] = []
    tiles.on_request = lambda: requests.append(1)
    tiles.levels[0][0]
    tiles.levels[0][0]
    assert requests == [1]

    def fail(*_args, **_kwargs):
        raise GeoSRError("The disk is gone.")

    monkeypatch.setattr(live, "restore_region", fail)
    with pytest.raises(GeoSRError, match="disk is gone"):
        run_to_end(tiles.steps())
    assert not tiles.is_waiting


@pytest.mark.parametrize(("model", "edge"), [("gaussian", 32), ("cubic-x2", 64)])
def test_a_slow_tile_is_first_restored_from_every_fourth_voxel(
    model: str, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EDGE", edge)
    monkeypatch.setattr(live, "_MIN_QUICK_EDGE", 16)
    ready, volume = prepared((3, 64, 50), model)
    tiles = LiveTiles(ready)
    factor = tiles.factors[-1]
    plane, level = 2 * tiles.factors[0] - 1, tiles.levels[0]
    # The last tile of the request, which is 18 voxels wide, is the newest.
    corner = np.s_[plane, 32 * factor :, 32 * factor :]
    assert np.isnan(level[plane]).all()
    assert tiles.step_on_screen(0) == 1
    steps = tiles.steps()
    next(steps)
    coarse = volume.data[:, ::4, ::4]
    expected = restore_region(
        ready.network,
        coarse,
        (slice(1, 2), slice(8, 16), slice(8, 13)),
        statistics=ready.statistics,
        budget=1 << 28,
    )[-1]
    expected = expected.repeat(4, 0).repeat(4, 1)[:, : 18 * factor]
    np.testing.assert_allclose(level[corner], expected, rtol=1e-4, atol=1e-2)
    assert tiles.step_on_screen(0) == 4
    n_steps = 1 + sum(1 for _ in steps)
    assert n_steps == 2 * len(tiles._done)
    whole = np.asarray(geosr.restore(volume, model).data)
    np.testing.assert_allclose(level[plane], whole[plane], rtol=1e-5, atol=1e-3)
    assert tiles.step_on_screen(0) == 1
    assert not tiles._quick
    # Tiles that are known to be fast are restored at once.
    tiles._seconds = 0.1
    level[0]
    assert sum(1 for _ in tiles.steps()) == n_steps // 2


def test_few_quick_versions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MIN_QUICK_EDGE", 16)
    monkeypatch.setattr(live, "_MAX_QUICK", 3)
    ready, _ = prepared((9, 16, 16))
    tiles = LiveTiles(ready)
    for plane in range(9):
        tiles.levels[0][plane]
        next(tiles.steps())
    assert [tile.plane for tile in tiles._quick] == [6, 7, 8]
    tiles.forget()
    assert not tiles._quick


def test_planes_with_a_large_halo_are_restored_together() -> None:
    ready, volume = prepared((7, 16, 16), "foam-sr-x2")
    tiles = LiveTiles(ready)
    assert np.isnan(tiles.levels[0][9]).all()
    run_to_end(tiles.steps())
    assert {tile.plane for tile in tiles._done} == {1}
    expected = np.asarray(geosr.restore(volume, "foam-sr-x2", device="cpu").data)
    for plane in range(8, 14):  # 7 planes are no multiple of 4
        found = tiles.levels[0][plane]
        np.testing.assert_allclose(found, expected[plane], rtol=1e-5, atol=1e-2)
    assert not tiles.is_waiting
    assert np.isnan(tiles.levels[0][7]).all()
