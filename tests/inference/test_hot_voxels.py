"""Hot voxels are excluded from statistics, hidden from networks, kept in results."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.grey_values.hot_voxels import GreySample
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference import intensity
from napari_geosr.inference.intensity import IntensityStatistics, scan_steps
from napari_geosr.inference.runner import restore_region, restore_tiles

GB = 1 << 30


def statistics(array, **options) -> IntensityStatistics:
    return run_to_end(scan_steps(array, **options))


@pytest.fixture
def scan(rng):
    return rng.normal(2000, 100, (10, 40, 44)).astype("uint16")


@pytest.fixture
def spoiled(scan):
    hot = scan.copy()
    for place in ((0, 0, 0), (4, 20, 21), (9, 39, 43), (5, 11, 12)):
        hot[place] = 65535
    return hot


def test_statistics_are_those_of_the_others(scan, spoiled):
    found = statistics(spoiled)
    rest = np.delete(spoiled.ravel(), np.flatnonzero(spoiled == 65535)).astype(float)
    assert found.mean == pytest.approx(rest.mean(), rel=1e-12)
    assert found.std == pytest.approx(rest.std(), rel=1e-12)
    assert found.maximum == rest.max()
    assert found.n_voxels == scan.size
    assert found.hot is not None
    assert found.hot.n == 4


def test_a_single_huge_value_does_not_ruin_them(rng):
    scan = rng.normal(0.5, 0.1, (8, 30, 30)).astype("float32")
    expected = statistics(scan)
    scan[3, 4, 5] = 1e9
    found = statistics(scan)
    assert found.std == pytest.approx(expected.std, rel=1e-3)
    assert found.hot is not None
    assert found.hot.n == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_scan_without_any_gives_the_same_bits_as_plain_sums(dtype, rng):
    scan = rng.normal(100, 9, (9, 33, 35)).astype(dtype)
    sums = intensity._IntensitySums()
    sums.add(scan)
    assert statistics(scan) == sums.result(sampled=False)


def test_a_bright_particle_counts(scan):
    scan[3:5, 10:12, 10:12] = 65535
    found = statistics(scan)
    assert found.hot is None
    assert found.maximum == 65535
    assert found.mean == pytest.approx(scan.mean(), rel=1e-12)


def test_the_result_does_not_depend_on_blocks(spoiled, monkeypatch):
    expected = statistics(spoiled)
    monkeypatch.setattr(intensity, "_BLOCK_VOXELS", 3000)
    found = statistics(spoiled)
    assert found.hot == expected.hot
    assert found.std == pytest.approx(expected.std, rel=1e-12)


def test_it_is_read_twice_at_most(spoiled, scan):
    class Counting:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype
            self.n = 0

        def __getitem__(self, key):
            block = self.array[key]
            self.n += block.size
            return block

    plain = Counting(scan)
    statistics(plain)
    assert plain.n == scan.size
    hot = Counting(spoiled)
    statistics(hot)
    assert hot.n <= 3 * scan.size  # a block with hot voxels, including its margin


def test_few_voxels_are_held_while_a_volume_is_read(scan, monkeypatch):
    held = []

    class Recorder(GreySample):
        def hot_voxels(self, *share):
            held.append(sum(part.size for part in self._parts))
            return super().hot_voxels(*share)

    monkeypatch.setattr(intensity, "GreySample", Recorder)
    monkeypatch.setattr("napari_geosr.core.grey_values.hot_voxels._SAMPLE", 2000)
    statistics(scan)
    assert 1000 < held[0] <= 2000


def test_no_plane_is_read_as_a_whole_where_it_is_huge(rng):
    class Rows:
        """20 planes, each larger than the maximum to be read."""

        def __init__(self):
            self.array = rng.normal(500, 20, (20, 300, 200)).astype("float32")
            self.shape, self.dtype, self.most = self.array.shape, "float32", 0

        def __getitem__(self, key):
            self.most = max(self.most, self.array[key].size)
            return self.array[key]

    source = Rows()
    source.array[0, 0, 100] = 1e7
    found = statistics(source, sample_above=50_000)
    assert source.most <= 9 * 200
    assert found.sampled
    assert found.mean == pytest.approx(500, abs=1)
    assert found.std == pytest.approx(20, rel=0.05)
    assert found.hot is not None
    assert found.hot.n == 1


def test_planes_that_were_not_looked_at_may_hold_some(spoiled):
    found = statistics(spoiled, sample_above=2 * 40 * 44)
    assert found.sampled
    assert found.hot is not None


@pytest.mark.parametrize(("kind", "ndim", "slices"), [("conv", 3, 1), ("conv", 2, 3)])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_every_tiling_restores_alike_and_keeps_them(
    kind, ndim, slices, dtype, spoiled, make_network
):
    spoiled = spoiled.astype(dtype)
    network = make_network(kind, ndim=ndim, slices=slices)
    scale = statistics(spoiled)
    results = []
    for tile in ((10, 40, 44), (4, 16, 16), (5, 20, 11)):
        target = np.zeros(spoiled.shape, dtype)
        steps = restore_tiles(
            network, spoiled, target, statistics=scale, budget=GB, tile=tile
        )
        run_to_end(steps)
        results.append(target)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-5, atol=1)
    hot = spoiled == 65535
    assert (results[0][hot] == 65535).all()
    # The voxels around them equal those of a scan without hot voxels.
    clean = spoiled.copy()
    clean[hot] = np.median(spoiled)
    target = np.zeros(spoiled.shape, "float32")
    steps = restore_tiles(network, clean, target, statistics=scale, budget=GB)
    run_to_end(steps)
    assert np.abs(results[0][~hot] - target[~hot]).max() < 300


def test_a_region_is_that_of_the_whole(spoiled, make_network):
    network, scale = make_network("conv", ndim=3), statistics(spoiled)
    target = np.zeros(spoiled.shape, "float32")
    run_to_end(restore_tiles(network, spoiled, target, statistics=scale, budget=GB))
    box = (slice(4, 8), slice(10, 22), slice(12, 30))
    part = restore_region(network, spoiled, box, statistics=scale, budget=GB)
    np.testing.assert_allclose(part, target[box], rtol=1e-5)


def test_finer_voxels_of_a_hot_one_keep_its_value(spoiled, make_network):
    network = make_network("shuffle", ndim=3)
    target = np.zeros([2 * n for n in spoiled.shape], "float32")
    scale = statistics(spoiled)
    steps = restore_tiles(
        network, spoiled, target, statistics=scale, budget=GB, tile=(4, 16, 16)
    )
    run_to_end(steps)
    fine = np.kron(spoiled == 65535, np.ones((2, 2, 2), bool))
    assert (target[fine] == 65535).all()
    assert target[~fine].max() < 65535


@pytest.mark.parametrize("share", [0.0015, 0.005, 0.015])
@pytest.mark.parametrize("value", [65535, 0])
def test_a_crowd_of_hot_voxels_is_recognised(share, value, rng):
    scan = rng.normal(20000, 300, (20, 60, 60)).astype("uint16")
    n = round(share * scan.size)
    scan.ravel()[rng.choice(scan.size, n, replace=False)] = value
    found = statistics(scan)
    assert found.crowd_share == pytest.approx(share, rel=0.35)


def test_hot_voxels_that_are_replaced_are_no_crowd(spoiled, scan):
    assert statistics(spoiled).crowd_share == 0
    assert statistics(scan).crowd_share == 0


def test_pores_and_grains_of_a_few_voxels_are_no_crowd(rng):
    for value in (0, 65535):
        scan = rng.normal(20000, 300, (20, 60, 60)).astype("uint16")
        for z, y, x in rng.integers(0, (18, 58, 58), (60, 3)):
            scan[z : z + 2, y : y + 2, x : x + 2] = value
        found = statistics(scan)
        assert found.crowd_share == 0
        assert found.hot is None


def test_few_blocks_are_read_again_for_a_crowd(rng, monkeypatch):
    scan = rng.normal(20000, 300, (200, 20, 20)).astype("uint16")
    scan.ravel()[rng.choice(scan.size, 400, replace=False)] = 65535
    monkeypatch.setattr(intensity, "_BLOCK_VOXELS", 400)
    n_steps = len(list(scan_steps(scan)))
    assert n_steps <= 2 * 200 + intensity._N_CROWD_BLOCKS
    assert statistics(scan).crowd_share == pytest.approx(0.005, rel=0.5)
