"""Kill training at random moments: the model is the same, and no file is broken."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from kills import Tally
from safetensors.numpy import load_file

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.facts import RUN
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.learning.training import checkpoint
from napari_geosr.operations.shapes import ShapeTrainJob
from napari_geosr.operations.shapes.simulation import simulated_skull
from napari_geosr.operations.train import TrainJob, config_class

STEPS = 150
#: Methods that store more than one network: an image pool that is soon full, two or
#: more optimisers, several draws per step. Each takes some seconds.
MORE_STATE: dict[str, dict[str, Any]] = {
    "cyclegan": {"layers": 1, "critic_width": 2, "pool_size": 6, "steps": 60},
    "tomogan": {"critic_width": 2, "critic_steps": 2, "steps": 40},
}
FEW_TRIES = 2


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((12, 6, 6)), np.ones((1, 8, 8)))
    paths = [folder / "a.tif", folder / "b.tif"]
    for path in paths:
        noise = rng.normal(0, 0.2, clean.shape)
        tifffile.imwrite(path, (clean + noise).astype(np.float32))
    return paths


def new_job(
    folder: Path, scans: list[Path], method: str = "noise2noise", **settings: Any
) -> JobFolder:
    values: dict[str, Any] = {
        "source": [scans[0]],
        "target": [scans[1]],
        "name": "m",
        "steps": STEPS,
        "batch_size": 2,
        "patch": 24,
        "width": 2,
        "device": "cpu",
        "threads": 1,
        "seed": 3,
        "checkpoint_seconds": 0.05,
    }
    config = config_class(method).create(**values | (settings or {"layers": 4}))
    job = TrainJob(method=method, training=config)
    return JobFolder.create(folder, job.to_values(), name="m")


def process(job: JobFolder, n: int = 1) -> subprocess.Popen[bytes]:
    """Start training in `n` processes that exchange gradients."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", f"{n}"]
    more = [*launcher, "--master_port", f"{free_port()}"] if n > 1 else []
    return subprocess.Popen(
        [sys.executable, *more, "-m", "napari_geosr.jobs", str(job.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
    return number


def kill(running: subprocess.Popen[bytes], rng: np.random.Generator) -> None:
    """Kill training: one of several processes, or all at once."""
    try:
        children = psutil.Process(running.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    trainers = [c for c in children if "napari_geosr.jobs" in " ".join(c.cmdline())]
    chosen = int(rng.integers(0, len(trainers) + 1))
    one = trainers[chosen : chosen + 1]
    for each in one or [psutil.Process(running.pid), *children]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    running.wait(300)  # if one process is missing, the launcher ends the other one
    psutil.wait_procs(children, 300)


def model(job: JobFolder) -> dict[str, Any]:
    return load_file(job.path / "result" / "m" / "weights.safetensors")


def wait_for_work(
    job: JobFolder, running: subprocess.Popen[bytes], sign: str = ""
) -> None:
    """Wait until it trains, because kills should hit steps, saves and exports.

    Any event after the start except stages and warnings shows this, or only those
    called `sign`.
    """
    _, offset = job.events()
    early = {RUN, "stage", "warning"}
    while running.poll() is None:
        kinds = {e["event"] for e in job.events(offset)[0]} - early
        if sign in kinds or (kinds and not sign):
            return
        time.sleep(0.01)


def check_files(job: JobFolder) -> None:
    """Whatever was in progress, every existing file is complete."""
    assert json.loads((job.path / "job.json").read_text())
    state = checkpoint.load(job.path / "checkpoints")
    assert state is None or 0 < state["step"] <= STEPS
    if job.preview.exists():
        assert np.isfinite(tifffile.imread(job.preview)).all()
    result = job.path / "result" / "m"
    if (result / "weights.safetensors").exists():
        assert load_file(result / "weights.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("n_kills", "n_processes"), [(1, 1), (20, 1), (20, 2)])
def test_killed_again_and_again_it_gives_the_same_model(
    scans: list[Path], tmp_path: Path, n_kills: int, n_processes: int
) -> None:
    seed = 11
    name = "`train`" if n_processes == 1 else f"`train`, {n_processes} processes"
    print(f"{name}: seed {seed}")
    whole = new_job(tmp_path / "whole", scans)
    assert process(whole, n_processes).wait(300) == 0
    cut = new_job(tmp_path / "cut", scans)
    rng = np.random.default_rng(seed)
    tally = Tally(name)
    cut_short = 0

    def compare() -> None:
        tally.finished += 1
        np.testing.assert_equal(model(cut), model(whole))
        tally.identical += 1
        print(tally.row(), flush=True)

    while tally.kills < n_kills:
        tally.resumed += checkpoint.load(cut.path / "checkpoints") is not None
        running = process(cut, n_processes)
        if (tally.kills + 1) % 4:  # the others hit the start of a process
            wait_for_work(cut, running)
        time.sleep(float(rng.uniform(0.0, 0.7)))
        if running.poll() is None:
            kill(running, rng)
            tally.kills += 1
        running.wait(300)
        check_files(cut)
        if cut.status().state == "done":
            compare()
            cut = new_job(tmp_path / f"cut{tally.kills}", scans)
        else:
            status = cut.status()
            if n_processes > 1 and status.state == "failed":
                print(repr(status.message))
                assert status.can_resume
            else:
                assert status.state in ("interrupted", "queued", "paused")
            state = checkpoint.load(cut.path / "checkpoints")
            cut_short += state is not None
            done = 0 if state is None else state["step"]
            tally.lost = max(tally.lost, steps_reported(cut) - done)
    tally.resumed += checkpoint.load(cut.path / "checkpoints") is not None
    assert process(cut, n_processes).wait(300) == 0
    compare()
    # otherwise, hardly any kill would hit the training itself
    assert cut_short >= n_kills // 3


def steps_reported(job: JobFolder) -> int:
    """The last step whose loss was written."""
    steps = [e["step"] for e in job.events()[0] if e["event"] == "progress"]
    return max(steps, default=0)


def killed_after_work(job: JobFolder, rng: np.random.Generator) -> tuple[int, int]:
    """Resume a job and kill it soon after a checkpoint; exit code and step reached."""
    running = process(job)
    # Each time, it progresses further, and is killed at a random moment after that.
    wait_for_work(job, running, "checkpoint")
    time.sleep(float(rng.uniform(0.0, 0.1)))
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    code = running.wait(300)
    check_files(job)
    state = checkpoint.load(job.path / "checkpoints")
    assert state is not None
    return code, int(state["step"])


@pytest.mark.slow
@pytest.mark.parametrize("method", MORE_STATE)
def test_methods_that_remember_more_go_on_as_well(
    scans: list[Path], tmp_path: Path, method: str
) -> None:
    settings = MORE_STATE[method]
    whole = new_job(tmp_path / "whole", scans, method, **settings)
    run_to_end(run_steps(whole))
    cut = new_job(tmp_path / "cut", scans, method, **settings)
    rng = np.random.default_rng(5)
    reached = []
    for _ in range(FEW_TRIES):
        _, step = killed_after_work(cut, rng)
        reached.append(step)
        if cut.status().state == "done":
            break
    assert 0 < reached[0] < settings["steps"]
    assert reached == sorted(reached)
    if cut.status().state != "done":
        assert process(cut).wait(300) == 0
    np.testing.assert_equal(model(cut), model(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["shape_completion", "shape_sr", "sparse_segmentation"]
)
def test_killed_training_for_shapes_gives_the_same_model(
    tmp_path: Path, method: str
) -> None:
    """Killed at random moments after a checkpoint, it resumes bit for bit."""
    is_scan, skulls, scans = method == "sparse_segmentation", [], []
    for seed in range(2):
        inside = simulated_skull(seed, 40, "none").complete
        phases = inside.astype(np.uint8)
        phases[:20] *= 1 + is_scan
        path = tmp_path / f"skull{seed}.tif"
        skulls.append(io.write(Volume(phases, "ZYX"), path, kind="labels"))
        noise = np.random.default_rng(seed).normal(0, 0.3, inside.shape)
        scan = Volume((phases + noise).astype(np.float32), "ZYX")
        scans.append(io.write(scan, tmp_path / f"scan{seed}.tif"))
    training = {
        "source": scans if is_scan else skulls,
        "target": skulls if is_scan else (),
        "name": "m",
        "steps": 60,
        "channels": (2, 3, 4),
        "patch": 16,
        "device": "cpu",
        "threads": 1,
        "seed": 3,
        "checkpoint_seconds": 0.05,
    }
    values = ShapeTrainJob.from_values({"method": method, "training": training})

    def create(name: str) -> JobFolder:
        return JobFolder.create(tmp_path / name, values.to_values(), name="m")

    whole, cut = create("whole"), create("cut")
    assert process(whole).wait(300) == 0
    rng = np.random.default_rng(5)
    reached = []
    for _ in range(FEW_TRIES):
        code, step = killed_after_work(cut, rng)
        assert code == -signal.SIGKILL, "the run ended before it was killed"
        reached.append(step)
    assert 0 < reached[0] < reached[1] < 60
    assert not (cut.path / "result").exists()
    assert process(cut).wait(300) == 0
    np.testing.assert_equal(model(cut), model(whole))


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    import torch

    from napari_geosr.core.errors import FileError

    checkpoint.save(tmp_path, {"step": 1})

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FileError, match="disk of .* is full"):
        checkpoint.save(tmp_path, {"step": 2})
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == [checkpoint.FILE]


def test_data_that_vanish_are_one_sentence(scans: list[Path], tmp_path: Path) -> None:
    mine = tmp_path / "a.tif"
    mine.write_bytes(scans[0].read_bytes())
    job = new_job(tmp_path / "job", [mine, scans[1]])
    mine.unlink()
    assert process(job).wait(300) == 2
    status = job.status()
    assert status.state == "failed"
    assert "a.tif" in status.message
    assert status.can_resume
