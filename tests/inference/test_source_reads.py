"""Budgets count the blocks of the file in which the input is stored."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.inference import compute, source_reads
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.run import TiledRun
from napari_geosr.inference.runner import estimate, restore_tiles
from napari_geosr.inference.source_reads import blocks_along, ways_to_read
from napari_geosr.inference.tiles.tiling import lay_out, plan
from napari_geosr.inference.windows import WindowReader
from napari_geosr.io import lazy
from napari_geosr.io.lazy import LazyArray, ReadUnit, read_unit
from napari_geosr.networks import build_network

STATISTICS = IntensityStatistics(0.0, 1.0, -5.0, 5.0, 1)
MB = 10**6


class Stored:
    """Voxels in blocks; counts the voxels of the blocks that are decoded."""

    dtype = np.dtype(np.uint16)

    def __init__(self, shape: tuple[int, int, int], chunks: tuple[int, ...]) -> None:
        self.shape, self.chunks, self.decoded = shape, chunks, 0

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        n = math.prod(
            min(-(-k.stop // c) * c, size) - k.start // c * c
            for k, c, size in zip(key, self.chunks, self.shape, strict=True)
        )
        self.decoded += n
        return np.zeros([k.stop - k.start for k in key], np.uint16)


def network(**changes: Any) -> Any:
    torch.manual_seed(0)
    options = {"depth": 3, "width": 2, "adjacent_slices": 1} | changes
    return build_network("msdnet", **options).eval()


@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize(
    ("chunks", "tile"),
    [
        ((8, 16, 16), (1, 24, 24)),
        ((24, 48, 48), (4, 24, 24)),  # a single block
        ((6, 48, 48), (5, 48, 48)),
        ((1, 48, 48), (1, 16, 48)),
        ((24, 16, 16), (3, 16, 16)),
    ],
)
def test_as_many_blocks_are_decoded_as_planned(
    chunks: tuple[int, ...], tile: tuple[int, ...], context: int, monkeypatch: Any
) -> None:
    monkeypatch.setattr(lazy, "_MIN_GROUP_BYTES", 1)
    monkeypatch.setattr(lazy, "_GROUP_SHARE", 0.0)
    shape = (24, 48, 48)
    net = network(adjacent_slices=context)
    layout, tiles = lay_out(shape, net.spec), plan(shape, net.spec, tile).tiles
    along = []
    for axis in range(3):
        windows = sorted({(t.window[axis].start, t.window[axis].stop) for t in tiles})
        slices = [slice(*window) for window in windows]
        along.append(blocks_along(layout, axis, slices, chunks[axis]))
    unit = ReadUnit(chunks, math.prod(chunks) * 2, math.prod(chunks) * 4)
    ways = ways_to_read(unit, *along)
    assert ways[-1].factor == 1.0
    for way in ways:
        stored = Stored(shape, chunks)
        array = LazyArray(stored, Path("a.zarr"), chunks, cache_bytes=way.cache_bytes)
        reader = WindowReader(array, layout, STATISTICS)
        for each in tiles:
            reader.read(each)
        factor = stored.decoded / math.prod(shape)
        # Fewer if blocks at the border are smaller, or planes are reused.
        assert factor <= way.factor * 1.001
        if context == 1:
            assert factor >= way.factor * 0.6


def stored_in_one_block(shape: tuple[int, int, int]) -> LazyArray:
    return LazyArray(Stored(shape, shape), Path("one.zarr"), shape)


def planned(source: Any, budget: int) -> TiledRun:
    net = network()
    target = np.empty(source.shape, np.float32)
    run = TiledRun(net, source, target, statistics=STATISTICS, budget=budget)
    # Only for the choice, because there may be a hundred thousand tiles.
    with patch.object(run.planner, "_tiles"):
        run.planner.plan()
    return run


def said(error: pytest.ExceptionInfo[DeviceMemoryError]) -> int:
    found = re.search(r"needs ([\d.]+ [kMG]B)", str(error.value))
    assert found is not None
    return parse_bytes(found[1])


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "known_speed", lambda *_: 1e-6)


@pytest.mark.usefixtures("known_speed")
def test_a_budget_has_room_for_the_block_that_is_decoded() -> None:
    """The block takes 50 MB, and another 100 MB while it is decoded."""
    source = stored_in_one_block((100, 500, 500))
    with pytest.raises(DeviceMemoryError) as refused:
        planned(source, 120 * MB)
    least = said(refused)
    assert least > 145 * MB
    run = planned(source, least)
    assert run.planner.choice.peak_bytes <= least
    assert run.planner.choice.peak_bytes >= 145 * MB
    with pytest.raises(DeviceMemoryError):
        planned(source, int(0.97 * least))


@pytest.mark.usefixtures("known_speed")
def test_a_block_is_kept_for_all_tiles_if_there_is_room() -> None:
    source = stored_in_one_block((100, 500, 500))
    choice = planned(source, 300 * MB).planner.choice
    assert choice.n_tiles > 1
    assert choice.reads.cache_bytes == 50 * MB
    assert choice.reads.factor == 1.0


@pytest.mark.usefixtures("known_speed")
def test_repeated_decoding_is_announced_with_the_memory_that_avoids_it(
    monkeypatch: Any,
) -> None:
    """If decoding takes as long as the network."""
    monkeypatch.setattr(source_reads, "_DECODING_SECONDS", 1e-6)
    chunks = (16, 125, 125)  # 0.5 MB, and 32 MB for everything that a plane needs
    source = LazyArray(Stored((16, 1000, 1000), chunks), Path("a.zarr"), chunks)
    with pytest.raises(DeviceMemoryError) as refused:
        planned(source, 30 * MB)
    run = planned(source, said(refused))
    choice = run.planner.choice
    work = choice.work(1e-6)
    assert work == pytest.approx(choice.cost_factor + choice.reads.factor - 1)
    assert work > 3 * choice.cost_factor
    (step,) = run.planner.cost_warnings()
    assert isinstance(step, WarningIssued)
    assert "blocks of 16 × 125 × 125 voxels (500 kB)" in step.message
    assert f"decoded about {choice.reads.factor:.0f} times" in step.message
    assert f"about {work:.0f} times as long" in step.message
    enough = re.search(r"([\d.]+ MB) would suffice", step.message)
    assert enough is not None
    better = planned(source, parse_bytes(enough[1])).planner
    assert better.choice.work(1e-6) <= 3
    assert not list(better.cost_warnings())


def test_what_is_refused_does_not_depend_on_times(monkeypatch: Any) -> None:
    chunks = (16, 125, 125)
    needed = set()
    for seconds, speed in ((1e-9, 1e-5), (1e-4, 1e-7)):
        monkeypatch.setattr(source_reads, "_DECODING_SECONDS", seconds)
        monkeypatch.setattr(compute, "known_speed", lambda *_, s=speed: s)
        source = LazyArray(Stored((16, 1000, 1000), chunks), Path("a.zarr"), chunks)
        with pytest.raises(DeviceMemoryError) as refused:
            planned(source, 30 * MB)
        needed.add(said(refused))
        planned(source, said(refused))
    assert len(needed) == 1


@pytest.mark.usefixtures("known_speed")
def test_fast_decoding_may_be_repeated() -> None:
    """Smaller tiles and a cache would take more time."""
    chunks = (16, 125, 125)
    source = LazyArray(Stored((16, 1000, 1000), chunks), Path("a.zarr"), chunks)
    with pytest.raises(DeviceMemoryError) as refused:
        planned(source, 30 * MB)
    least = said(refused)
    planner = planned(source, 2 * least).planner
    assert planner.choice.work(1e-6) < 1.3
    assert not list(planner.cost_warnings())


def test_the_time_for_decoding_is_measured(monkeypatch: Any) -> None:
    monkeypatch.setattr(lazy, "_TIMED_BYTES", 10**6)

    class Slow(Stored):
        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            time.sleep(0.02)
            return super().__getitem__(key)

    chunks = (10, 200, 200)
    array = LazyArray(Slow((20, 200, 200), chunks), Path("a.zarr"), chunks)
    assert array.read_unit is not None
    assert array.read_unit.seconds is None
    for z in (0, 10):
        array[z]
    unit = array.read_unit
    assert unit.seconds is not None
    assert unit.seconds >= 0.02
    layout = lay_out((20, 200, 200), network().spec)
    one = blocks_along(layout, 0, [slice(0, 1)], 10)
    (way,) = ways_to_read(unit, one, one, one)
    assert way.seconds == pytest.approx(unit.seconds / 400_000)


@pytest.mark.usefixtures("known_speed")
def test_a_run_decodes_as_planned_and_restores_the_cache() -> None:
    source = stored_in_one_block((40, 200, 200))
    net = network()
    target = np.empty(source.shape, np.float32)
    before = source.cache_bytes
    steps = restore_tiles(
        net, source, target, statistics=STATISTICS, budget=200 * MB, tile=(1, 100, 100)
    )
    summary = run_to_end(steps)
    assert summary.n_tiles == 160
    assert summary.read_factor == 1.0
    assert source.cache_bytes == before
    stored: Any = source.source
    assert stored.decoded == math.prod(stored.shape)


def test_an_estimate_counts_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "seconds_per_voxel", lambda *_, **__: 1e-6)
    source = stored_in_one_block((100, 500, 500))
    options: Any = {"budget": 10**9, "itemsize": 2}
    plain = estimate(network(), source.shape, **options)
    found = estimate(network(), source.shape, **options, unit=source.read_unit)
    assert found.peak_bytes >= plain.peak_bytes + 100 * MB


def test_voxels_that_can_be_read_alone_cost_nothing() -> None:
    source = np.zeros((10, 40, 40), np.uint16)
    assert read_unit(source) is None
    assert planned(source, 300 * MB).planner.choice.reads.held_bytes == 0
