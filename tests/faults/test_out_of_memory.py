"""If memory runs out during a run, the run continues with smaller tiles."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import TileDone, WarningIssued, run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.runner import restore_region, restore_tiles
from napari_geosr.inference.tiles.memory import TileMemory, memory_key
from napari_geosr.networks.spec import NetworkSpec

GB = 10**9
MEMORY_ERRORS = {
    "cuda": lambda: __import__("torch").OutOfMemoryError("CUDA out of memory."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 999 bytes."
    ),
    "numpy": lambda: MemoryError("Unable to allocate 3 GiB"),
}


def make_network(largest: int, failure):
    """A 3D network that runs out of memory on windows of more than `largest` voxels."""
    import torch

    class Greedy(torch.nn.Conv3d):
        windows: list = []  # noqa: RUF012

        def forward(self, x):
            self.windows.append(tuple(x.shape[2:]))
            if x[0, 0].numel() > largest:
                raise failure()
            return super().forward(x)

    torch.manual_seed(0)
    network = Greedy(1, 1, 3, padding=1).eval()
    network.windows = []
    network.spec = NetworkSpec("ZYX", (1,) * 3, (1,) * 3, (1,) * 3)
    return network


@pytest.fixture
def source(rng):
    return rng.normal(size=(32, 80, 80)).astype("float32")


@pytest.fixture
def memory(tmp_path):
    return TileMemory(tmp_path / "cache" / "tiles.json")


STATISTICS = IntensityStatistics(0.0, 1.0, -5.0, 5.0, 57600)


def run(network, source, target, memory, **settings):
    return restore_tiles(
        network,
        source,
        target,
        statistics=STATISTICS,
        budget=GB,
        tile_memory=memory,
        **settings,
    )


@pytest.mark.parametrize("kind", MEMORY_ERRORS)
def test_tiles_are_halved_and_the_run_goes_on(kind, source, memory):
    expected = np.zeros_like(source)
    run_to_end(run(make_network(10**9, MEMORY_ERRORS[kind]), source, expected, memory))
    network = make_network(30000, MEMORY_ERRORS[kind])
    target = np.zeros_like(source)
    steps = []
    summary = run_to_end(
        run(network, source, target, memory, tile=(32, 80, 80)), steps.append
    )
    assert np.abs(target - expected).max() < 1e-5
    assert summary.n_retries == 3
    tiles = [s for s in steps if isinstance(s, TileDone)]
    count = np.zeros(source.shape, int)
    for step in tiles:
        count[step.slices] += 1
    assert (count == 1).all()
    assert [s.done for s in tiles] == list(range(1, len(tiles) + 1))
    assert tiles[-1].done == tiles[-1].total == summary.n_tiles


def test_finished_tiles_are_not_repeated(source, memory):
    """Memory becomes scarce after the second tile (another program uses it)."""
    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    forward, calls = type(network).forward, []

    def scarce(self, x):
        calls.append(tuple(x.shape[2:]))
        if len(calls) > 2 and x.shape[2] > 8:
            raise MEMORY_ERRORS["cpu"]()
        return forward(self, x)

    type(network).forward = scarce
    target = np.zeros_like(source)
    starts = [
        step.slices[0].start
        for step in run(network, source, target, memory, tile=(8, 40, 80))
        if isinstance(step, TileDone)
    ]
    assert len(starts) == len(calls) - network_retries(calls)
    assert starts[:2] == [0, 0]
    assert calls[:2] == [(9, 41, 80)] * 2
    assert calls.count((9, 41, 80)) == 2


def network_retries(calls):
    return sum(1 for i, c in enumerate(calls) if i >= 2 and c[0] > 8)


def test_the_size_that_worked_is_remembered(source, memory):
    network = make_network(30000, MEMORY_ERRORS["cpu"])
    target = np.zeros_like(source)
    run_to_end(run(network, source, target, memory, tile=(32, 80, 80)))
    known = memory.max_voxels(memory_key(network, "cpu"))
    assert known is not None
    assert known <= 30000
    again = make_network(30000, MEMORY_ERRORS["cpu"])
    again.load_state_dict(network.state_dict())
    # Its small windows for timing pass; the run itself must not fail even once.
    summary = run_to_end(run(again, source, np.zeros_like(source), memory))
    assert summary.n_retries == 0
    assert summary.n_tiles > 1


def test_larger_windows_are_tried_when_more_memory_is_free(memory):
    memory.remember("a", 7, free=100)
    assert memory.max_voxels("a", free=110) == 7
    assert memory.max_voxels("a", free=200) is None
    memory.remember("b", 8)  # by an earlier release, which did not record it
    assert memory.max_voxels("b", free=10**12) == 8


def test_a_run_says_that_an_earlier_one_ran_out_of_memory(source, memory):
    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    memory.remember(memory_key(network, "cpu"), 4**3)
    part = source[:8, :12, :12]
    steps = list(run(network, part, np.zeros_like(part), memory))
    (said,) = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert said.startswith("Memory ran out in an earlier run")


def test_a_small_budget_says_what_it_costs_and_what_would_do(source, memory):
    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    network.spec = NetworkSpec("ZYX", (12,) * 3, (1,) * 3, (1,) * 3)

    def said(budget):
        steps = restore_tiles(
            network,
            source,
            np.zeros_like(source),
            statistics=STATISTICS,
            budget=budget,
            tile_memory=memory,
        )
        return [step.message for step in steps if isinstance(step, WarningIssued)]

    with pytest.raises(DeviceMemoryError) as refused:
        said(10**6)
    least = float(re.search(r"needs ([\d.]+) MB", str(refused.value))[1])
    (message,) = said(int((least + 1) * 10**6))
    enough = float(re.search(r"([\d.]+) MB would suffice", message)[1])
    assert enough > least
    assert said(int((enough + 1) * 10**6)) == []


def test_memory_of_tiles_survives_a_damaged_file(memory):
    memory.path.parent.mkdir()
    memory.path.write_text("{ not json")
    assert memory.max_voxels("a") is None
    memory.remember("a", 7)
    memory.remember("b", 8)
    assert (memory.max_voxels("a"), memory.max_voxels("b")) == (7, 8)
    memory.path.write_text('{"a": {"window_voxels": 7, "time": 0}}')
    assert memory.max_voxels("a") is None  # too long ago


def test_reading_may_run_out_of_memory_too(source, memory):
    class Large:
        shape, dtype, ndim = source.shape, source.dtype, 3

        def __getitem__(self, key):
            if np.prod([k.stop - k.start for k in key]) > 60000:
                raise MemoryError("Unable to allocate")
            return source[key]

    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    target = np.zeros_like(source)
    summary = run_to_end(run(network, Large(), target, memory, tile=(32, 80, 80)))
    assert summary.n_retries == 2
    assert target.all()


def test_a_preview_survives_as_well(source, memory):
    network = make_network(30000, MEMORY_ERRORS["cpu"])
    region = np.s_[0:32, 0:80, 0:80]
    settings = {"statistics": STATISTICS, "budget": GB, "tile_memory": memory}
    got = restore_region(network, source, region, **settings)
    free = make_network(10**9, MEMORY_ERRORS["cpu"])
    free.load_state_dict(network.state_dict())
    assert np.abs(got - restore_region(free, source, region, **settings)).max() < 1e-5


def test_when_nothing_fits_the_person_is_told(source, memory):
    network = make_network(0, MEMORY_ERRORS["cuda"])
    part = source[:4, :20, :20]  # in the end, its tiles are single voxels
    with pytest.raises(DeviceMemoryError, match="cpu ran out of memory"):
        run_to_end(run(network, part, np.zeros_like(part), memory))
    few = source[:2, :6, :6]
    with pytest.raises(DeviceMemoryError, match=r"smallest tile.*Close other programs"):
        run_to_end(run(network, few, np.zeros_like(few), memory, tile=(2, 2, 2)))


class Full:
    """A target that cannot store its third block for lack of memory."""

    def __init__(self, shape):
        self.array = np.full(shape, np.nan, np.float32)
        self.shape, self.dtype, self.ndim = shape, self.array.dtype, len(shape)
        self.n_writes = 0

    def __setitem__(self, key, value):
        self.n_writes += 1
        if self.n_writes == 3:
            raise MemoryError("Unable to allocate")
        self.array[key] = value


@pytest.mark.parametrize("n_tiles", [3, 4, 8])
def test_memory_that_runs_out_on_writing_ends_the_run(n_tiles, source, memory):
    """Nothing is written after that, so the run must not count as complete."""
    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    target = Full(source.shape)
    steps = run(network, source, target, memory, tile=(-(-32 // n_tiles), 80, 80))
    with pytest.raises(DeviceMemoryError, match=r"while .* written"):
        list(steps)


def test_a_failed_read_ahead_costs_no_finished_tile(source, memory):
    """The reader fails while the previous tile is being computed."""
    failed = threading.Event()

    class FailsOnce:
        shape, dtype, ndim = source.shape, source.dtype, 3

        def __getitem__(self, key):
            if key[0].start >= 7 and not failed.is_set():
                failed.set()
                raise MemoryError("Unable to allocate")
            return source[key]

    network = make_network(10**9, MEMORY_ERRORS["cpu"])
    forward = type(network).forward

    def after_the_failure(self, x):
        failed.wait(60)
        return forward(self, x)

    type(network).forward = after_the_failure
    target = np.full_like(source, np.nan)
    run_to_end(run(network, FailsOnce(), target, memory, tile=(8, 80, 80)))
    assert np.isfinite(target).all()
