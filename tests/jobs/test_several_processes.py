"""Training in two processes: the same batch, the same model."""

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
from napari_geosr.models import bundle
from napari_geosr.operations.train import TrainJob, config_class


def make(folder: Path, scans: list[Path]) -> JobFolder:
    config = config_class("noise2noise").create(
        source=[scans[0]],
        target=[scans[1]],
        name="m",
        steps=5,
        batch_size=4,
        patch=24,
        layers=3,
        width=2,
        device="cpu",
        threads=1,
    )
    job = TrainJob(method="noise2noise", training=config)
    return JobFolder.create(folder, job.to_values(), name="m")


def weights(job: JobFolder) -> dict[str, Any]:
    return load_file(job.path / "result" / "m" / "weights.safetensors")


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    one, two = make(tmp_path / "one", scans), make(tmp_path / "two", scans)
    run_to_end(run_steps(one))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    subprocess.run(
        [*launcher, "--master_port", "29517", "-m", "napari_geosr.jobs", str(two.path)],
        check=True,
        timeout=240,
        capture_output=True,
    )
    assert two.status().state == "done"
    card = bundle.read_card(two.path / "result" / "m")
    assert card.provenance["training"]["processes"] == 2
    expected, found = weights(one), weights(two)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    # Only one of the two wrote events.
    steps = [e["step"] for e in two.events()[0] if e["event"] == "checkpoint"]
    assert len(steps) == len(set(steps))
