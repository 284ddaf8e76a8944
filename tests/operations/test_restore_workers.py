"""Several processes restore a volume: the same voxels, even after kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr import io, restore
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, FileError, WorkerError
from napari_geosr.core.steps import Step, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import compute
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.operations import cluster as pool
from napari_geosr.operations.cluster import tasks
from napari_geosr.operations.cluster.processor_time import WORKER_TIME
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.operations.restore.run import RestorationResult
from napari_geosr.operations.restore.shards.work import device_of

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")

#: Odd sizes, so that no tile or shard fits an integer number of times.
SHAPE = (57, 43, 35)


@contextmanager
def workers_on_this_computer(n: int) -> Iterator[Client]:
    with (
        dask.config.set(pool.worker_settings(1)),
        distributed.LocalCluster(
            n_workers=n,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes for all tests, as their start takes seconds."""
    with workers_on_this_computer(2) as client:
        yield client


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    data = rng.normal(120, 20, SHAPE).clip(1, 255)
    data[10:20, 12:30, 20:40] /= 3
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, data.astype(np.uint8), imagej=True)
    return path


def run(
    scan: Path | Volume,
    workers: Any = None,
    model: str = "ct-denoise",
    stop_after: int | None = None,
    on_tile: Any = lambda n: None,
    unfinished: Volume | None = None,
    out: Path | None = None,
    memory: str = "260MB",
    **settings: Any,
) -> tuple[RestorationResult, list[TileDone]]:
    volume = scan if isinstance(scan, Volume) else io.read(scan)
    config = RestoreConfig.create(model=model, memory=memory, threads=1, **settings)
    tiles: list[TileDone] = []

    def note(step: Step) -> None:
        if isinstance(step, TileDone):
            tiles.append(step)
            on_tile(len(tiles))

    steps = restore_steps(
        volume,
        config,
        workers=workers,
        out=out,
        unfinished=unfinished,
        should_stop=lambda: stop_after is not None and len(tiles) >= stop_after,
    )
    return run_to_end(steps, note), tiles


def voxels(result: RestorationResult) -> Any:
    return np.asarray(result.volume)


