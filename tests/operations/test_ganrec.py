"""GANrec as a job: an aligned volume, previews, stopping, killing, exact resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import (
    CheckpointSaved,
    PreviewReady,
    Step,
    TrainingProgress,
    run_to_end,
)
from napari_geosr.io.projections import write_projections
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.learning.training import checkpoint
from napari_geosr.operations.ganrec import GanrecConfig, GanrecJob, ganrec_steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def few(foam_scan: Callable[..., Any]) -> Any:
    return foam_scan(shape=(6, 24, 24), projections=20, photons=1e5)


def job_of(few: Any, **settings: Any) -> GanrecJob:
    quick = {"steps": 6, "features": 4, "together": 2, "device": "cpu", "threads": 1}
    given = {"projections": few.path, "centre": (few.scan.n_columns - 1) / 2}
    return GanrecJob(training=GanrecConfig.create(**(quick | given | settings)))


def folder_of(job: GanrecJob, path: Path) -> JobFolder:
    return JobFolder.create(path, job.to_values(), name=job.training.name)


def test_a_job_ends_in_a_volume_in_its_place(few: Any, tmp_path: Path) -> None:
    folder = folder_of(job_of(few), tmp_path / "job")
    seen: list[Step] = []
    path = run_to_end(run_steps(folder), seen.append)
    volume = io.read(folder.path / "result" / "ganrec.ome.tif")
    assert path == volume.source
    assert volume.shape == (6, few.scan.n_columns, few.scan.n_columns)
    assert volume.voxel_size == (2, 2, 2)
    assert volume.unit == "µm"
    assert np.isfinite(np.asarray(volume.data)).all()
    record = volume.provenance[-1]
    assert record["operation"] == "ganrec"
    assert record["inputs"]["input"]["checksum"].startswith("sha256")
    previews = [s.volume for s in seen if isinstance(s, PreviewReady)]
    assert previews[-1].origin[0] == 10  # slice 5, the middle of the last two
    last = np.asarray(volume.data)[5]
    assert np.asarray(previews[-1].data)[0] == pytest.approx(last)
    progress = [s for s in seen if isinstance(s, TrainingProgress)]
    assert (progress[-1].done, progress[-1].total) == (18, 18)
    assert {"projections", "critic"} <= progress[-1].losses.keys()
    assert not (folder.path / "slices").exists()


@pytest.mark.parametrize("stop_after", [4, 9])
def test_a_stopped_job_gives_the_same_numbers(
    few: Any, tmp_path: Path, stop_after: int
) -> None:
    whole = run_to_end(ganrec_steps(job_of(few), tmp_path / "whole"))
    folder = folder_of(job_of(few, checkpoint_seconds=1e-6), tmp_path / "parts")
    saved: set[int] = set()
    for step in run_steps(folder, should_stop=lambda: len(saved) >= stop_after):
        if isinstance(step, CheckpointSaved):
            saved.add(step.done)
    assert folder.status().state == "paused"
    assert 0 < folder.status().done < 18
    parts = run_to_end(run_steps(folder))
    ours, theirs = (np.asarray(io.read(path).data) for path in (parts, whole))
    assert np.array_equal(ours, theirs)


def test_a_killed_job_goes_on_from_its_checkpoint(few: Any, tmp_path: Path) -> None:
    whole = run_to_end(ganrec_steps(job_of(few), tmp_path / "whole"))
    job, folder = job_of(few, checkpoint_seconds=1e-6), tmp_path / "killed"
    steps = ganrec_steps(job, folder)
    for step in steps:
        if isinstance(step, CheckpointSaved) and step.done == 8:
            break
    steps.close()
    again = run_to_end(ganrec_steps(job, folder))
    ours, theirs = (np.asarray(io.read(path).data) for path in (again, whole))
    assert np.array_equal(ours, theirs)


def test_finished_early_all_slices_are_there(few: Any, tmp_path: Path) -> None:
    seen: list[int] = []
    steps = ganrec_steps(
        job_of(few),
        tmp_path,
        should_stop=lambda: bool(seen),
        keep_unfinished=lambda: True,
    )
    path = run_to_end(
        steps, lambda s: seen.append(s.done) if isinstance(s, PreviewReady) else None
    )
    assert path is not None
    volume = np.asarray(io.read(path).data)
    assert volume.shape[0] == 6
    assert volume.std(axis=(1, 2)).min() > 0


def begin(job: GanrecJob, folder: Path) -> None:
    """Fit up to the first checkpoint, and exit without cleaning up."""
    steps = ganrec_steps(job, folder)
    for step in steps:
        if isinstance(step, CheckpointSaved):
            break
    steps.close()


def test_other_settings_do_not_go_on(few: Any, tmp_path: Path) -> None:
    begin(job_of(few, checkpoint_seconds=1e-6), tmp_path)
    with pytest.raises(ConfigError, match="with a different seed: .* mix two"):
        run_to_end(ganrec_steps(job_of(few, seed=1), tmp_path))


def test_the_same_file_read_otherwise_does_not_go_on(few: Any, tmp_path: Path) -> None:
    begin(job_of(few, checkpoint_seconds=1e-6), tmp_path)
    other = job_of(few, angle_range=(0, 90))
    with pytest.raises(ConfigError, match="with different angles: .* mix two"):
        run_to_end(ganrec_steps(other, tmp_path))


def test_a_checkpoint_of_an_earlier_release_goes_on(few: Any, tmp_path: Path) -> None:
    begin(job_of(few, checkpoint_seconds=1e-6), tmp_path)
    state = checkpoint.load(tmp_path / "checkpoints")
    state["of"]["input"] = state["of"]["input"]["checksum"]
    checkpoint.save(tmp_path / "checkpoints", state)
    assert run_to_end(ganrec_steps(job_of(few), tmp_path)).exists()
    state["of"]["input"] = "sha256:of another file"
    checkpoint.save(tmp_path / "checkpoints", state)
    with pytest.raises(ConfigError, match="with a different input: "):
        run_to_end(ganrec_steps(job_of(few), tmp_path))


def test_the_command_says_where_the_volume_is(
    few: Any, tmp_path: Path, capsys: Any
) -> None:
    words = ["train", "ganrec", "--projections", str(few.path), "--rows", "2,3"]
    words += ["--steps", "2", "--features", "4", "--device", "cpu", "--center", "15.5"]
    assert run([*words, "--out", str(tmp_path / "job"), "--adversarial", "0"]) == 0
    out = capsys.readouterr().out
    assert f"Volume: {tmp_path / 'job' / 'result' / 'ganrec.ome.tif'}" in out
    assert run(["train", "ganrec", "--out", str(tmp_path / "b")]) == 2
    assert "Give the projections" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_cone_beam_is_refused(few: Any, tmp_path: Path) -> None:
    cone = few.scan.replace(
        geometry="cone", source_distance=500.0, detector_distance=100.0
    )
    path = write_projections(cone, tmp_path / "cone.h5")
    with pytest.raises(ConfigError, match="cone-beam scan"):
        job_of(few, projections=path).check()
