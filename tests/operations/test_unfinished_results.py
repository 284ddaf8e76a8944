"""A result in the cache folder survives a killed program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import hidden
from napari_geosr.operations import restore as operation
from napari_geosr.operations import storage

SHAPE = (96, 48, 48)

KILLED = """
import sys, time
from pathlib import Path
import numpy as np, platformdirs
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import journal
from napari_geosr.operations import restore as operation, storage
platformdirs.user_cache_path = lambda *_, **__: Path(sys.argv[1])
storage.free_host_memory = lambda: 1000
journal._MIN_INTERVAL = journal._MAX_INTERVAL = journal._INTERVAL_FACTOR = 0.0
volume = Volume(np.load(sys.argv[2]), "ZYX", (1, 1, 1), "µm")
config = operation.RestoreConfig(model="ct-denoise", threads=1)
prepared = run_to_end(operation.prepare_steps(volume, config))
n = 0
for step in operation.run_steps(prepared):
    if isinstance(step, TileDone):
        n += 1
        print(n, step.total, flush=True)
        if n == 2:
            time.sleep(60)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path)
    monkeypatch.setattr(storage, "free_host_memory", lambda: 1000)
    return tmp_path


@pytest.fixture
def scan(tmp_path) -> Volume:
    rng = np.random.default_rng(0)
    data = rng.normal(100, 10, SHAPE).astype(np.float32)
    np.save(tmp_path / "scan.npy", data)
    return Volume(data, "ZYX", (1, 1, 1), "µm")


def killed(cache: Path) -> int:
    """Kill a restoration after its second tile; return the total number of tiles."""
    command = [sys.executable, "-c", KILLED, str(cache), str(cache / "scan.npy")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    total = 0
    for line in child.stdout:
        done, total = map(int, line.split())
        if done == 2:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    return total


def prepared(scan: Volume, **settings):
    config = operation.RestoreConfig(**{"model": "ct-denoise", "threads": 1} | settings)
    return run_to_end(operation.prepare_steps(scan, config))


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_result_of_a_killed_program_is_gone_on_with(cache, scan):
    total = killed(cache)
    assert total > 2
    ready = prepared(scan)
    left = operation.find_finished_part(ready)
    assert left is not None
    assert len(left.places) in (1, 2)
    assert operation.find_finished_part(prepared(scan, strength=0.5)) is None
    other = scan.replace(data=scan.data + 1)
    assert operation.find_finished_part(prepared(other)) is None

    n_tiles = 0

    def count(step) -> None:
        nonlocal n_tiles
        n_tiles += isinstance(step, TileDone)

    result = run_to_end(operation.run_steps(ready, unfinished=left.volume), count)
    assert result.complete
    assert n_tiles == total - len(left.places)
    whole = run_to_end(operation.run_steps(prepared(scan)))
    np.testing.assert_array_equal(np.asarray(result.volume.data), whole.volume.data)
    folder = next(iter((cache / "results").iterdir())).parent
    assert operation.find_finished_part(ready) is None  # it now belongs to this program
    del result, whole, left, count
    assert [p for p in folder.iterdir() if p.suffix == ".zarr"] == []
    assert list(folder.iterdir()) == []


def test_what_nobody_can_go_on_with_is_cleared(cache):
    folder = cache / "results"
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    array = storage.cached_zarr((4, 4, 4), np.dtype(np.float32))
    (own,) = folder.iterdir()
    name = own.name.replace(f"{os.getpid():08x}", f"{int(dead.stdout):08x}")
    (folder / name).mkdir()
    (folder / "tmpabc.zarr").mkdir()  # as earlier releases named them
    os.utime(folder / "tmpabc.zarr", (0, 0))
    again = storage.cached_zarr((4, 4, 4), np.dtype(np.float32))
    assert own.exists()
    assert not (folder / name).exists()
    assert not (folder / "tmpabc.zarr").exists()
    del array, again
    assert list(folder.iterdir()) == []


def test_results_in_use_are_kept_however_old(cache, monkeypatch):
    folder = cache / "results"
    first = storage.cached_zarr((4, 4, 4), np.dtype(np.float32))
    (alive,) = folder.iterdir()
    storage._owned.clear()  # as seen from another process on this computer
    with monkeypatch.context() as there:
        there.setattr(hidden, "_computer", lambda: "0000")
        result = folder / "result.zarr"
        changing, old = (hidden.temporary_sibling(result, ".zarr") for _ in "ab")
    for path in (changing, old):
        path.mkdir()
        (path / "c").touch()
    for path in (alive, alive / "zarr.json", changing, old, old / "c"):
        os.utime(path, times=(then := time.time() - 8 * 86400, then))
    monkeypatch.setattr(hidden.processes, "has_run_since", lambda *_: True)
    second = storage.cached_zarr((4, 4, 4), np.dtype(np.float32))
    assert alive.exists()
    assert changing.exists()  # a file in it is new
    assert not old.exists()
    del first, second
