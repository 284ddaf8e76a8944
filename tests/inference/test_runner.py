"""Other guarantees of a run: order, cancelling, errors, dtypes, threads."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from napari_geosr.core.array_parts import boxes
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    EngineError,
    FileError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.steps import (
    TileDone,
    WarningIssued,
    run_to_end,
)
from napari_geosr.inference.memory import measure_cost
from napari_geosr.inference.runner import estimate, restore_region, restore_tiles

GB = 10**9


@pytest.fixture
def parts(make_network, statistics_of, rng):
    """A network, a 3D source, its statistics and a target, as needed by most tests."""
    source = rng.normal(100, 20, (6, 24, 31)).astype("float32")
    target = np.zeros(source.shape, "float32")
    return make_network("conv", slices=3), source, target, statistics_of(source)


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("geosr-")]


def run(network, source, target, statistics, **settings):
    settings.setdefault("budget", GB)
    return restore_tiles(network, source, target, statistics=statistics, **settings)


def test_steps_say_where_and_how_far(parts):
    _network, _source, target, _statistics = parts
    steps = []
    summary = run_to_end(run(*parts, tile=(2, 16, 31)), steps.append)
    tiles = [s for s in steps if isinstance(s, TileDone)]
    assert [s.done for s in tiles] == [1, 2, 3, 4, 5, 6]
    assert {s.total for s in tiles} == {6}
    for step in tiles:
        assert np.array_equal(target[step.slices], step.array)
    assert (summary.n_tiles, summary.tile, summary.n_retries) == (6, (2, 16, 31), 0)
    assert summary.cost_factor == pytest.approx((19 + 11) / 24)


def test_cancel_keeps_the_finished_part(parts):
    network, source, target, statistics = parts
    whole = np.zeros_like(target)
    run_to_end(run(network, source, whole, statistics))
    seen = []
    steps = run(*parts, tile=(1, 24, 31), should_stop=lambda: len(seen) >= 2)
    with pytest.raises(Cancelled, match=r"Stopped after \d of 6 tiles") as caught:
        run_to_end(steps, seen.append)
    n = caught.value.summary.n_tiles
    assert 2 <= n < 6
    assert np.allclose(target[:n], whole[:n])
    assert not target[n:].any()
    assert not ours()


def test_a_layer_deep_network_stops_within_a_tile(make_network, statistics_of, rng):
    import torch

    network = make_network("conv")
    inner = torch.nn.Sequential(*[torch.nn.Identity() for _ in range(50)], *network)
    inner.spec = network.spec
    calls = []

    def count(*_):
        calls.append(1)

    for layer in inner:
        layer.register_forward_hook(count)
    source = rng.normal(size=(64, 64)).astype("float32")
    steps = run(
        inner.eval(),
        source,
        np.zeros_like(source),
        statistics_of(source),
        tile=(64, 64),
        should_stop=lambda: len(calls) > 10,
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert len(calls) < 20


def test_a_network_of_one_module_stops_within_a_tile(statistics_of, rng, monkeypatch):
    from napari_geosr.networks import build_network
    from napari_geosr.networks.layers import dense

    monkeypatch.setattr(dense, "STRIP_VALUES", 1 << 12)
    network = build_network("msdnet", depth=6).eval()
    n_asked = 0

    def stop_at_tenth() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked >= 10

    source = rng.normal(size=(64, 64)).astype("float32")
    target = np.zeros_like(source)
    steps = run(
        network,
        source,
        target,
        statistics_of(source),
        tile=(64, 64),
        should_stop=stop_at_tenth,
    )
    with pytest.raises(Cancelled, match="Stopped after 0 of 1 tiles"):
        run_to_end(steps)
    assert n_asked == 10
    assert not target.any()


def test_closing_early_ends_the_threads(parts):
    steps = run(*parts, tile=(1, 24, 31))
    next(steps)
    assert ours()
    steps.close()
    assert not ours()


class Broken:
    """An array whose plane 3 cannot be read or written."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.dtype, self.ndim = array.dtype, array.ndim

    def _check(self, key):
        planes = key[0]
        if planes.start <= 3 < planes.stop:
            raise RuntimeError("bad block")

    def __getitem__(self, key):
        self._check(key)
        return self.array[key]

    def __setitem__(self, key, value):
        self._check(key)
        self.array[key] = value


def test_an_error_of_the_source_or_target_surfaces(parts, make_network):
    _, source, target, statistics = parts
    network = make_network("conv")
    with pytest.raises(FileError, match="Planes 3 to 3 .*not be read: bad block"):
        run_to_end(run(network, Broken(source), target, statistics, tile=(1, 24, 31)))
    assert not ours()
    with pytest.raises(FileError, match=r"could not be written: bad block"):
        run_to_end(run(network, source, Broken(target), statistics, tile=(1, 24, 31)))
    assert not ours()


