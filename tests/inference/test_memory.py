"""The cost model, and the tile that is chosen with it."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import DeviceMemoryError, ModelError
from napari_geosr.inference.memory import (
    MIN_SAFETY,
    Buffers,
    CostModel,
    count_storage,
    measure_cost,
    network_spec,
    region_peak,
    tile_peak,
)
from napari_geosr.inference.tiles.choice import (
    ACCEPTED_FACTOR,
    MAX_COST_FACTOR,
    choose_tile,
)
from napari_geosr.inference.tiles.memory import TileMemory
from napari_geosr.inference.tiles.planner import TilePlanner
from napari_geosr.inference.tiles.tiling import lay_out, plan
from napari_geosr.models import zoo
from napari_geosr.networks.spec import NetworkSpec


@pytest.mark.parametrize(("kind", "ndim"), [("conv", 2), ("strided", 2), ("conv", 3)])
def test_counted_storage_is_a_line_in_the_voxels(make_network, kind, ndim):
    network = make_network(kind, ndim)
    cost = measure_cost(network)
    window = (224,) * ndim if ndim == 2 else (56,) * ndim
    counted = count_storage(network, window)
    assert cost.counted(math.prod(window)) == pytest.approx(counted, rel=0.02)


def test_counting_by_hand(make_network):
    """One convolution, 1 → 3 channels, and its copies in blocks of 16 channels."""
    import torch

    network = torch.nn.Conv2d(1, 3, 3, padding=1)
    network.spec = NetworkSpec("YX", (1, 1), (1, 1), (1, 1))
    n = 64 * 64
    assert count_storage(network, (64, 64)) == (1 + 3 + 16 + 16) * 4 * n
    assert count_storage(network, (64, 64), "cuda") == (1 + 3) * 4 * n


def test_a_network_that_fails_is_named(make_network):
    import torch

    network = torch.nn.Conv2d(2, 1, 3)
    network.spec = NetworkSpec("YX", (1, 1), (1, 1), (1, 1))
    with pytest.raises(ModelError, match="fails on a window"):
        count_storage(network, (16, 16))


def test_a_measured_tile_corrects_the_model():
    cost = CostModel(base=0.0, slope=100.0, safety=1.2, fixed=10)
    higher = cost.corrected(1000, 200_010)
    assert higher.peak(1000) == pytest.approx(200_010)
    assert cost.corrected(1000, 20).safety == MIN_SAFETY


@st.composite
def problems(draw):
    ndim = draw(st.sampled_from((2, 3)))
    per_plane = ndim == 2 or draw(st.booleans())
    n = 2 if per_plane else 3
    longest = 3000 if per_plane else 300
    plane = tuple(draw(st.integers(1, longest)) for _ in range(n))
    shape = plane if ndim == n else (draw(st.integers(1, 50)), *plane)
    stride = draw(st.sampled_from((1, 4)))
    spec = NetworkSpec(
        "ZYX"[-n:],
        (draw(st.integers(0, 40)),) * n,
        (stride,) * n,
        (draw(st.sampled_from((1, 2))),) * n,
        minimum_size=(stride,) * n,
    )
    return shape, spec, draw(st.integers(600, 3000)) * 10**6


COST = CostModel(base=1000.0, slope=300.0)


@settings(deadline=None, max_examples=40)
@given(problems(), st.one_of(st.none(), st.floats(1e-8, 1e-4)))
def test_the_choice_keeps_the_budget_and_is_the_plans(problem, speed):
    shape, spec, budget = problem
    choice = choose_tile(shape, spec, COST, budget, seconds_per_voxel=speed)
    assert choice.peak_bytes <= budget
    assume(choice.n_tiles <= 5000)  # planning 100,000 tiles takes seconds
    tiles = plan(shape, spec, choice.tile)
    assert len(tiles.tiles) == choice.n_tiles
    assert tiles.tile == choice.tile
    layout = lay_out(shape, spec)
    largest = max(
        math.prod(t.window_shape[1 if layout.per_plane else 0 :]) for t in tiles.tiles
    )
    assert largest == choice.window_voxels


def test_plenty_of_memory_means_no_overhead():
    spec = NetworkSpec("ZYX", (10,) * 3, (1,) * 3, (2,) * 3)
    choice = choose_tile((100, 100, 100), spec, COST, 10**12)
    assert (choice.n_tiles, choice.cost_factor) == (1, 1.0)


def test_the_longest_axis_is_split_first():
    spec = NetworkSpec("ZYX", (10,) * 3, (1,) * 3, (1,) * 3)
    choice = choose_tile((64, 64, 640), spec, COST, 500 * 10**6)
    assert choice.tile[:2] == (64, 64)
    assert choice.n_tiles > 1


def test_slow_networks_get_smaller_tiles_but_not_dearer_runs():
    spec = NetworkSpec("ZYX", (5,) * 3, (1,) * 3, (1,) * 3)
    fast = choose_tile((256,) * 3, spec, COST, 10**11, seconds_per_voxel=1e-9)
    slow = choose_tile((256,) * 3, spec, COST, 10**11, seconds_per_voxel=1e-6)
    assert fast.n_tiles == 1
    assert slow.n_tiles > 1
    assert slow.cost_factor <= ACCEPTED_FACTOR


def test_tiles_that_nearly_only_compute_halos_are_refused():
    """A budget with which the run would take hundreds of times as long is too small."""
    spec = NetworkSpec("ZYX", (20,) * 3, (1,) * 3, (1,) * 3)
    with pytest.raises(DeviceMemoryError, match="smallest useful tile") as refused:
        choose_tile((64,) * 3, spec, COST, 10**6)
    enough = parse_bytes(re.search(r"needs ([\d.]+ [MG]B)", str(refused.value))[1])
    choice = choose_tile((64,) * 3, spec, COST, enough)
    assert 3 < choice.cost_factor <= MAX_COST_FACTOR
    # A region is small; the work for the halo around it is unavoidable.
    tight = (slice(0, 1),) * 3
    assert choose_tile((64,) * 3, spec, COST, 10**12, box=tight).cost_factor > 20


def test_planes_are_gathered_to_fill_chunks_of_the_target():
    spec = NetworkSpec("YX", (5, 5), (1, 1), (1, 1))
    choice = choose_tile((64, 100, 100), spec, COST, 10**9, chunks=(8, 100, 100))
    assert choice.tile == (8, 100, 100)
    single = choose_tile(
        (64, 2000, 2000), spec, COST, 2 * 10**9, seconds_per_voxel=1e-6
    )
    assert single.tile[0] == 1


def test_a_remembered_size_is_kept():
    spec = NetworkSpec("YX", (5, 5), (1, 1), (1, 1))
    choice = choose_tile((1000, 1000), spec, COST, 10**12, max_voxels=90_000)
    assert choice.window_voxels <= 90_000


def test_what_is_needed_is_named_when_nothing_fits():
    spec = NetworkSpec("YX", (500, 500), (1, 1), (1, 1))
    with pytest.raises(DeviceMemoryError, match=r"needs \d+ MB.*budget is 60 MB"):
        choose_tile((5000, 5000), spec, COST, 60 * 10**6)


def test_buffers_count_every_copy():
    spec = NetworkSpec("YX", (2, 2), (1, 1), (1, 1), adjacent_slices=5)
    layout = lay_out((9, 50, 50), spec)
    buffers = Buffers(source=2, target=4, network=4, depth=2)
    n_in, n_out = 5 * 30 * 30, 1 * 26 * 26
    expected = n_in * (2 + 1 + 3 * 4) + n_out * (4 * 4 + 2 * 4 + 2)
    assert buffers.bytes(layout, (1, 26, 26), (1, 30, 30)) == expected


def test_chunks_that_a_tile_touches_count():
    spec = NetworkSpec("YX", (2, 2), (1, 1), (2, 2))
    layout = lay_out((9, 50, 50), spec)
    plain, chunked = Buffers(), Buffers(chunks=(4, 32, 64))
    size, window = (1, 26, 26), (1, 30, 30)
    more = chunked.bytes(layout, size, window) - plain.bytes(layout, size, window)
    # 1 plane may touch 2 chunks, 52 rows 3 of 4, 52 columns 2 of 2; read and packed.
    assert more == 2 * 4 * (2 * 4) * (3 * 32) * (2 * 64)


@pytest.mark.parametrize("nbytes", [50_000_000, 60_000_000, 5 * 10**9])
@pytest.mark.parametrize("at_once", [math.inf, 20_000.0])
def test_the_largest_window_just_fits(nbytes, at_once):
    cost = CostModel(
        base=1000.0,
        slope=300.0,
        safety=1.5,
        fixed=48_000_000,
        at_once=at_once,
        beyond=2,
    )
    most = cost.max_voxels(nbytes)
    assert cost.peak(most) <= nbytes
    assert cost.peak(most + 2) > nbytes


@pytest.mark.parametrize("name", ["foam-sr-x4", "bone-sr-x8"])
def test_a_region_needs_no_memory_for_the_output_of_its_halo(name: str) -> None:
    """The estimate covers the storage counted on the true window, and is smaller than
    that of a whole window, so that a small budget does not cut a preview into pieces.
    """
    network = zoo.find(name).restorer()
    spec = network_spec(network)
    edge = 64 // spec.upscale_factor[0]
    source = np.zeros((48, 64, 64), np.float32)
    region = (slice(24, 25), slice(24, 24 + edge), slice(24, 24 + edge))
    target = np.empty([(p.stop - p.start) * 8 for p in region], np.float32)

    def planner(budget: int) -> TilePlanner:
        return TilePlanner(
            network,
            source,
            target,
            budget=budget,
            device="cpu",
            tile_memory=TileMemory(),
            region=region,
        )

    roomy = planner(10**11)
    [tile] = roomy.plan_region().tiles
    layout, window = roomy.layout, tile.window_shape
    needed = region_peak(network, "cpu", layout, roomy.buffers, tile.core_shape, window)
    counted = count_storage(network, window, core=tile.crop(layout))
    whole = tile_peak(
        layout, measure_cost(network), roomy.buffers, tile.core_shape, window
    )
    assert counted < needed < whole / 2
    assert len(planner(int(needed) + 1).plan_region().tiles) == 1
    with pytest.raises(DeviceMemoryError):
        planner(int(needed / 2)).plan_region()
