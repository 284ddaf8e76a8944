"""A job that could not finish a part is refused before anything is sent to a queue."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from queue_helpers import submit

from napari_geosr.cli.app import run
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import undivided
from napari_geosr.jobs.feasibility.node import Node
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.reconstruct import ReconstructConfig
from napari_geosr.operations.reconstruct import outline as outlines
from napari_geosr.operations.reconstruct.blocks import reconstruct_rows
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.inputs import open_frames
from napari_geosr.operations.sim.job import SimJob
from napari_geosr.operations.sim.run import run_steps as run_sim_steps


@pytest.fixture(autouse=True)
def queue_without_jobs(oar: Any, request: pytest.FixtureRequest) -> None:
    """A queue that would accept the jobs."""


def restoring(scan: Path, *more: str) -> list[str]:
    words = ["restore", str(scan), "-o", str(scan.parent / "clean.ome.tif")]
    return [*words, "--profile", "mine", *more]


@pytest.fixture(autouse=True)
def profile_with_memory(capsys: Any) -> None:
    words = ["profiles", "new", "mine", "--template", "oar"]
    assert run([*words, "--memory-property", "memcore"]) == 0
    capsys.readouterr()


def refused(scan: Path, capsys: Any, *words: str) -> str:
    """The message; neither a file nor a job is left."""
    before = sorted(scan.parent.iterdir())
    assert run(["submit", *words]) == 2
    said = capsys.readouterr().err
    assert sorted(scan.parent.iterdir()) == before
    assert index.list_jobs() == []
    [message] = [line for line in said.splitlines() if "napari-geosr: " in line]
    return message


def slow(monkeypatch: pytest.MonkeyPatch, seconds: float, parts: int) -> None:
    """Let a run of `parts` parts take `seconds` on this computer."""
    outline = restoration.outline_steps

    def steps(*args: Any, **kwargs: Any) -> Any:
        made = yield from outline(*args, **kwargs)
        return replace(made, seconds=seconds, parts=parts, threads=1)

    monkeypatch.setattr(restoration, "outline_steps", steps)


def test_a_walltime_that_is_too_short(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--threads", "1")
    said = refused(scan, capsys, *words, "--walltime", "5min")
    assert "The walltime of 0:05:00 is too short: one tile takes about 6 min" in said
    # 360 s and 10 s for the start, and 120 s before the end the queue sends a warning.
    assert "Request at least 0:09:00 (--walltime)" in said
    assert "too short" in refused(scan, capsys, *words, "--walltime", "8min")
    made = submit(capsys, *words, "--walltime", "9min")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_more_threads_on_the_node_count(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--walltime", "5min", "--threads", "4")
    assert "too short" in refused(scan, capsys, *words, "--cores", "1")
    made = submit(capsys, *words, "--cores", "4")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_shards_of_workers_are_timed(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch, 3600, parts=10)
    words = restoring(scan, "-m", "gaussian", "--workers", "2", "--walltime", "5min")
    words += ["--threads", "2"]
    assert "one shard takes about 12 min" in refused(scan, capsys, *words)


def test_memory_of_a_node_that_is_too_small(scan: Path, capsys: Any) -> None:
    words = restoring(scan, "-m", "foam-denoise")
    said = refused(scan, capsys, *words, "--mem", "510MB")
    assert "The memory of 510MB per node (--mem) is too small" in said
    found = re.search(r"Request at least (\S+) MB", said)
    assert found is not None
    assert 510 < float(found[1]) < 1000
    # The stated amount is enough, and 5 % less is not.
    less = f"{0.95 * float(found[1]):.0f}MB"
    assert "too small" in refused(scan, capsys, *words, "--mem", less)
    made = submit(capsys, *words, "--mem", f"{found[1]}MB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_budget_that_is_too_small(scan: Path, capsys: Any) -> None:
    words = restoring(scan, "-m", "foam-denoise", "--memory", "1MB")
    said = refused(scan, capsys, *words)
    assert "The smallest useful tile of this model needs" in said
    assert "Increase the Memory setting (--memory)" in said


def test_a_budget_that_does_not_fit_into_a_node(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outline = restoration.outline_steps

    def steps(*args: Any, **kwargs: Any) -> Any:
        made = yield from outline(*args, **kwargs)
        return replace(made, memory=7 * 10**9)

    monkeypatch.setattr(restoration, "outline_steps", steps)
    words = restoring(scan, "-m", "gaussian", "--memory", "8GB", "--mem", "4GB")
    said = refused(scan, capsys, *words)
    assert "with a budget of 8GB (--memory), the run needs 7.5 GB" in said


def test_with_ample_resources_no_model_is_loaded(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(restoration, "outline_steps", steps)
    more = ["-m", "foam-denoise", "--memory", "2GB", "--mem", "4GB"]
    made = submit(capsys, *restoring(scan, *more, "--walltime", "2h"))
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_resumed_job_is_checked_too(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = restoring(scan, "-m", "gaussian", "--threads", "1", "--walltime", "2h")
    made = submit(capsys, *words)
    job = JobFolder(made["job"])
    assert run(["jobs", "stop", made["job"]]) == 0
    job.set_state("cancelled", pid=0, done=0)
    slow(monkeypatch, 3600, parts=10)
    capsys.readouterr()
    words = ["jobs", "resume", made["job"], "--profile", "mine", "--walltime", "5min"]
    for _ in range(100):
        assert run(words) == 2
        said = capsys.readouterr().err
        if "has not ended job" not in said:
            break
        time.sleep(0.2)
    assert "The walltime of 0:05:00 is too short" in said
    assert job.status().state == "cancelled"


def measuring(scan: Path, *more: str) -> list[str]:
    words = ["measure", str(scan), "-o", str(scan.parent / "report")]
    return [*words, "--profile", "mine", *more]


def test_memory_of_a_node_that_is_too_small_for_a_measurement(
    large: Path, capsys: Any
) -> None:
    words = measuring(large)
    said = refused(large, capsys, *words, "--mem", "1GB")
    assert "measuring 'large' needs at least" in said
    found = re.search(r"Request at least (\S+) GB", said)
    assert found is not None
    less = f"{0.95 * float(found[1]):.3f}GB"
    assert "too small" in refused(large, capsys, *words, "--mem", less)
    # Each worker labels a slab of its own.
    more = ["--mem", f"{found[1]}GB", "--workers", "2"]
    assert "too small" in refused(large, capsys, *words, *more)
    made = submit(capsys, *words, "--mem", f"{found[1]}GB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_budget_that_is_too_small_for_a_measurement(large: Path, capsys: Any) -> None:
    said = refused(large, capsys, *measuring(large), "--memory", "200MB")
    assert "Measuring 'large' needs at least" in said
    assert "Increase it (--memory)" in said


def test_a_budget_of_a_measurement_that_does_not_fit_into_a_node(
    large: Path, capsys: Any
) -> None:
    words = measuring(large, "--memory", "8GB")
    said = refused(large, capsys, *words, "--mem", "4GB")
    assert "with a budget of 8GB (--memory), the run needs 8.3 GB" in said
    made = submit(capsys, *words, "--mem", "8.3GB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_large_budget_for_a_small_measurement_is_harmless(
    scan: Path, capsys: Any
) -> None:
    made = submit(capsys, *measuring(scan), "--memory", "8GB", "--mem", "1GB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_walltime_too_short_for_the_thickness(large: Path, capsys: Any) -> None:
    words = measuring(large, "--statistics", "thickness")
    said = refused(large, capsys, *words, "--walltime", "5min")
    assert "The walltime of 0:05:00 is too short: the local thickness must be" in said
    found = re.search(r"Request at least (\S+) \(--walltime\)", said)
    assert found is not None
    made = submit(capsys, *words, "--walltime", found[1])
    assert run(["jobs", "stop", made["job"]]) == 0
    capsys.readouterr()
    # Labelling alone is resumed slab by slab.
    made = submit(capsys, *measuring(large), "--walltime", "5min")
    assert run(["jobs", "stop", made["job"]]) == 0


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A volume of 2000 × 2000 × 2000 voxels, which take no space on the disk."""
    folder = tmp_path / "large scan"
    folder.mkdir()
    zarr.create_array(
        folder / "large.zarr", shape=(2000,) * 3, chunks=(64,) * 3, dtype=np.uint8
    )
    return folder / "large.zarr"


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    """A scan of 2000 projections, most of which take no space on the disk."""
    folder = tmp_path / "it's a scan"
    folder.mkdir()
    with h5py.File(folder / "scan.h5", "w") as file:
        data = file.create_dataset(
            "exchange/data", (2000, 64, 2000), np.uint16, chunks=(1, 64, 2000)
        )
        data[0] = 500
        file["exchange/data_white"] = np.full((1, 64, 2000), 1000, np.uint16)
        file["exchange/data_dark"] = np.zeros((1, 64, 2000), np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, 2000, endpoint=False)
    return folder / "scan.h5"


