"""Workers that dask-jobqueue starts in a real SLURM and in an emulated OAR."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from queue_helpers import PATIENCE, Cluster

from napari_geosr import measure_porosity, read, restore
from napari_geosr.core.steps import Step, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.cluster.tasks import WorkerPool
from napari_geosr.operations.restore import RestoreConfig, restore_steps

distributed = pytest.importorskip("distributed")
jobqueue = pytest.importorskip(
    "dask_jobqueue", reason="dask-jobqueue is not installed (extra cluster)"
)

in_both = pytest.mark.parametrize(
    "cluster", ["oar", pytest.param("slurm", marks=pytest.mark.slow)], indirect=True
)
#: Resources requested for a job of two workers.
RESOURCES: dict[str, Any] = {
    "cores": 2,
    "processes": 2,
    "memory": "1.5GiB",
    "walltime": "0:10:00",
    "name": "geosr-workers",
    "death_timeout": 120,
}
SETTINGS: dict[str, Any] = {"memory": "400MB", "threads": 2}


@pytest.fixture
def porous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume of several shards, in the folder to which the workers write."""
    from scipy import ndimage

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.standard_normal((64, 56, 48)), 1.5)
    data = np.where(smooth > 0, 130, 70) + rng.normal(0, 8, smooth.shape)
    data = data.astype(np.float32)
    tifffile.imwrite(tmp_path / "porous.tif", data, imagej=True)
    return tmp_path / "porous.tif"


@contextmanager
def started(cluster: Cluster, folder: Path) -> Iterator[Any]:
    """A cluster of dask-jobqueue, as shown in docs/dask.md."""
    kinds: dict[str, Callable[..., Any]] = {
        "slurm": jobqueue.SLURMCluster,
        "oar": jobqueue.OARCluster,
    }
    more: dict[str, Any] = {
        # A node of the tests has 2000 MB, and 1.5 GiB would be rounded up to 2 GiB.
        "slurm": {"job_mem": "1500M"},
        "oar": {"project": "pr-aiax", "memory_per_core_property_name": "memcore"},
    }
    with kinds[cluster.name](
        **RESOURCES,
        **more[cluster.name],
        python=sys.executable,
        interface="lo",
        security=True,
        shared_temp_directory=str(folder),
        log_directory=str(folder),
        local_directory=str(folder),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        silence_logs=60,
    ) as made:
        yield made
    # dask-jobqueue does not close the files of its keys.
    for name, value in vars(made).items():
        if name.startswith("_job_") and hasattr(value, "close"):
            value.close()


def wait_until(is_reached: Callable[[], object], folder: Path) -> None:
    """Wait; if it takes too long, show the output of the jobs."""
    end = time.monotonic() + PATIENCE
    while not is_reached():
        if time.monotonic() > end:
            logs = [*folder.glob("*.err"), *folder.glob("OAR.*")]
            pytest.fail("\n".join(path.read_text()[-3000:] for path in logs))
        time.sleep(0.2)


def jobs_of(cluster: Cluster) -> list[str]:
    """Numbers of the jobs in the queue."""
    if cluster.name == "slurm":
        words = ["squeue", "--noheader", "--format=%i"]
        return subprocess.check_output(words, text=True).split()
    found = subprocess.check_output(["oarstat", "-u", "-J"], text=True)
    return list(json.loads(found)) if found.strip() else []


def restored_while_one_is_cancelled(
    scan: Path, client: Any, cluster: Cluster, job: str
) -> Volume:
    """A restoration in which the first job is cancelled when a shard is done."""
    cancel = {"slurm": "scancel", "oar": "oardel"}[cluster.name]
    done: list[TileDone] = []

    def note(step: Step) -> None:
        if isinstance(step, TileDone):
            if not done:
                subprocess.run([cancel, job], check=True, capture_output=True)
            done.append(step)

    config = RestoreConfig.create(model="ct-denoise", uncertainty="tta", **SETTINGS)
    result = run_to_end(restore_steps(read(scan), config, workers=client), note)
    assert len(done) > 2
    return result.volume


@in_both
def test_jobs_of_dask_jobqueue_restore_and_measure_the_same(
    cluster: Cluster, porous: Path, tmp_path: Path
) -> None:
    scan = read(porous)
    with started(cluster, tmp_path) as made, distributed.Client(made) as client:
        made.scale(jobs=1)
        wait_until(lambda: len(client.nthreads()) == 2, tmp_path)
        (first,) = jobs_of(cluster)
        assert os.getpid() not in client.run(os.getpid).values()
        assert numbers_of_workers(client) == {0, 1}
        shared = restore(scan, "ct-denoise", workers=client, **SETTINGS)
        assert shared.provenance[-1]["workers"]["processes"] == 2
        report = measure_porosity(shared, threshold=100, workers=client)
        # The emulated OAR starts the second job when the first has ended.
        made.scale(jobs=2)
        wait_until(lambda: len(jobs_of(cluster)) == 2, tmp_path)
        after = restored_while_one_is_cancelled(porous, client, cluster, first)
        assert first not in jobs_of(cluster)
    wait_until(lambda: not jobs_of(cluster), tmp_path)
    alone = restore(scan, "ct-denoise", **SETTINGS)
    check_equal(shared, alone)
    check_equal(after, restore(scan, "ct-denoise", uncertainty="tta", **SETTINGS))
    expected = measure_porosity(shared, threshold=100)
    assert report.porosity == expected.porosity
    assert report.pore_count == expected.pore_count > 2
    for name, column in expected.table.items():
        np.testing.assert_array_equal(report.table[name], column)


def numbers_of_workers(client: Any) -> set[int]:
    """Numbers by which workers choose their GPUs; this module is not importable."""

    def number(_item: int, _should_stop: Any, worker: int) -> int:
        time.sleep(0.2)
        return worker

    found = WorkerPool(client).results(number, range(12), lambda: False)
    return {each for _, each in found}


def check_equal(found: Volume, expected: Volume) -> None:
    one, other = np.asarray(found), np.asarray(expected)
    assert np.abs(one - other).max() <= 1e-5 * other.std()


def test_memory_of_oar_jobs_needs_the_name_of_a_property(tmp_path: Path) -> None:
    """Without it, dask-jobqueue requests no memory, as stated in the guide."""
    more = {"scheduler_options": {"dashboard_address": "127.0.0.1:0"}}
    common = {**RESOURCES, **more, "project": "pr-aiax", "interface": "lo"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with jobqueue.OARCluster(**common) as made:
            assert "memcore" not in made.job_script()
        with jobqueue.OARCluster(
            **common, memory_per_core_property_name="memcore"
        ) as made:
            assert "#OAR -p memcore>=768" in made.job_script()
            assert "walltime=0:10:00" in made.job_script()
