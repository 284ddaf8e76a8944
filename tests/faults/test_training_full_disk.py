"""A full disk ends training with a message or costs a preview, but loses no checkpoint.

``/dev/full`` behaves like a file on a full disk: every write fails.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from safetensors.numpy import load_file

from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import PreviewReady, WarningIssued, run_to_end
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.learning.training import checkpoint
from napari_geosr.models import bundle
from napari_geosr.operations.train import TrainJob, config_class

STEPS = 6
FULL = Path("/dev/full")
needs_a_full_disk = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="There is no /dev/full."
)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    rng = np.random.default_rng(0)
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(10, 40, 40)).astype(np.float32))
    config = config_class("noise2noise").create(
        source=scans[:1],
        target=scans[1:],
        name="m",
        steps=STEPS,
        batch_size=2,
        patch=24,
        layers=2,
        width=2,
        device="cpu",
        threads=1,
        checkpoint_seconds=1e-6,
    )
    made = TrainJob(method="noise2noise", training=config)
    return JobFolder.create(tmp_path / "job", made.to_values(), name="m")


def events(job: JobFolder, kind: str) -> list[dict[str, Any]]:
    return [e for e in job.events()[0] if e["event"] == kind]


def test_a_preview_without_room_costs_the_preview_alone(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_steps(job)
    while next(first).done < 2:
        pass
    first.close()
    before = job.preview.read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    steps = list(run_steps(job))
    assert len([s for s in steps if isinstance(s, PreviewReady)]) > 1
    assert job.preview.read_bytes() == before
    assert job.status().state == "done"
    told = [s.message for s in steps if isinstance(s, WarningIssued)]
    noted = [e["message"] for e in events(job, "warning")]
    for messages in (told, noted):
        # Reported once, however many previews are lost.
        (said,) = (text for text in messages if "preview" in text)
        assert said.startswith("Training continues without new previews. latest.tif")
        assert "Free some space" in said


@needs_a_full_disk
def test_events_without_room_end_it_with_a_sentence(job: JobFolder) -> None:
    path = job.path / "events.jsonl"
    steps = run_steps(job)
    for step in steps:
        if step.done >= 2:
            break
    known = path.read_bytes()
    path.unlink()
    path.symlink_to(FULL)
    with pytest.raises(FileError, match=r"events\.jsonl.* the disk of .* is full"):
        run_to_end(steps)
    status = job.status()
    assert status.state == "failed"
    assert "is full. Free some space" in status.message
    assert status.can_resume
    state = checkpoint.load(job.path / "checkpoints")
    assert state is not None
    assert state["step"] >= 2
    path.unlink()
    path.write_bytes(known)
    assert run_to_end(run_steps(job)) == job.path / "result" / "m"
    assert job.status().state == "done"


@needs_a_full_disk
@pytest.mark.parametrize("name", [bundle.WEIGHTS_FILE, bundle.CARD_FILE])
def test_a_model_without_room_is_made_when_there_is_some(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    usual = atomic.temporary_sibling

    def onto_full_disk(path: Path, suffix: str = "") -> Path:
        temporary = usual(path, suffix)
        if path.name == name:
            temporary.symlink_to(FULL)
        return temporary

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "temporary_sibling", onto_full_disk)
        with pytest.raises(FileError, match=f"{name}.* the disk of .* is full"):
            run_to_end(run_steps(job))
    status, folder = job.status(), job.path / "result" / "m"
    assert (status.state, status.result) == ("failed", None)
    assert f"{name} could not be written" in status.message
    assert list(folder.iterdir()) == []
    state = checkpoint.load(job.path / "checkpoints")
    assert state is not None
    assert state["step"] == STEPS
    assert run_to_end(run_steps(job)) == folder
    bundle.verify(folder)
    made = load_file(folder / bundle.WEIGHTS_FILE)
    for key, values in state["average"].items():
        np.testing.assert_array_equal(made[key], values.numpy())