def reconstructing(scan: Path, *more: str) -> list[str]:
    words = ["reconstruct", str(scan), "-o", str(scan.parent / "volume.ome.tif")]
    return [*words, "--profile", "mine", *more]


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_memory_of_a_node_that_is_too_small_for_a_slice(
    projections: Path, capsys: Any, more: list[str]
) -> None:
    if more:
        pytest.importorskip("distributed")
    words = reconstructing(projections, *more)
    said = refused(projections, capsys, *words, "--mem", "1GB")
    assert "the smallest block needs" in said
    found = re.search(r"Request at least (\S+) GB", said)
    assert found is not None
    less = f"{0.95 * float(found[1]):.3f}GB"
    assert "too small" in refused(projections, capsys, *words, "--mem", less)
    made = submit(capsys, *words, "--mem", f"{found[1]}GB", "--walltime", "12h")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_budget_that_is_too_small_for_a_slice(projections: Path, capsys: Any) -> None:
    words = reconstructing(projections, "--memory", "200MB")
    said = refused(projections, capsys, *words)
    assert "Raise the budget (--memory)" in said


def test_a_budget_of_a_reconstruction_that_does_not_fit_into_a_node(
    projections: Path, capsys: Any
) -> None:
    words = reconstructing(projections, "--memory", "8GB", "--walltime", "12h")
    said = refused(projections, capsys, *words, "--mem", "2GB")
    assert "with a budget of 8GB (--memory), the run needs" in said
    made = submit(capsys, *words, "--mem", "9GB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_walltime_that_is_too_short_for_a_block(
    projections: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = monkeypatch.setattr
    timed(outlines.ReconstructOutline, "seconds", lambda outline: outline.work * 5e-9)
    words = ["--algorithm", "sirt", "--iterations", "100", "--memory", "3GB"]
    words = reconstructing(projections, *words, "--cores", "4", "--threads", "4")
    said = refused(projections, capsys, *words, "--walltime", "10min")
    # 2000² voxels × 2000 projections × 100 iterations × 5 ns = 4000 s for each slice
    block = re.search(r"a block of (\d+) slices takes about (\S+) min on 4", said)
    assert block is not None
    assert float(block[2]) == pytest.approx(int(block[1]) * 1000 / 60, rel=0.02)
    found = re.search(r"Request at least (\S+) \(--walltime\)", said)
    assert found is not None
    made = submit(capsys, *words, "--walltime", found[1])
    assert run(["jobs", "stop", made["job"]]) == 0


@pytest.mark.parametrize(
    ("algorithm", "n_angles", "iterations"), [("fbp", 96, None), ("sirt", 34, 24)]
)
def test_the_predicted_time_of_a_block_is_about_right(
    algorithm: str, n_angles: int, iterations: int | None
) -> None:
    """Work of the small scan times 3 (angles) or 6 (iterations), which must count."""
    angles = np.linspace(0, 180, n_angles, endpoint=False)
    data = np.zeros((n_angles, 4, 530), np.float32)
    scan = Projections(data, angles, is_line_integrals=True)
    config = ReconstructConfig(
        algorithm=algorithm, iterations=iterations, memory="4GB", threads=1
    )
    found = outlines.outline(scan, config)
    rows = np.random.default_rng(0).random((4, n_angles, 530), np.float32)
    assert found.slices == 4
    elapsed = []
    for _ in range(2):
        began = time.process_time()
        reconstruct_rows(found.ready, rows, lambda: False, lambda _: None)
        elapsed.append(time.process_time() - began)
    # Other programs on a busy computer change the speed of both.
    assert 0.4 < found.seconds() / min(elapsed) < 2.5


def test_frames_that_a_model_would_mix(tmp_path: Path, capsys: Any) -> None:
    """Refused at submission, not after waiting in the queue."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.normal(100, 20, (1, 24, 30)), 300, axis=0)
    frames += rng.normal(0, 0.5, frames.shape)
    scan = tmp_path / "movie.tif"
    tifffile.imwrite(scan, frames.astype(np.float32))
    said = refused(scan, capsys, *restoring(scan, "-m", "foam-denoise"))
    assert "look like frames of a time series" in said


def test_frames_that_do_not_fit_into_a_node(tmp_path: Path, capsys: Any) -> None:
    """The file is sparse: no frame is read."""
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, shape=(9, 2048, 2048), dtype=np.uint16)
    words = ["sim", str(path), "--na", "1.4", "--wavelength", "525nm"]
    words += ["--pixel", "65nm", "--method", "wiener", "--profile", "mine"]
    words += ["-o", str(tmp_path / "sim.ome.tif")]
    said = refused(path, capsys, *words, "--mem", "1GB")
    assert "'wiener' needs" in said
    found = re.search(r"Request at least (\S+) GB", said)
    assert found is not None
    # The stated amount is enough, and 5 % less is not.
    less = f"{950 * float(found[1]):.0f}MB"
    assert "too small" in refused(path, capsys, *words, "--mem", less)
    more = ["--memory", "100MB"]
    assert "more than the 100 MB allowed" in refused(path, capsys, *words, *more)
    budget = refused(path, capsys, *words, "--mem", "1GB", "--memory", "8GB")
    assert "with a budget of 8GB (--memory), the run needs" in budget
    made = submit(capsys, *words, "--mem", f"{found[1]}GB")
    assert run(["jobs", "stop", made["job"]]) == 0


@pytest.mark.parametrize(("task", "megabytes"), [("complete", 512), ("refine", 16)])
def test_a_shape_that_does_not_fit_into_a_node(
    tmp_path: Path, capsys: Any, task: str, megabytes: int
) -> None:
    """The file is sparse: no voxel is read."""
    path = tmp_path / "shape.tif"
    tifffile.imwrite(path, shape=(128, 1000, 1000), dtype=np.uint8)
    words = ["shapes", task, str(path), "--profile", "mine"]
    words += ["-o", str(tmp_path / "out.ome.tif")]
    said = refused(path, capsys, *words, "--mem", f"{megabytes + 490}MB")
    assert f"at least {megabytes} MB" in said
    made = submit(capsys, *words, "--mem", f"{megabytes + 500}MB")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_frames_that_cannot_be_reconstructed_in_time(
    tmp_path: Path, capsys: Any
) -> None:
    """The file is sparse: no frame is read."""
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, shape=(900, 2048, 2048), dtype=np.uint8)
    words = ["sim", str(path), "--na", "1.4", "--wavelength", "525nm"]
    words += ["--angles", "3", "--phases", "3", "--pixel", "65nm", "--method", "wiener"]
    words += ["--profile", "mine", "-o", str(tmp_path / "sim.ome.tif")]
    said = refused(path, capsys, *words, "--cores", "1", "--walltime", "5min")
    # 900 × 2048 × 2048 pixels, 100 ns each
    assert (
        "the run takes at least about 6 min on 1 core, so the run would never" in said
    )
    found = re.search(r"Request at least (\S+) \(--walltime\)", said)
    assert found is not None
    assert run(["submit", *words, "--cores", "1", "--dry-run"]) == 0
    assert "time       at least about 6 min on 1 core;" in capsys.readouterr().out
    # On several cores, it may be faster.
    for more in (["--cores", "1", "--walltime", found[1]], ["--walltime", "5min"]):
        made = submit(capsys, *words, *more)
        assert run(["jobs", "stop", made["job"]]) == 0
        capsys.readouterr()


def segmenting(large: Path, *more: str) -> list[str]:
    """Arguments to segment a scan from labels that take no space on the disk either."""
    labels = large.parent / "painted.zarr"
    if not labels.exists():
        zarr.create_array(labels, shape=(2000,) * 3, chunks=(64,) * 3, dtype=np.uint8)
    words = ["segment", str(large), "--labels", str(labels), "--profile", "mine"]
    return [*words, "-o", str(large.parent / "classes.ome.zarr"), *more]


def test_a_scan_that_cannot_be_segmented_in_time(large: Path, capsys: Any) -> None:
    words = segmenting(large)
    said = refused(large, capsys, *words, "--walltime", "1h", "--cores", "8")
    assert (
        "the run takes at least about 67 min on 1 core, so the run would never" in said
    )
    assert run(["submit", *words, "--dry-run"]) == 0
    assert "time       at least about 67 min on 1 core;" in capsys.readouterr().out
    made = submit(capsys, *words, "--walltime", "2h")
    assert run(["jobs", "stop", made["job"]]) == 0


def test_a_scan_that_cannot_be_segmented_in_the_memory(
    large: Path, capsys: Any
) -> None:
    words = segmenting(large)
    assert "a slice of large" in refused(large, capsys, *words, "--mem", "550MB")
    made = submit(capsys, *words, "--mem", "600MB")
    assert run(["jobs", "stop", made["job"]]) == 0


@pytest.mark.parametrize(
    ("task", "unknown"),
    [("complete", "size of the surface"), ("refine", "size of the surface")],
)
def test_the_plan_of_a_run_on_a_shape_states_that_its_time_is_unknown(
    tmp_path: Path, capsys: Any, task: str, unknown: str
) -> None:
    path = tmp_path / "shape.tif"
    tifffile.imwrite(path, shape=(16, 100, 100), dtype=np.uint8)
    words = ["submit", "shapes", task, str(path), "--profile", "mine", "--dry-run"]
    assert run([*words, "-o", str(tmp_path / "out.ome.tif")]) == 0
    said = capsys.readouterr().out
    assert (
        f"time       cannot be estimated, because it depends on the {unknown}" in said
    )


def test_the_lower_limits_are_not_above_what_was_measured(
    tmp_path: Path, capsys: Any
) -> None:
    """Even if this computer is twice as fast as the one used for the limits."""
    words = ["simulate", "sim", "--structure", "er", "--size", "256"]
    assert run([*words, "-o", str(tmp_path / "raw")]) == 0
    raw = tmp_path / "raw" / "raw.ome.tif"
    profile = Profile(queue="slurm", cores=1)
    for more in ({"method": "wiener"}, {"method": "joint-rl", "iterations": 20}):
        known = {"patterns": tmp_path / "raw" / "patterns_truth.yaml", "threads": 1}
        config = SimConfig.create(**more, **known, checks=False)
        job = SimJob(name="sim", frames=raw, settings=config)
        least = undivided._least_seconds(
            config, undivided.input_shape(job), Node(profile, None, 1, 0)
        )
        frames = open_frames(job.frames, config, None)
        began = time.process_time()
        run_to_end(run_sim_steps(frames, config))
        assert least < time.process_time() - began
