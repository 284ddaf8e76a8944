"""Several processes label the slabs of a volume: the same numbers, even after kills."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import psutil
import pytest

from napari_geosr import io, measure_porosity
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import BlockDone, StageStarted, StepIterator
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.slabs import thickness as shared
from napari_geosr.operations import storage
from napari_geosr.operations.cluster import worker_settings
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.measure import journal as journals
from napari_geosr.operations.measure.journal import MeasureJournal

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")

SHAPE = (47, 36, 38)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes for all tests, as their start takes seconds."""
    with dask.config.set(worker_settings(1)):
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
        )
        with distributed.Client(cluster, set_as_default=False) as client:
            yield client
        with suppress(KeyError):  # of a worker that was killed
            cluster.close()


@pytest.fixture(autouse=True)
def small_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of three planes, so that pores cross many of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 3 * 36 * 38)
    monkeypatch.setattr(blocks, "_MIN_COMPACTION_LABELS", 50)


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    data = smooth / smooth.std() * 20 + 100 + rng.normal(0, 4, SHAPE)
    data[:, 10:14, 20:24] = 20  # a pore through all slabs
    volume = Volume(data.clip(0, 255).astype(np.uint8), "ZYX", (2.0, 1.0, 1.5), "µm")
    return io.write(volume, tmp_path / "scan.tif")


def measured(
    volume: Volume,
    workers: Any = None,
    *,
    on_slab: Any = lambda n: None,
    companions: Any = None,
    folder: Path | None = None,
    **settings: Any,
) -> tuple[PorosityReport, int]:
    """Return the report, and the number of slabs labelled in this run."""
    volumes, config = {"input": volume}, MeasureConfig.create(**settings)
    given = companions or {}
    journal = None if folder is None else MeasureJournal(folder, volumes, given, config)
    n, labelling, stopped = 0, False, False
    steps = measure_several_steps(
        volumes,
        config,
        given.get("mask"),
        deviation=given.get("deviation"),
        journal=(lambda _: None) if journal is None else journal.of,
        workers=workers,
        should_stop=lambda: stopped,
    )
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, StageStarted):
                labelling = step.message == "Labelling the pores"
            elif labelling and isinstance(step, BlockDone):
                n += 1
                stopped = stopped or on_slab(n) is True
    return iterator.result["input"], n


def assert_equal(found: PorosityReport, expected: PorosityReport) -> None:
    """Every number, the table of pores and the labels are exactly equal."""
    one, other = found.to_json_dict(), expected.to_json_dict()
    assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    for name, column in expected.table.items():
        np.testing.assert_array_equal(found.table[name], column, err_msg=name)
    np.testing.assert_array_equal(np.asarray(found.labels), np.asarray(expected.labels))
    assert found.overview is not None
    assert expected.overview is not None
    np.testing.assert_array_equal(found.overview.pores, expected.overview.pores)
    np.testing.assert_array_equal(found.overview.solid, expected.overview.solid)


