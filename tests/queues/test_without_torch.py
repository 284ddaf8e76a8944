"""A login node without a working torch still submits jobs, or says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from queue_helpers import Cluster

from napari_geosr.core.machine.torch_here import describe_missing_torch, why_no_torch

#: Modules that fail like a missing torch, and like one without its libraries.
MISSING = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
BROKEN = "raise OSError('libcudart.so.12: cannot open shared object file')"


@pytest.fixture
def run_there(
    new_folder: Callable[[], Path],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command in a process in which importing torch fails."""
    stub = new_folder()

    def run_there(
        *words: str, torch: str = MISSING, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        (stub / "torch.py").write_text(f"{torch}\n")
        paths = [str(stub), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, "-m", "napari_geosr", *words],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | (variables or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run_there


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = rng.poisson(500, (40, 8, 32)).astype(np.uint16)
        file["exchange/data_white"] = np.full((2, 8, 32), 1000, np.uint16)
        file["exchange/data_dark"] = np.zeros((2, 8, 32), np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, 40, endpoint=False)
    return tmp_path / "scan.h5"


@pytest.mark.parametrize("torch", [MISSING, BROKEN], ids=["missing", "broken"])
def test_a_restoration_is_planned_without_an_estimate(
    scan: Path, run_there: Callable[..., subprocess.CompletedProcess[str]], torch: str
) -> None:
    words = ["submit", "restore", str(scan), "-m", "ct-denoise", "--mem", "4GB"]
    words += ["-o", str(scan.parent / "clean.ome.zarr"), "--walltime", "5min"]
    done = run_there(*words, "--queue", "slurm", "--dry-run", torch=torch)
    assert done.returncode == 0, done.stderr
    assert "because torch cannot be imported on this computer" in done.stdout
    assert "#SBATCH --mem=3815M" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["measure", "reconstruct", "study projections"])
def test_other_jobs_are_submitted(
    verb: str,
    scan: Path,
    projections: Path,
    oar: Cluster,
    run_there: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The job itself starts where torch is missing, too, so it may fail."""
    source, out = (scan, "report") if verb == "measure" else (projections, "r.ome.zarr")
    words = ["submit", *verb.split(), str(source), "-o", str(source.parent / out)]
    if verb.startswith("study"):
        words += ["--counts", "20"]
    done = run_there(*words, "--queue", "oar", "--walltime", "5min")
    assert done.returncode == 0, done.stderr
    assert "Submitted" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("torch", [MISSING, BROKEN], ids=["missing", "broken"])
def test_training_says_what_is_missing_and_where(
    scan: Path, run_there: Callable[..., subprocess.CompletedProcess[str]], torch: str
) -> None:
    words = ["submit", "train", "noise2void", "--source", str(scan)]
    words += ["-o", str(scan.parent / "job"), "--queue", "slurm", "--dry-run"]
    done = run_there(*words, torch=torch)
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert said.startswith("napari-geosr: Torch cannot be imported on this computer (")
    assert "run the command on a computer that has it" in said


def test_a_profile_is_tested(
    oar: Cluster,
    tmp_path: Path,
    run_there: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The test says so if the nodes lack torch as well."""
    done = run_there("profiles", "test", "oar", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "oar works" in done.stdout
    assert "Torch cannot be imported on the node" in done.stderr


def test_the_doctor_advises(
    run_there: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_there("doctor", torch=BROKEN)
    assert "libcudart.so.12: cannot open shared object file" in done.stdout
    assert "Traceback" not in done.stderr


def test_only_errors_of_importing_torch_are_explained() -> None:
    assert why_no_torch() == ""
    assert describe_missing_torch(ImportError("no such module", name="dask")) == ""
    assert describe_missing_torch(OSError("disk")) == ""
    assert "Torch" in describe_missing_torch(ImportError("x", name="torch"))
