"""A memory budget is kept, or rejected with a sufficient one in the message."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_geosr.core.config import format_available, format_enough, parse_bytes
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.memory import Buffers, CostModel, tile_peak
from napari_geosr.inference.run import TiledRun
from napari_geosr.inference.runner import choose_output, restore_tiles
from napari_geosr.inference.tiles.choice import cut_to_budget, work_factor
from napari_geosr.inference.tiles.tiling import lay_out, plan
from napari_geosr.networks import build_network

STATISTICS = IntensityStatistics(0.0, 1.0, -5.0, 5.0, 1)
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_budgets.py"


class Held(np.ndarray):
    """Voxels of a file whose cache uses the size that it is given."""

    held_bytes = 10**9


def said(error: pytest.ExceptionInfo[DeviceMemoryError]) -> int:
    """Bytes required according to an error message."""
    found = re.search(r"needs ([\d.]+ [kMG]B)", str(error.value))
    assert found is not None
    return parse_bytes(found[1])


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 87_808_157, 169_050_000, 10**10 + 1])
def test_what_is_said_to_be_enough_is(n):
    assert n <= parse_bytes(format_enough(n)) <= n * 1.011 + 1


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 118_800, 169_050_000, 10**10 + 1])
def test_what_does_not_suffice_looks_different(n):
    assert format_available(n) != format_enough(n + 1)
    assert n * 0.989 - 1 <= parse_bytes(format_available(n)) <= n


@pytest.mark.parametrize("upscale", [1, 2])
def test_the_budget_that_a_refusal_names_is_accepted(upscale, monkeypatch):
    """Also if file caches use a fraction of any budget."""
    torch.manual_seed(0)
    name, kwargs = (
        ("light_sr", {"features": 8, "blocks": 1})
        if upscale == 2
        else ("msdnet", {"depth": 2, "width": 4, "adjacent_slices": 1})
    )
    network = build_network(name, **kwargs).eval()
    shape = (20, 40, 40)
    source = np.zeros(shape, np.uint16).view(Held)

    def planned(budget: int) -> None:
        choose_output(
            network,
            source,
            np.dtype(np.float32),
            statistics=STATISTICS,
            budget=budget,
        )

    with pytest.raises(DeviceMemoryError) as refused:
        planned(20 * 10**6)
    least = said(refused)
    planned(least)
    with pytest.raises(DeviceMemoryError):
        planned(int(least * 0.97))


def test_a_run_counts_what_both_files_hold_at_any_budget():
    network = build_network("light_sr", features=4, blocks=1).eval()
    source = np.zeros((12, 24, 24), np.uint16).view(Held)
    scale = network.spec.upscale_factor
    target = np.zeros(tuple(n * s for n, s in zip(source.shape, scale, strict=True)))
    run = TiledRun(
        network,
        source,
        target.astype(np.float32).view(Held),
        statistics=STATISTICS,
        budget=60 * 10**6,
    )
    assert run.planner.buffers_for(60 * 10**6).held == 20 * 10**6
    assert run.planner.buffers_for(90 * 10**6).held == 30 * 10**6


def test_a_budget_is_held_by_what_a_run_says_it_takes():
    network = build_network("light_sr", features=8, blocks=1).eval()
    source = np.random.default_rng(0).normal(size=(24, 48, 48)).astype(np.float32)
    scale = network.spec.upscale_factor
    shape = tuple(n * s for n, s in zip(source.shape, scale, strict=True))
    target = np.empty(shape, np.float32)
    summary = run_to_end(
        restore_tiles(network, source, target, statistics=STATISTICS, budget=80 * 10**6)
    )
    assert summary.peak_bytes <= 80 * 10**6
    assert summary.n_tiles > 1


def test_tiles_that_take_more_than_expected_are_cut_until_they_fit():
    """Halving once is not enough if the first tile took three times as much."""
    network = build_network("light_sr", features=4, blocks=1).eval()
    cost, buffers = CostModel(base=0.0, slope=1000.0, safety=3.0, fixed=0), Buffers()
    tiles = plan((32, 32, 32), network.spec, (32, 32, 32)).tiles
    layout = lay_out((32, 32, 32), network.spec)

    def peaks(found):
        sizes = [(tile.core_shape, tile.window_shape) for tile in found]
        return [tile_peak(layout, cost, buffers, *size) for size in sizes]

    (whole,) = peaks(tiles)
    budget = int(whole / 3)
    found = cut_to_budget(tiles, layout, cost, buffers, budget)
    assert max(peaks(found)) <= budget
    assert sum(np.prod(tile.core_shape) for tile in found) == 32**3
    assert work_factor(found) > work_factor(tiles) == 1.0
    with pytest.raises(DeviceMemoryError, match="not even the smallest") as refused:
        cut_to_budget(tiles, layout, cost, buffers, 10**6)
    cut_to_budget(tiles, layout, cost, buffers, said(refused))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_small_budgets_are_held_by_the_process():
    """Peak memory of the process above that without a run, from the kernel."""
    words = [sys.executable, str(BENCHMARK), "--budgets", "85"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.dumps(done.stdout).count("MB |") >= 5