@pytest.mark.parametrize(("n_workers", "connectivity"), [(1, 26), (2, 6), (4, 26)])
def test_the_numbers_do_not_depend_on_workers(client, scan, n_workers, connectivity):
    settings = {"connectivity": connectivity, "threshold": 76.0}
    volume = io.read(scan)
    alone, n_slabs = measured(volume, **settings)
    client.cluster.scale(n_workers)
    client.wait_for_workers(n_workers)
    shared, n_shared = measured(volume, client, **settings)
    client.cluster.scale(2)
    # A volume in memory is copied to a file with chunks of eight planes.
    assert n_slabs == -(-SHAPE[0] // 3)
    assert n_shared == -(-SHAPE[0] // 8)
    assert alone.pore_count > 50
    assert alone.table["voxels"].max() > 16 * SHAPE[0]
    assert_equal(shared, alone)


def test_masks_and_intervals_are_shared_as_well(client, rng, scan):
    data = np.asarray(io.read(scan).data).astype(np.float32)
    data[3, 4, 5:9] = np.nan
    volume = Volume(data, "ZYX", (2.0, 1.0, 1.5), "µm")
    inside = np.zeros(SHAPE, np.uint8)
    inside[5:40, 4:30, 3:33] = 1
    mask = Volume(inside, "ZYX", volume.voxel_size, "µm")
    noise = rng.uniform(1, 3, SHAPE).astype(np.float32)
    deviation = Volume(noise, "ZYX", volume.voxel_size, "µm")
    given = {"mask": mask, "deviation": deviation}
    settings = {"interval_factor": 1.5}
    alone, _ = measured(volume, companions=given, **settings)
    shared, _ = measured(volume, client, companions=given, **settings)
    assert alone.interval is not None
    assert alone.interval.porosity is not None
    assert shared.interval == alone.interval
    assert_equal(shared, alone)


def test_the_thickness_is_shared(client, scan, monkeypatch):
    """Thickness of both phases, and the distance between mid-axes."""
    monkeypatch.setattr(thickness, "BLOCK_VOXELS", 20**3)
    shares, steps = [], shared.shared_thickness_steps

    def noted(*given: Any, **more: Any) -> Any:
        shares.append(len(given[1]))
        return steps(*given, **more)

    monkeypatch.setattr(shared, "shared_thickness_steps", noted)
    volume = io.read(scan)
    settings = {"statistics": ("thickness", "trabecular"), "threshold": 76.0}
    alone, _ = measured(volume, **settings)
    assert not shares
    found, _ = measured(volume, client, **settings)
    assert len(shares) == 3
    assert min(shares) > 10
    assert found.figures["Tb.Th"] > 1
    assert_equal(found, alone)


def test_the_automatic_mask_is_shared(client, scan):
    volume = io.read(scan)
    alone, _ = measured(volume, sample_mask="auto")
    shared, _ = measured(volume, client, sample_mask="auto")
    assert_equal(shared, alone)


def test_a_small_budget_gives_thinner_slabs_and_the_same_numbers(
    client, scan, monkeypatch
):
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 40 * 36 * 38)
    volume = io.read(scan)
    alone, n = measured(volume, memory="91.2MB")
    shared, n_shared = measured(volume, client, memory="273.6MB")
    assert 2 <= n <= n_shared
    assert_equal(shared, alone)
    with pytest.raises(VolumeError, match="needs at least .* the budget is"):
        measured(volume, client, memory="92MB")


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_worker_costs_one_slab(client, scan):
    volume = io.read(scan)
    alone, _ = measured(volume)
    pids = list(client.run(os.getpid).values())

    def kill(n: int) -> None:
        if n == 2:
            os.kill(pids[0], signal.SIGKILL)

    shared, n_shared = measured(volume, client, on_slab=kill)
    assert pids[0] not in client.run(os.getpid).values()
    assert n_shared == -(-SHAPE[0] // 8)
    assert_equal(shared, alone)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_workers_that_are_killed_again_and_again(scan, monkeypatch):
    """One of the two is killed after a few slabs, twenty times."""
    volume = io.read(scan)
    doubled = np.concatenate([np.asarray(volume.data)] * 6)
    volume = volume.replace(data=doubled)
    alone, _ = measured(volume)
    monkeypatch.setattr(storage, "cached_zarr", thin_chunks(storage.cached_zarr))
    draw, killed, others = np.random.default_rng(4), set(), set(worker_pids())

    def kill(n: int) -> None:
        pids = sorted(set(worker_pids()) - others)
        if n % 4 == 1 and pids:
            killed.add(pid := int(draw.choice(pids)))
            os.kill(pid, signal.SIGKILL)

    shared, n_shared = measured(volume, 2, on_slab=kill)
    assert len(killed) >= 20
    assert n_shared == -(-doubled.shape[0] // 3)
    assert_equal(shared, alone)


def worker_pids() -> list[int]:
    """Processes of our workers, from the system, because dying ones do not respond."""
    children = psutil.Process().children(recursive=True)
    found = []
    for child in children:
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child.pid)
    return sorted(found)


def thin_chunks(make: Any) -> Any:
    """Copies for workers have one plane per chunk."""
    return lambda shape, dtype, fill=0, depth=8: make(shape, dtype, fill, 1)


def test_a_slab_without_a_value_is_left_out(client, scan):
    data = np.asarray(io.read(scan).data).astype(np.float32)
    data[8:16] = np.nan  # exactly one slab of the workers
    volume = Volume(data, "ZYX", (2.0, 1.0, 1.5), "µm")
    alone, _ = measured(volume)
    shared, _ = measured(volume, client)
    assert alone.nonfinite_voxels == data[8:16].size
    assert_equal(shared, alone)


@pytest.mark.parametrize("first", ["workers", "one process"])
def test_a_stopped_run_resumes_with_and_without_workers(
    client, scan, tmp_path, first, monkeypatch
):
    monkeypatch.setattr(journals, "_MIN_VOXELS", 1)
    monkeypatch.setattr(journals, "is_abandoned", lambda _: True)
    who = {"workers": client, "one process": None}
    volume, out = io.read(scan), tmp_path / "report"
    # There are so many slabs that workers cannot have finished them when stopped.
    volume = volume.replace(data=np.concatenate([np.asarray(volume.data)] * 6))
    with pytest.raises(Cancelled, match="while labelling the pores"):
        measured(volume, who.pop(first), folder=out, on_slab=lambda n: n == 2)
    resumed, n = measured(volume, who.popitem()[1], folder=out)
    whole, n_slabs = measured(volume)
    assert 1 <= n < n_slabs
    assert_equal(resumed, whole)


def test_a_dask_array_is_measured_by_workers(client, scan):
    data = da.from_array(np.asarray(io.read(scan).data), chunks=(8, 20, 20))
    found = measure_porosity(data, workers=client)
    expected = measure_porosity(np.asarray(data))
    assert found.porosity == expected.porosity
    np.testing.assert_array_equal(found.table["voxels"], expected.table["voxels"])


def test_the_command_starts_and_ends_its_workers(scan, tmp_path):
    words = ["measure", str(scan), "--labels", "--quiet"]
    assert command([*words, "-o", str(tmp_path / "alone")]) == 0
    shared = ["--workers", "2", "-o", str(tmp_path / "shared")]
    assert command([*words, *shared]) == 0
    one, other = tmp_path / "alone", tmp_path / "shared"
    assert (one / "pores.csv").read_bytes() == (other / "pores.csv").read_bytes()
    np.testing.assert_array_equal(
        io.read(one / "pores.ome.tif").data, io.read(other / "pores.ome.tif").data
    )


def test_invalid_workers_are_refused_before_anything_is_read(scan, tmp_path, capsys):
    with pytest.raises(ConfigError, match="workers is 0"):
        measure_porosity(io.read(scan), workers=0)
    words = ["measure", str(scan), "--workers", "0", "-o", str(tmp_path / "report")]
    assert command(words) == 2
    assert "workers is 0" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
