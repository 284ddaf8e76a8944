"""Training on shapes is not resumed with other files, and watches its files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.machine import file_state
from napari_geosr.core.steps import (
    CheckpointSaved,
    StageStarted,
    Step,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle
from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps
from napari_geosr.operations.shapes.simulation import simulated_skull

#: The learning methods, and the role of the file that is replaced.
EACH = [
    ("shape_sr", "source"),
    ("shape_completion", "source"),
    ("sparse_segmentation", "source"),
    ("sparse_segmentation", "target"),
]


def skull(seed: int) -> np.ndarray:
    return simulated_skull(seed, 40, "none").complete.astype(np.uint8)


def write(folder: Path, role: str, method: str, seed: int) -> Path:
    """Write a shape, or the scan or the labels of a segmentation."""
    values, kind = skull(seed), "labels"
    if method == "sparse_segmentation":
        noise = np.random.default_rng(seed).normal(0, 10, values.shape)
        scan = (50 * values + noise).astype(np.float32)
        values, kind = (scan, "image") if role == "source" else (1 + values, kind)
    volume = Volume(values, "ZYX", (1.0,) * 3, "mm")
    return io.write(volume, folder / f"{role}.tif", kind=kind, overwrite=True)


def job_of(method: str, folder: Path, steps: int = 3) -> ShapeTrainJob:
    training = {
        "source": (write(folder, "source", method, 1),), "steps": steps, "patch": 16,
        "channels": (2, 3), "threads": 1, "device": "cpu", "name": "made",
    }  # fmt: skip
    if method == "sparse_segmentation":
        training["target"] = (write(folder, "target", method, 1),)
    return ShapeTrainJob.from_values({"method": method, "training": training})


def train(job: ShapeTrainJob, folder: Path, *, stop: bool = False) -> Path | None:
    """Train, or stop after the first training step; return the path of the model."""
    has_begun = False
    asked = itertools.count()

    def observe(step: Step) -> None:
        nonlocal has_begun
        if isinstance(step, StageStarted) and step.message.startswith("Training"):
            has_begun = True

    steps = train_shape_steps(
        job, folder, should_stop=lambda: stop and has_begun and next(asked) >= 1
    )
    return run_to_end(steps, observe)


@pytest.mark.parametrize(("method", "role"), EACH)
def test_training_is_not_resumed_with_other_files(
    method: str, role: str, tmp_path: Path
) -> None:
    job, folder = job_of(method, tmp_path), tmp_path / "job"
    assert train(job, folder, stop=True) is None
    assert (folder / "checkpoints" / "latest.pt").exists()
    replaced = write(tmp_path, role, method, 2)
    with pytest.raises(FileError, match=rf"{role}\.tif has changed.*its contents"):
        train(job, folder)
    replaced.unlink()
    write(tmp_path, role, method, 1)
    assert train(job, folder) is not None


def test_that_a_file_changed_comes_before_its_other_faults(tmp_path: Path) -> None:
    job, folder = job_of("shape_sr", tmp_path), tmp_path / "job"
    train(job, folder, stop=True)
    empty = Volume(np.zeros((40,) * 3, np.uint8), "ZYX", (1.0,) * 3, "mm")
    io.write(empty, tmp_path / "source.tif", kind="labels", overwrite=True)
    with pytest.raises(FileError, match=r"source\.tif has changed"):
        train(job, folder)


@pytest.mark.parametrize(("method", "role"), EACH[1:])
def test_a_file_that_changes_during_the_training_is_told_at_once(
    method: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(file_state, "_INTERVAL_FACTOR", 0.0)
    job = job_of(method, tmp_path, steps=1)
    steps: list[Step] = []
    for step in train_shape_steps(job, tmp_path / "job"):
        steps.append(step)
        if isinstance(step, StageStarted) and step.message.startswith("Training"):
            write(tmp_path, role, method, 2)
    kinds = [type(step) for step in steps]
    told = [
        i
        for i, step in enumerate(steps)
        if isinstance(step, WarningIssued) and f"{role}.tif was changed" in step.message
    ]
    assert len(told) == 1
    assert told[0] < kinds.index(CheckpointSaved)
    (made,) = (tmp_path / "job" / "result").iterdir()
    record = bundle.load(made).card.provenance
    assert f"{role}.tif was changed" in record["source_change"]