def shards(path: Path) -> dict[str, bytes]:
    files = (p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
    return {f"{p.relative_to(path)}": p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("suffix", "settings"),
    [
        (".ome.zarr", {}),
        (".ome.tif", {"output_dtype": "input"}),
        (".ome.zarr", {"model": "cubic-x2", "output_dtype": "input"}),
        pytest.param(".ome.zarr", {"model": "foam-denoise"}, marks=pytest.mark.slow),
        ("", {"model": "cubic-x2"}),
        pytest.param(
            ".ome.zarr",
            {"model": "foam-sr-x2", "memory": "600MB"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["zarr", "tiff", "finer", "planes", "memory", "network"],
)
def test_workers_restore_the_same_voxels(client, scan, tmp_path, suffix, settings):
    out = {"out": tmp_path / f"out{suffix}"} if suffix else {}
    alone, _ = run(scan, **settings)
    shared, tiles = run(scan, client, **settings, **out)
    found, expected = voxels(shared), voxels(alone)
    assert len(tiles) >= 2
    assert tiles[-1].done == tiles[-1].total == len(tiles)
    tolerance = 1 if expected.dtype.kind == "u" else 1e-5 * expected.std()
    difference = np.abs(found.astype(float) - expected)
    assert difference.max() <= tolerance
    if expected.shape == SHAPE:
        # The model changes the scan, so a wrong halo would be noticed.
        assert np.abs(expected - np.asarray(io.read(scan).data, float)).mean() > 5
    assert (difference > 0).mean() < 1e-3 or expected.dtype.kind == "f"
    record = shared.volume.provenance[-1]
    assert record["workers"]["processes"] == 2
    assert record["complete"] is True
    if suffix == ".ome.zarr":
        # Every shard has its file, as stated in the stamp.
        assert "warnings" not in io.read(out["out"]).metadata
        array = voxels(shared)
        assert array.shape == alone.volume.shape


@pytest.mark.parametrize("n", [1, 4])
def test_the_number_of_workers_changes_no_voxel(scan, n):
    """Two are tested with all kinds of results."""
    alone, _ = run(scan)
    with workers_on_this_computer(n) as client:
        shared, _ = run(scan, client)
    expected = voxels(alone)
    assert np.abs(voxels(shared) - expected).max() <= 1e-5 * expected.std()


def test_nan_and_clipped_voxels_are_counted_as_in_one_process(client, rng):
    data = rng.normal(100, 30, SHAPE).astype(np.float32)
    data[5, 10:14, 20] = np.nan
    volume = Volume(data, "ZYX", name="block")
    alone, _ = run(volume)
    shared, _ = run(volume, client)
    assert np.isnan(voxels(shared)).sum() == 4
    np.testing.assert_allclose(voxels(shared), voxels(alone), atol=1e-3)
    assert shared.summary is not None
    assert alone.summary is not None
    assert shared.summary.n_nonfinite == alone.summary.n_nonfinite == 4


def test_standard_deviations_are_shared_as_well(client, scan, tmp_path):
    settings = {"uncertainty": "tta", "uncertainty_members": 2, "memory": "400MB"}
    alone, _ = run(scan, **settings)
    shared, _ = run(scan, client, out=tmp_path / "out.ome.zarr", **settings)
    assert shared.deviation is not None
    assert alone.deviation is not None
    limit = 1e-5 * voxels(alone).std()
    np.testing.assert_allclose(voxels(shared), voxels(alone), rtol=0, atol=limit)
    np.testing.assert_allclose(
        np.asarray(shared.deviation), np.asarray(alone.deviation), rtol=0, atol=limit
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_runs_of_two_workers_give_the_same_bytes(scan, tmp_path, capsys):
    """With new processes each time, as started by the command."""
    found = []
    for i in range(20):
        out = tmp_path / f"{i}.ome.zarr"
        words = ["restore", str(scan), "-m", "foam-denoise", "-o", str(out)]
        words += ["--workers", "2", "--threads", "2", "--memory", "600MB"]
        assert command(words) == 0, capsys.readouterr().err
        found.append(shards(out))
        shutil.rmtree(out)
    print(f"{found.count(found[0])} of 20 runs: {len(found[0])} equal files")
    assert found == [found[0]] * 20
    assert found[0]


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
@pytest.mark.parametrize(
    "suffix", [".ome.zarr", pytest.param(".ome.tif", marks=pytest.mark.slow)]
)
def test_a_killed_worker_costs_one_shard(client, scan, tmp_path, suffix):
    undisturbed, _ = run(scan, client, out=tmp_path / f"whole{suffix}")
    pids = list(client.run(os.getpid).values())

    def kill(n: int) -> None:
        if n == 1:
            os.kill(pids[0], signal.SIGKILL)

    disturbed, _ = run(scan, client, out=tmp_path / f"out{suffix}", on_tile=kill)
    assert pids[0] not in client.run(os.getpid).values()
    if suffix == ".ome.zarr":
        assert shards(tmp_path / "out.ome.zarr") == shards(tmp_path / "whole.ome.zarr")
    assert voxels(disturbed).tobytes() == voxels(undisturbed).tobytes()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("workers", "workers", marks=pytest.mark.slow),
        ("workers", "one process"),
        ("one process", "workers"),
        # As in test_restore_resume.py.
        pytest.param("one process", "one process", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes_with_and_without_workers(
    client, scan, tmp_path, first, second
):
    who = {"workers": client, "one process": None}
    out = tmp_path / "out.ome.zarr"
    stopped, before = run(scan, who[first], out=out, stop_after=1)
    assert not stopped.complete
    unfinished = find_unfinished(out)
    finished = unfinished.provenance[-1]["finished"]
    assert len(finished) >= len(before)
    resumed, after = run(scan, who[second], out=out, unfinished=unfinished)
    assert resumed.complete
    whole, all_tiles = run(scan, who[second])
    np.testing.assert_allclose(
        voxels(resumed), voxels(whole), rtol=0, atol=1e-5 * voxels(whole).std()
    )
    if first == second:
        assert len(after) < len(all_tiles)


@pytest.mark.slow
def test_what_is_finished_is_kept_if_the_scan_disappears(client, tmp_path, rng):
    """A zarr, which is read from disk even if it is small."""
    data = rng.normal(120, 20, (64, 64, 64)).astype(np.float32)
    zarr.create_array(tmp_path / "scan.zarr", data=data, chunks=(4, 64, 64))
    volume = io.read(tmp_path / "scan.zarr")

    def remove(n: int) -> None:
        if n == 2:
            (tmp_path / "scan.zarr").rename(tmp_path / "gone.zarr")

    out = tmp_path / "out.ome.zarr"
    with pytest.raises(FileError, match=r"can no longer be read.* kept as out\.inc"):
        run(volume, client, out=out, on_tile=remove, memory="160MB")
    (tmp_path / "gone.zarr").rename(tmp_path / "scan.zarr")
    unfinished = find_unfinished(out)
    resumed, _ = run(volume, client, out=out, unfinished=unfinished, memory="160MB")
    assert resumed.complete
    assert not np.isnan(voxels(resumed)).any()


def test_all_workers_gone_is_one_sentence(scan, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_PATIENCE_SECONDS", 0.0)
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        with pytest.raises(WorkerError, match="worker processes have ended") as caught:
            run(
                scan,
                client,
                out=tmp_path / "out.ome.zarr",
                on_tile=lambda n: cluster.scale(0) if n == 1 else None,
            )
        assert "The finished part is kept" in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_worker_that_dask_gives_up_is_replaced(monkeypatch):
    """It gives up if the next one has not started in time."""
    monkeypatch.setattr(pool, "_RESTART_SECONDS", 0.001)
    with pool.open_pool(1, threads=1, memory=None) as opened:
        (before,) = opened.client.run(os.getpid).values()
        killed = False
        for _, found in opened.results(pid_of_worker, range(4), lambda: False):
            if not killed:
                assert found == before
                os.kill(before, signal.SIGKILL)
                killed = True
        assert found != before


def pid_of_worker(item, should_stop, worker):
    return os.getpid()


@pytest.mark.parametrize("is_own", [False, True])
def test_workers_of_a_client_report_their_processor_time(client, is_own):
    """That of own workers is known, because they are children of this process."""
    before = WORKER_TIME.seconds
    opened = pool.WorkerPool(client, client.cluster if is_own else None, 2)
    assert len(list(opened.results(busy_for_a_moment, range(2), lambda: False))) == 2
    reported = WORKER_TIME.seconds - before
    assert reported == 0 if is_own else reported >= 0.4


def busy_for_a_moment(item, should_stop, worker):
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass


@pytest.mark.slow
def test_local_workers_from_the_command_line(scan, tmp_path, capsys):
    """The command starts and ends two processes."""
    out = tmp_path / "out.ome.zarr"
    words = ["restore", str(scan), "-m", "gaussian", "-o", str(out), "--workers", "2"]
    assert command([*words, "--memory", "300MB", "--threads", "2"]) == 0
    assert "Restoring with gaussian on 2 workers" in capsys.readouterr().err
    alone, _ = run(scan, model="gaussian")
    found, expected = np.asarray(io.read(out).data), voxels(alone)
    limit = 1e-5 * expected.std()
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("n_workers", [None, 2])
def test_a_dry_run_prints_the_plan_and_writes_nothing(
    scan, tmp_path, capsys, n_workers
):
    out = tmp_path / "out.ome.zarr"
    words = ["restore", str(scan), "-m", "cubic-x2", "-o", str(out), "--dry-run"]
    words += ["--memory", "300MB", "--threads", "2", "--output-dtype", "input"]
    words += [] if n_workers is None else ["--workers", str(n_workers)]
    assert command([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["workers"] == (n_workers or 1)
    assert plan["threads"] == (1 if n_workers else min(2, compute.usable_cores()))
    assert plan["bytes_written"] == 8 * np.prod(SHAPE)
    assert plan["bytes_read"] >= np.prod(SHAPE)
    assert plan["parts"] * np.prod(plan["part_shape"]) >= 8 * np.prod(SHAPE)
    assert 0 < plan["memory"] <= 300e6 / plan["workers"]
    assert plan["seconds"] > plan["storage_seconds"] > 0
    assert command(words) == 0
    said = capsys.readouterr().out
    noun = "shard" if n_workers else "tile"
    assert re.search(rf"\b{plan['parts']} {noun}s? of ", said)
    assert "writes 686 kB before compression" in said
    assert not out.exists()


@pytest.mark.parametrize("workers", [0, -1, True, "two", 1.5])
def test_a_senseless_number_of_workers_is_refused(scan, workers):
    with pytest.raises(ConfigError, match="workers"):
        run(scan, workers)


def test_without_the_extra_workers_are_refused(scan, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    out = tmp_path / "out.ome.zarr"
    assert command(["restore", str(scan), "-o", str(out), "--workers", "2"]) == 2
    said = capsys.readouterr().err
    assert 'pip install "napari-geosr[cluster]"' in said
    assert "Traceback" not in said
    assert not out.exists()


def test_series_and_averages_are_refused(client, scan, rng, capsys):
    series = rng.normal(0, 1, (2, 16, 16)).astype(np.float32)
    with pytest.raises(ConfigError, match="series"):
        restore(series, axes="TYX", workers=client)
    with pytest.raises(ConfigError, match="cannot average several"):
        restore([series[0], series[1]], workers=client)
    words = ["restore", str(scan), str(scan), "--average", "--workers", "2"]
    assert command([*words, "-o", "out.tif"]) == 2
    assert "--average and --workers cannot be combined" in capsys.readouterr().err


def test_workers_divide_the_gpus_of_a_computer(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of("cuda", n) for n in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of("cuda:1", 0) == "cuda:1"
    assert device_of("cpu", 1) == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_of("cuda", 1) == "cuda"


@pytest.mark.slow
def test_settings_of_dask_are_as_before_after_a_run():
    """In a separate process in which distributed has not been imported."""
    code = """
import dask
from napari_geosr.operations import cluster

def fail(*_):
    raise OSError

cluster._local_cluster = fail
try:
    with cluster.open_pool(1, threads=3, memory=None):
        pass
except OSError:
    print(dask.config.get("distributed.comm.tls.ciphers", "lost"))
    print(dask.config.get("distributed.worker.memory.pause"))
    print(dask.config.get("distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS"))
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["None", "0.8", "1"]


@contextmanager
def starting_workers_killed(n: int) -> Iterator[list[int]]:
    """Kill the first `n` workers of this process as soon as they appear."""
    psutil = pytest.importorskip("psutil")
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        while len(killed) < n and not is_over.wait(0.02):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    is_worker = "spawn_main" in " ".join(child.cmdline())
                    if is_worker and child.pid not in killed and len(killed) < n:
                        child.kill()
                        killed.append(child.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def test_a_worker_killed_while_it_starts_is_replaced():
    with (
        starting_workers_killed(1) as killed,
        pool.open_pool(2, threads=1, memory=None) as opened,
    ):
        assert len(killed) == 1
        assert len(opened.client.nthreads()) == 2


def test_workers_that_never_start_end_the_run(monkeypatch):
    """A command is not a script, so nothing is said about `__main__`.

    Killed workers could also be restarted by Dask itself, if they are killed late.
    """
    attempts = []

    def fail(**settings):
        attempts.append(settings["n_workers"])
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    with (
        pytest.raises(WorkerError, match=r"could not be started .* memory") as caught,
        pool.open_pool(1, threads=1, memory=None),
    ):
        pass
    assert attempts == [1, 1, 1]
    assert "__main__" not in str(caught.value)


UNGUARDED = """
from napari_geosr.operations.cluster import open_pool
with open_pool(1, threads=1, memory=None):
    pass
"""


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False
    )
    said = done.stderr.strip().splitlines()[-1]
    assert 'put the call below the line if __name__ == "__main__":' in said


KILLED = """
import os
from napari_geosr.operations.cluster import open_pool
if __name__ == "__main__":
    before = dict(os.environ)
    with open_pool(1, threads=1, memory=None):
        assert os.environ.get("PYTHONWARNINGS") == before.get("PYTHONWARNINGS")
        os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no resource tracker")
def test_a_killed_run_does_not_warn_of_leaked_semaphores(tmp_path: Path) -> None:
    """They are removed; the warning would look like the reason for the end."""
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    # Waits for all processes that can write: workers, and the one that warns.
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9
    assert "semaphore" not in done.stderr
    assert "AssertionError" not in done.stderr


def test_large_arrays_are_reused_by_the_allocator_of_a_worker() -> None:
    """As in this process; with Dask's own setting, every array is a new mapping."""
    with pool.open_pool(1, threads=1, memory=None) as opened:
        faults = run_on_worker(opened.client)
    assert faults < 2000


def run_on_worker(client: Client) -> int:
    """Page faults of 100 arrays of 4 MB: 100,000 if each is a new mapping."""

    def faults() -> int:
        import resource

        import numpy as np

        def count() -> int:
            for _ in range(100):
                np.ones(1 << 19)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

        return -count() + count()

    return client.submit(faults).result()
