"""Jobs run by the queues themselves: workers, cancelled and killed jobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from queue_helpers import PATIENCE, Cluster, resubmit, submit, wait_for
from safetensors.numpy import load_file

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.jobs.folder import JobFolder

CLUSTERS = ["oar", pytest.param("slurm", marks=pytest.mark.slow)]
in_both = pytest.mark.parametrize("cluster", CLUSTERS, indirect=True)
#: Training that no test waits for.
LONG = ["--steps", "200000", "--patch", "24", "--layers", "3", "--width", "2"]
#: Commands that cancel a job without napari-geosr.
CANCEL = {"slurm": "scancel", "oar": "oardel"}


@pytest.fixture
def porous(tmp_path: Path) -> Path:
    """A volume of several slabs."""
    from scipy import ndimage

    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.standard_normal((96, 64, 64)), 1.5)
    data = (smooth / smooth.std() * 20 + 100).astype(np.float32)
    tifffile.imwrite(tmp_path / "porous.tif", data, imagej=True)
    return tmp_path / "porous.tif"


def running_training(cluster: Cluster, scan: Path, capsys: Any) -> JobFolder:
    """A job in the middle of its work."""
    words = ["train", "neighbor2neighbor", "--source", str(scan), *LONG]
    words += ["--threads", "1", "-o", str(scan.parent / "job")]
    job = JobFolder(submit(capsys, *words, "--queue", cluster.name)["job"])
    wait_for(job, lambda: job.status().done > 2)
    return job


def listed_state(job: JobFolder, capsys: Any) -> str:
    """The state of a job, as ``jobs list`` shows it."""
    capsys.readouterr()
    assert run(["jobs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["jobs"]
    found: str = next(j["state"] for j in listed if Path(j["path"]) == job.path)
    return found


@in_both
def test_a_measurement_on_workers_gives_the_same(
    cluster: Cluster, porous: Path, capsys: Any
) -> None:
    pytest.importorskip("distributed")
    words = ["measure", str(porous), "--threshold", "80", "--memory", "300MB"]
    out = porous.parent / "report"
    where = ["--workers", "2", "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, "-o", str(out), *where)["job"])
    assert run([*words, "-o", str(porous.parent / "here"), "--labels"]) == 0
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    one, other = (porous.parent / name for name in ("report", "here"))
    assert (one / "pores.csv").read_bytes() == (other / "pores.csv").read_bytes()
    np.testing.assert_array_equal(
        io.read(one / "pores.ome.tif").data, io.read(other / "pores.ome.tif").data
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["foam 20%air", r"%j%a%x \b 'c'"])
def test_slurm_runs_jobs_in_folders_with_any_name(
    slurm: Cluster, porous: Path, capsys: Any, name: str
) -> None:
    """SLURM replaces some characters in the path of a log."""
    folder = porous.parent / name
    folder.mkdir()
    words = ["measure", str(porous), "--threshold", "80", "-o", str(folder / "report")]
    job = JobFolder(submit(capsys, *words, "--queue", slurm.name)["job"])
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert job.path.parent == folder


@in_both
def test_a_reconstruction_on_workers_gives_the_same(
    cluster: Cluster, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("distributed")
    rng = np.random.default_rng(0)
    counts = rng.poisson(500, (40, 24, 32)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "scan.tif", counts)
    words = ["reconstruct", str(tmp_path / "scan.tif"), "--angle-range", "0,180"]
    words += ["--incident", "1000", "--centre", "15.5"]
    out, here = (tmp_path / f"{name}.ome.zarr" for name in ("volume", "here"))
    where = ["--workers", "2", "--threads", "2", "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, "-o", str(out), *where)["job"])
    assert run([*words, "-o", str(here)]) == 0
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    np.testing.assert_array_equal(io.read(out).data, io.read(here).data)
    assert io.read(out).provenance[-1]["workers"] == {"processes": 2, "threads": 1}


@in_both
def test_a_submitted_training_ends_with_the_model_of_an_uninterrupted_one(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    """The job is warned of its walltime in the middle, and resubmitted."""
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--steps", "1200"]
    words += ["--patch", "24", "--layers", "3", "--width", "2", "--threads", "1"]
    words += ["--batch-size", "2", "--name", "m"]
    out, here = scan.parent / "job", scan.parent / "here"
    job = JobFolder(
        submit(capsys, *words, "-o", str(out), "--queue", cluster.name)["job"]
    )
    wait_for(job, lambda: job.status().state == "running" and job.status().done > 2)
    resubmit(cluster, job, 1)
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert job.status().result == out / "result" / "m"
    assert run([*words, "-o", str(here)]) == 0
    one, other = (
        load_file(folder / "result" / "m" / "weights.safetensors")
        for folder in (out, here)
    )
    np.testing.assert_equal(one, other)


def unfinished(cluster: Cluster) -> list[str]:
    """Numbers of the jobs that the queue itself lists as waiting or running."""
    if cluster.name == "slurm":
        words = ["squeue", "--noheader", "--states=PD,R,CG", "--format=%i"]
        return subprocess.check_output(words, text=True).split()
    said = subprocess.check_output(["oarstat", "-u", "-J"], text=True)
    return list(json.loads(said or "{}"))


@in_both
def test_a_running_job_cancelled_in_the_queue_is_listed_within_five_seconds(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    job = running_training(cluster, scan, capsys)
    number = job.status().queue.number
    subprocess.run([CANCEL[cluster.name], number], check=True, capture_output=True)
    began, n_later = time.monotonic(), 0
    while listed_state(job, capsys) in ("running", "finishing", "queued"):
        # A busy computer takes longer; the state in the queue is then listed at once.
        if time.monotonic() - began >= 5:
            n_later += number not in unfinished(cluster)
            assert n_later < 3
        assert time.monotonic() - began < PATIENCE
        time.sleep(1)
    assert job.status().can_resume


@in_both
def test_a_killed_job_is_noticed_and_resumed(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    """The process of the job disappears, as on a node that runs out of memory."""
    job = running_training(cluster, scan, capsys)
    os.kill(job.status().pid, signal.SIGKILL)
    wait_for(job, lambda: job.status().queue.has_ended)
    assert listed_state(job, capsys) == "interrupted"
    done = job.status().done
    assert run(["jobs", "resume", str(job.path)]) == 0
    wait_for(job, lambda: job.status().state == "running" and job.status().done >= done)
    assert run(["jobs", "stop", str(job.path)]) == 0


@in_both
def test_a_killed_worker_of_a_job_costs_a_shard(
    cluster: Cluster, porous: Path, capsys: Any
) -> None:
    pytest.importorskip("distributed")
    out, here = (porous.with_name(f"{name}.ome.zarr") for name in ("clean", "here"))
    words = ["restore", str(porous), "-m", "foam-denoise", "--threads", "2"]
    words += ["--memory", "500MB"]
    where = ["--workers", "2", "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, "-o", str(out), *where)["job"])
    wait_for(job, lambda: workers_of(job))
    wait_for(job, lambda: job.status().done > 0)
    if killed := workers_of(job):
        killed[0].kill()
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert killed
    assert run([*words, "-o", str(here)]) == 0
    one, other = np.asarray(io.read(out).data), np.asarray(io.read(here).data)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * other.std())


def workers_of(job: JobFolder) -> list[psutil.Process]:
    """Worker processes started by a job."""
    if not (pid := job.status().pid):
        return []
    found = []
    with suppress(psutil.Error):  # processes that end while they are inspected
        for child in psutil.Process(pid).children(recursive=True):
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found
