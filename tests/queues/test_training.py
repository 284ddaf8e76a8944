"""Training in a queue with several GPUs or nodes: torchrun starts the processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import Cluster, resubmit, submit, wait_for
from safetensors.numpy import load_file

from napari_geosr.cli.app import run
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.models import bundle


def words_for(scan: Path, steps: int = 4) -> list[str]:
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--name", "m"]
    words += ["--steps", str(steps), "--batch-size", "4", "--patch", "24"]
    words += ["--layers", "3", "--width", "2", "--threads", "1", "--device", "cpu"]
    return words


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "result" / "m" / "weights.safetensors")


def check_finished(job: JobFolder, n_processes: int) -> None:
    log = (job.path / "log.txt").read_text()
    assert job.status().state == "done", f"{job.status().message}\n{log}"
    training = bundle.read_card(job.path / "result" / "m").provenance["training"]
    assert training["processes"] == n_processes
    # The job is done before its processes have ended.
    wait_for(job, lambda: not list(job.path.glob(".torchrun.*")))


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["oar", "slurm"], indirect=True)
def test_two_nodes_train_the_model_of_one_process(
    cluster: Cluster, scan: Path, tmp_path: Path, capsys: Any
) -> None:
    """Two nodes that meet at the address of the first."""
    words = words_for(scan)
    where = ["--nodes", "2", "--cores", "1", "--queue", cluster.name]
    said = submit(capsys, *words, "-o", str(tmp_path / "two"), *where)
    assert run([*words, "-o", str(tmp_path / "one")]) == 0
    job = JobFolder(said["job"])
    wait_for(job, lambda: not job.status().is_alive)
    check_finished(job, 2)
    expected, found = weights(tmp_path / "one"), weights(job.path)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cluster", "where"),
    # Nobody checks the GPUs of the emulated OAR; processes without a GPU use the CPU.
    [("oar", ["--gpus", "2"]), ("slurm", ["--nodes", "2", "--cores", "1"])],
    indirect=["cluster"],
)
def test_all_processes_end_at_the_walltime_and_start_again(
    cluster: Cluster, where: list[str], scan: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "job"
    words = [*words_for(scan, 3000), "-o", str(out), "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, *where)["job"])
    wait_for(job, lambda: job.status().done > 10)
    resubmit(cluster, job, 1)
    wait_for(job, lambda: not job.status().is_alive)
    check_finished(job, 2)
    first = [e["step"] for e in job.events()[0] if e["event"] == "progress"]
    assert first == sorted(first)  # it resumed from a checkpoint


def test_processes_that_do_not_start_are_reported(
    oar: Cluster, scan: Path, new_folder: Callable[[], Path], capsys: Any
) -> None:
    broken = new_folder()
    (broken / "torch.py").write_text("raise ImportError('no torch on this node')\n")
    words = ["profiles", "new", "mine", "--template", "oar", "--gpus", "2"]
    assert run([*words, "--setup", f"export PYTHONPATH={broken}:$PYTHONPATH"]) == 0
    capsys.readouterr()
    words = [*words_for(scan), "-o", str(scan.parent / "job"), "--profile", "mine"]
    job = JobFolder(submit(capsys, *words)["job"])
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "failed"
    assert "could not be started" in job.status().message
    assert "no torch on this node" in (job.path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--gpus", "8", "--queue", "slurm"], "8 GPUs require 8 training processes"),
        (
            ["--nodes", "3", "--gpus", "2", "--queue", "oar"],
            "3 nodes with 2 GPUs each require 6 training processes, but a batch has "
            "only 4 patches",
        ),
        (["--gpus", "2", "--queue", "local"], "jobs train in one process"),
    ],
)
def test_processes_without_work_are_refused(
    scan: Path, capsys: Any, more: list[str], reason: str
) -> None:
    out = scan.parent / "job"
    assert run(["submit", *words_for(scan), "-o", str(out), *more, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not out.exists()


def test_other_jobs_ask_for_no_idle_nodes(tmp_path: Path, capsys: Any) -> None:
    words = ["simulate", "sim", "--structure", "er", "--size", "64"]
    assert run([*words, "-o", str(tmp_path / "raw")]) == 0
    frames = str(tmp_path / "raw" / "raw.ome.tif")
    words = ["submit", "train", "pinn-sim", "--frames", frames, "--nodes", "2"]
    words += ["--apply-to", frames, "--recipe", "published"]
    words += ["-o", str(tmp_path / "job"), "--queue", "slurm"]
    assert run(words) == 2
    assert "would use only one of the 2 nodes" in capsys.readouterr().err