@pytest.mark.parametrize("kind", [RuntimeError, IndexError, AssertionError])
def test_a_failing_network_is_an_engine_error(make_network, parts, kind):
    import torch

    class Fails(torch.nn.Conv2d):
        def forward(self, x):
            if x.shape[-1] > 200:
                raise kind("size mismatch in layer 3")
            return super().forward(x)

    network = Fails(1, 1, 1).eval()
    network.spec = make_network("conv").spec
    source = np.random.default_rng(0).normal(size=(20, 300)).astype("float32")
    with pytest.raises(EngineError, match="size mismatch in layer 3"):
        run_to_end(run(network, source, source.copy(), parts[3], tile=(20, 300)))
    assert not ours()


@pytest.mark.parametrize(("policy", "stands_for"), [("mean", None), ("zero", 0.0)])
def test_nonfinite_voxels(parts, policy, stands_for):
    network, source, target, statistics = parts
    source[2, 5, 5:9] = np.nan
    source[4, 0, 0] = np.inf
    summary = run_to_end(run(*parts, nonfinite=policy, tile=(2, 9, 8)))
    assert summary.n_nonfinite == 5
    clean = np.nan_to_num(source, nan=np.nan, posinf=np.nan)
    value = np.float32(statistics.mean) if stands_for is None else stands_for
    clean = np.where(np.isnan(clean), value, clean).astype("float32")
    expected = np.zeros_like(target)
    run_to_end(run(network, clean, expected, statistics, tile=(2, 9, 8)))
    missing = ~np.isfinite(source)
    assert np.array_equal(np.isnan(target), missing)
    assert np.abs(target - expected)[~missing].max() < 1e-4


def test_nonfinite_voxels_can_be_refused(parts):
    parts[1][2, 5, 5] = np.nan
    with pytest.raises(VolumeError, match="NaN or infinite"):
        run_to_end(run(*parts, nonfinite="refuse"))
    with pytest.raises(ConfigError, match="'ignore'"):
        run_to_end(run(*parts, nonfinite="ignore"))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
def test_integer_targets_are_rounded_and_clipped(parts, dtype):
    network, source, _, statistics = parts
    source *= 3
    exact = np.zeros(source.shape, "float64")
    run_to_end(run(network, source, exact, statistics))
    target = np.zeros(source.shape, dtype)
    summary = run_to_end(run(network, source, target, statistics))
    limits = np.iinfo(dtype)
    expected = np.clip(np.rint(exact), limits.min, limits.max)
    assert np.array_equal(target, expected.astype(dtype))
    rounded = np.rint(exact)
    n_out = ((rounded < limits.min) | (rounded > limits.max)).sum()
    assert summary.n_clipped == n_out
    assert dtype != "uint8" or n_out > 0


def test_an_image_for_a_network_on_neighbouring_planes_warns(parts):
    network, source, target, statistics = parts
    steps = list(run(network, source[0], target[0], statistics))
    assert isinstance(steps[0], WarningIssued)
    assert "3 neighbouring planes" in steps[0].message


def test_what_cannot_run_is_refused_at_once(parts, make_network):
    network, source, target, statistics = parts
    with pytest.raises(VolumeError, match=r"shape \(6, 24, 31\), not \(6, 24, 30\)"):
        run_to_end(run(network, source, target[..., :30], statistics))
    with pytest.raises(VolumeError, match="complex"):
        run_to_end(run(network, source + 1j, target, statistics))
    with pytest.raises(ModelError, match=r"network\.eval\(\)"):
        run_to_end(run(make_network("conv").train(), source, target, statistics))
    with pytest.raises(
        DeviceMemoryError,
        match=r"smallest useful tile.*needs 4[\d.]+ MB.*budget is 1 MB",
    ):
        run_to_end(run(*parts, budget=10**6))


def test_networks_that_see_the_whole_run_whole_or_not_at_all(
    make_network, restore_whole, statistics_of, rng
):
    network = make_network("normalised", double=True)
    source = rng.normal(size=(40, 50))
    statistics = statistics_of(source)
    target = np.zeros_like(source)
    run_to_end(run(network, source, target, statistics))
    assert np.allclose(target, restore_whole(network, source, statistics))
    with pytest.raises(ModelError, match="cannot be tiled exactly"):
        estimate(network, (20000, 20000), budget=GB)


def test_threads_and_inference_mode_do_not_leak(parts):
    import torch

    before = torch.get_num_threads()
    steps = run(*parts, tile=(1, 24, 31), threads=before + 1)
    next(steps)
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()
    steps.close()


def test_a_region_reads_itself_and_its_halo_alone(make_network, statistics_of, rng):
    class Watched:
        def __init__(self, array):
            self.array, self.shape = array, array.shape
            self.dtype, self.ndim = array.dtype, array.ndim
            self.read = np.zeros(array.shape, bool)

        def __getitem__(self, key):
            self.read[key] = True
            return self.array[key]

    source = rng.normal(size=(9, 60, 60)).astype("float32")
    watched = Watched(source)
    network = make_network("dilated", ndim=3)
    region = np.s_[4:5, 20:30, 25:40]
    restore_region(
        network, watched, region, statistics=statistics_of(source), budget=GB
    )
    where = np.argwhere(watched.read)
    assert where.min(0).tolist() == [0, 14, 19]
    assert (where.max(0) + 1).tolist() == [9, 36, 46]


