"""If memory runs out in one of two processes, both restart the step, or both end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from safetensors.numpy import load_file

from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.train import TrainJob, config_class

pytestmark = pytest.mark.slow

#: The process of a job in which the second process lacks memory, as requested.
FAULTY = """
import os, sys
import torch
from napari_geosr.jobs.__main__ import main
from napari_geosr.learning.methods import noise2noise

kind, where = noise2noise.Method, sys.argv[2]
loss, step = kind.loss, kind.train_step
seen = []

def short_of_memory(*given):
    raise torch.OutOfMemoryError("CUDA out of memory")

def hungry(self, batch):
    seen.append(len(batch["source"]))
    if len(seen) == 3 and where == "loss":  # in the middle of the third step
        short_of_memory()
    return loss(self, batch)

def late(self, loop, batches):
    if loop.step == 2 and where == "elsewhere":
        short_of_memory()
    return step(self, loop, batches)

if os.environ["RANK"] == "1":
    kind.loss, kind.train_step = hungry, late
sys.exit(main(sys.argv[1]))
"""


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    return paths


def make(folder: Path, scans: list[Path], **more: Any) -> JobFolder:
    settings: dict[str, Any] = {
        "name": "m",
        "steps": 5,
        "batch_size": 4,
        "patch": 24,
        "layers": 3,
        "width": 2,
        "device": "cpu",
        "threads": 1,
    }
    config = config_class("noise2noise").create(
        source=[scans[0]], target=[scans[1]], **(settings | more)
    )
    job = TrainJob(method="noise2noise", training=config)
    return JobFolder.create(folder, job.to_values(), name="m")


def in_two(job: JobFolder, where: str, port: int) -> subprocess.CompletedProcess[str]:
    script = job.path.parent / f"{where}.py"
    script.write_text(FAULTY)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    return subprocess.run(
        [*launcher, "--master_port", str(port), str(script), str(job.path), where],
        check=False,
        timeout=240,
        capture_output=True,
        text=True,
    )


def weights(job: JobFolder) -> dict[str, Any]:
    return load_file(job.path / "result" / "m" / "weights.safetensors")


def test_both_halve_where_one_lacks_memory(scans: list[Path], tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", scans), make(tmp_path / "two", scans)
    run_to_end(run_steps(one))
    ended = in_two(two, "loss", 29521)
    assert ended.returncode == 0, ended.stderr
    assert two.status().state == "done"
    said = [e["message"] for e in two.events()[0] if e["event"] == "warning"]
    assert any("Out of memory at step 3" in s and "2 parts" in s for s in said)
    expected, found = weights(one), weights(two)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_where_they_cannot_begin_anew_both_end_and_say_so(
    scans: list[Path], tmp_path: Path
) -> None:
    job = make(tmp_path / "job", scans)
    ended = in_two(job, "elsewhere", 29522)
    assert ended.returncode != 0
    assert "Memory ran out in one of 2 processes at step 2" in ended.stderr
    status = job.status()
    assert status.state == "failed"
    assert "Another process of this training run has ended" in status.message
    assert status.can_resume


def test_more_processes_than_patches_are_refused(
    scans: list[Path], tmp_path: Path
) -> None:
    job = make(tmp_path / "job", scans, batch_size=1)
    ended = in_two(job, "nowhere", 29523)
    assert ended.returncode != 0
    assert "1 patches is not enough for 2 processes" in job.status().message
