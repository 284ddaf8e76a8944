"""At the end of the walltime, only the current tile is lost; the job resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from queue_helpers import Cluster, hasten, resubmit, submit, wait_for

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import describe_state

#: A volume restored in many tiles, one after the other.
WORDS = ["--memory", "120MB", "--threads", "1"]
#: Maximum time of a run that takes 20 seconds on an idle computer, in seconds.
LONG = 1200.0


def write_scan(path: Path, slices: int) -> Path:
    """Write a volume; 640 slices take about 20 seconds to restore."""
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (slices, 256, 256)).astype(np.float32)
    data[:, 60:90, 60:90] -= 0.5
    tifffile.imwrite(path, data, imagej=True)
    return path


@pytest.fixture
def long_scan(tmp_path: Path) -> Path:
    """A volume whose restoration takes longer than the notice of the queue."""
    return write_scan(tmp_path / "scan.tif", 640)


def test_a_warned_job_is_resubmitted_and_ends(
    oar: Cluster, scan: Path, capsys: Any
) -> None:
    out = scan.parent / "clean.ome.tif"
    said = submit(capsys, "restore", str(scan), "-o", str(out), "--queue", "oar")
    job = JobFolder(said["job"])
    wait_for(job, lambda: job.status().state == "running")
    resubmit(oar, job, 1)
    # OAR gives it a new number.
    assert job.status().queue.number == str(int(said["number"]) + 1)
    wait_for(job, lambda: not job.status().is_alive)
    assert (job.status().state, job.status().result) == ("done", out)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "oar"], indirect=True)
def test_a_walltime_costs_a_tile(
    cluster: Cluster, long_scan: Path, capsys: Any
) -> None:
    out, here = long_scan.parent / "clean.ome.tif", long_scan.parent / "here.ome.tif"
    words = ["restore", str(long_scan), *WORDS]
    said = submit(capsys, *words, "-o", str(out), "--queue", cluster.name)
    job = JobFolder(said["job"])
    done = 0
    for n, times in ((1, "once"), (2, "twice")):
        wait_for(
            job,
            lambda least=done: (
                job.status().state == "running" and job.status().done > least
            ),
        )
        resubmit(cluster, job, n)
        assert job.status().done > done
        done = job.status().done
        assert not out.exists()
        state = describe_state(job.status())
        assert f"walltime reached, resubmitted {times}" in state
        assert state.endswith("% done")
    wait_for(job, lambda: not job.status().is_alive, LONG)
    assert job.status().state == "done", job.status()
    assert run([*words, "-o", str(here)]) == 0
    np.testing.assert_array_equal(io.read(out).data, io.read(here).data)


@pytest.mark.slow
def test_slurm_itself_warns(slurm: Cluster, scan: Path, capsys: Any) -> None:
    """The walltime of a minute ends long before training."""
    out = scan.parent / "job"
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--steps", "200000"]
    words += ["--patch", "24", "--layers", "3", "--width", "2", "--threads", "1"]
    where = ["--queue", "slurm", "--walltime", "1min"]
    said = submit(capsys, *words, "-o", str(out), *where)
    job = JobFolder(said["job"])

    def is_warned_while_training() -> bool:
        """On a busy computer, the first run may not reach a step."""
        if (status := job.status()).state == "queued" and not status.done:
            hasten(slurm, job)
        return status.queue.resubmitted > 0 and status.done > 0

    wait_for(job, is_warned_while_training)
    wait_for(job, lambda: job.status().queue.words == "waiting: starts again soon")
    done = job.status().done
    assert run(["jobs", "stop", str(job.path)]) == 0
    assert job.status().state == "cancelled"
    assert job.status().done == done


def slices_for(seconds: float, settings: list[str], folder: Path) -> int:
    """Number of slices whose restoration currently takes this time."""
    took = {}
    for n in (4, 8, 40):  # the first run also loads the program
        scan = write_scan(folder / f"{n}.tif", n)
        began = time.monotonic()
        out = folder / f"{n}.ome.zarr"
        assert run(["restore", str(scan), *settings, "-o", str(out)]) == 0
        took[n] = time.monotonic() - began
    per_slice = max(took[40] - took[8], 0.1) / (40 - 8)
    return min(max(round(seconds / per_slice), 100), 4000)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of an OME-Zarr."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_job_of_minutes_ends_within_walltimes_of_one(
    slurm: Cluster, tmp_path: Path, capsys: Any
) -> None:
    """SLURM itself warns and requeues the job."""
    out, here = tmp_path / "clean.ome.zarr", tmp_path / "here.ome.zarr"
    settings = [*WORDS, "--uncertainty", "tta"]
    scan = write_scan(tmp_path / "scan.tif", slices_for(320, settings, tmp_path))
    capsys.readouterr()
    words = ["restore", str(scan), *settings]
    began = time.monotonic()
    where = ["--queue", "slurm", "--walltime", "1min"]
    said = submit(capsys, *words, "-o", str(out), *where)
    job = JobFolder(said["job"])

    def has_ended() -> bool:
        hasten(slurm, job)
        return not job.status().is_alive and job.status().state != "paused"

    wait_for(job, has_ended, 2000)
    took = time.monotonic() - began
    status = job.status()
    assert status.state == "done", status.message
    began = time.monotonic()
    assert run([*words, "-o", str(here)]) == 0
    print(
        f"{status.total} slices, requeued {status.queue.resubmitted} times, {took:.0f} "
        f"s; without a queue {time.monotonic() - began:.0f} s"
    )
    assert status.queue.resubmitted >= 4
    for name in ("{}.ome.zarr", "{}_std.ome.zarr"):
        clean, again = (tmp_path / name.format(each) for each in ("clean", "here"))
        np.testing.assert_array_equal(io.read(clean).data, io.read(again).data)
        one, other = contents(clean), contents(again)
        different = [part for part in one | other if one.get(part) != other.get(part)]
        assert set(different) <= {"zarr.json"}, different  # it records both runs