def test_estimate_plans_what_a_run_does(make_network, statistics_of, rng):
    network = make_network("conv", ndim=3)
    said = estimate(network, (40, 64, 64), budget=60 * 10**6)
    source = rng.normal(size=(40, 64, 64)).astype("float32")
    summary = run_to_end(
        run(network, source, source.copy(), statistics_of(source), budget=60 * 10**6)
    )
    assert said.seconds > 0
    assert said.peak_bytes <= 60 * 10**6
    assert summary.tile == said.tile
    assert summary.n_tiles == said.n_tiles


def test_importing_the_engine_loads_no_torch():
    code = (
        "import sys, napari_geosr.inference.runner, napari_geosr.inference.device, "
        "napari_geosr.inference.receptive_field, napari_geosr.inference.intensity; "
        "print(sorted({'torch', 'scipy', 'zarr', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def grown(monkeypatch):
    """Simulate the growth by the first tile; record the allocator that is used."""
    from contextlib import nullcontext

    from napari_geosr.inference import compute
    from napari_geosr.inference import run as run_module

    class Told:
        growth = 0
        frugal: list = []  # noqa: RUF012

        def __init__(self, device):
            pass

        def stop(self):
            return self.growth

    def frugal(device):
        Told.frugal.append(device)
        return nullcontext()

    Told.frugal = []
    monkeypatch.setattr(run_module, "GrowthMeter", Told)
    monkeypatch.setattr(compute, "frugal_allocator", frugal)
    return Told


@pytest.mark.parametrize(
    ("times", "is_smaller"), [(0.5, False), (1.0, False), (1.05, False), (1.8, True)]
)
def test_the_first_tile_makes_the_others_smaller_if_it_broke_the_budget(
    make_network, statistics_of, rng, grown, times, is_smaller
):
    network = make_network("conv", slices=3)
    source = rng.normal(size=(12, 128, 128)).astype("float32")
    statistics = statistics_of(source)
    expected, target = np.zeros_like(source), np.zeros_like(source)
    cost = measure_cost(network)
    fixed, settings = cost.peak(0), {"preferred_tile": (6, 128, 128), "threads": 1}
    whole = run(network, source, expected, statistics, **settings)
    planned = run_to_end(whole)
    assert planned.n_tiles == 2
    # Memory for a tenth more than the predicted size of the tiles.
    budget = int(planned.peak_bytes + 0.1 * (planned.peak_bytes - fixed))
    grown.growth = int(fixed + times * (cost.peak(128 * 128) - fixed))
    steps = []
    summary = run_to_end(
        run(network, source, target, statistics, budget=budget, **settings),
        steps.append,
    )
    assert summary.n_retries == 0
    np.testing.assert_allclose(target, expected, atol=1e-4)
    shapes = [s.array.shape for s in steps if isinstance(s, TileDone)]
    halves = [(6, 64, 128)] * 2 if is_smaller else [(6, 128, 128)]
    assert shapes == [(6, 128, 128), *halves]


@pytest.mark.parametrize(("times", "is_frugal"), [(2.4, True), (2.6, False)])
def test_pages_are_returned_at_once_only_where_the_budget_is_tight(
    parts, grown, times, is_frugal
):
    tile = (2, 16, 31)
    peak = run_to_end(run(*parts, tile=tile)).peak_bytes
    assert grown.frugal == []
    run_to_end(run(*parts, tile=tile, budget=int(times * peak)))
    assert grown.frugal == ["cpu"] * is_frugal


def test_looking_for_finished_tiles_takes_a_time_that_grows_with_their_number(
    make_network, statistics_of, rng, monkeypatch
):
    """All but one of many tiles are finished, and each is compared with a few boxes."""
    source = rng.normal(100, 20, (1, 80, 80)).astype("float32")
    network, statistics = make_network("conv"), statistics_of(source)
    target = np.zeros(source.shape, "float32")
    tile = (1, 4, 4)
    found: list[TileDone] = []
    run_to_end(run(network, source, target, statistics, tile=tile), found.append)
    places = [step.slices for step in found if isinstance(step, TileDone)]
    assert len(places) == 400
    compared: list[int] = []
    contains = boxes.contains
    monkeypatch.setattr(
        boxes, "contains", lambda *given: compared.append(1) or contains(*given)
    )
    again: list[TileDone] = []
    steps = run(network, source, target, statistics, tile=tile, finished=places[:-1])
    run_to_end(steps, again.append)
    assert [s.slices for s in again if isinstance(s, TileDone)] == places[-1:]
    assert len(compared) <= 2 * len(places)
