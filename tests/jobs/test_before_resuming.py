"""Checks before a job is resumed: its files, its model and its environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.cli.jobs import manage
from napari_geosr.core.errors import CommandMissingError, ConfigError, JobError
from napari_geosr.core.steps import Step, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.cluster import queue_record, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import missing_inputs
from napari_geosr.jobs.queues import slurm
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobFolder:
    """A restoration that was interrupted in a queue, to which nothing is submitted."""
    scan = tmp_path / "scan.tif"
    scan.touch()
    values = {
        "operation": "restore",
        "method": "tv",
        "name": "job",
        "data": {"volume": str(scan)},
        "settings": {"model": "tv"},
    }
    made = JobFolder.create(tmp_path / "job", values, name="job")
    queue_record.write_record(made.path, QueueRecord("slurm", "SLURM", profile={}))
    made.set_state("interrupted", done=2, total=4)
    monkeypatch.setattr(slurm, "call", lambda *_, **__: pytest.fail("submitted"))
    return made


@pytest.mark.parametrize("more", [[], ["--detach"], ["--queue", "local"]])
def test_a_job_is_not_resumed_without_its_scan(
    job: JobFolder, tmp_path: Path, capsys: Any, more: list[str]
) -> None:
    (tmp_path / "scan.tif").unlink()
    assert run(["jobs", "resume", str(job.path), *more]) == 2
    said = capsys.readouterr().err
    assert f"The job needs {tmp_path / 'scan.tif'}, which no longer exists" in said
    assert "Put the same file back" in said
    with pytest.raises(JobError, match="no longer exists"):
        submission.submit(job, Profile(queue="slurm"))
    assert job.status().state == "interrupted"


@pytest.mark.parametrize("model", ["/mine/other", "other"])
def test_a_job_is_not_resumed_without_its_model(
    job: JobFolder, capsys: Any, model: str
) -> None:
    job.replace_values({**job.values(), "settings": {"model": model}})
    assert run(["jobs", "resume", str(job.path)]) == 2
    assert model in capsys.readouterr().err
    assert job.status().state == "interrupted"


@pytest.fixture(scope="module")
def stopped(new_folder: Callable[[], Path]) -> JobFolder:
    """A restoration that was paused after its first tile."""
    folder = new_folder()
    scan = folder / "scan.ome.tif"
    write_scan(scan, seed=0)
    job = RestoreJob(
        name="clean",
        data=RestoreInput(volume=scan),
        settings=RestoreConfig.create(model="gaussian", memory="70MB", threads=1),
        out=folder / "clean.ome.zarr",
    )
    made = JobFolder.create(folder / "clean.job", job.to_values(), name="clean")
    tiles: list[TileDone] = []

    def keep(step: Step) -> None:
        tiles.extend([step] if isinstance(step, TileDone) else [])

    run_to_end(run_steps(made, should_stop=lambda: bool(tiles)), keep)
    assert made.status().state == "paused"
    return made


def write_scan(path: Path, seed: int) -> None:
    data = np.random.default_rng(seed).normal(0.8, 0.1, (48, 96, 64))
    volume = Volume(data.astype(np.float32), "ZYX", (2.0,) * 3, "µm", name="scan")
    io.write(volume, path, overwrite=True)


def test_a_job_is_not_resumed_with_another_scan(
    stopped: JobFolder, capsys: Any
) -> None:
    scan = stopped.path.with_name("scan.ome.tif")
    write_scan(scan, seed=1)
    for more in ([], ["--detach"], ["--queue", "slurm"]):
        assert run(["jobs", "resume", str(stopped.path), *more]) == 2
        said = capsys.readouterr().err
        assert f"a different input ({scan} has changed since then)" in said
        assert "Put the original file back" in said
    assert stopped.status().state == "paused"
    # The process that resumes it names the file as well.
    with pytest.raises(ConfigError, match="has changed since then"):
        run_to_end(run_steps(stopped))
    write_scan(scan, seed=0)
    assert run(["jobs", "resume", str(stopped.path)]) == 0


def test_names_and_finished_parts_are_not_inputs(tmp_path: Path) -> None:
    values = {
        "name": "/a/b",
        "part": "/a/part.zarr",
        "dataset": "/exchange/data",
        "series": [str(tmp_path / "*.tif")],
    }
    assert missing_inputs(values) == [str(tmp_path / "*.tif")]
    (tmp_path / "1.tif").touch()
    assert missing_inputs(values) == []


def test_the_environment_of_a_job_that_leaves_its_queue_is_named(
    job: JobFolder, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manage.local, "start", lambda _job: 7)
    for more in (["--detach"], ["--queue", "local", "--detach"]):
        assert run(["jobs", "resume", str(job.path), *more]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert f"resumed on this computer with {sys.executable} (napari-geosr" in said
        assert "job was submitted to SLURM" in said
    (job.path / queue_record.RECORD).unlink()
    assert run(["jobs", "resume", str(job.path), "--detach"]) == 0
    assert capsys.readouterr().err == ""


def test_patterns_and_outputs_are_not_missing(tmp_path: Path) -> None:
    """A folder may have any name, and the restored scan does not exist yet."""
    folder = tmp_path / "scan[1]"
    folder.mkdir()
    (folder / "a1.tif").touch()
    for pattern in ("*.tif", "a?.tif", "a[12].tif"):
        assert missing_inputs({"volume": str(folder / pattern)}) == []
    nothing = str(folder / "b*.tif")
    assert missing_inputs({"volume": nothing}) == [nothing]
    assert missing_inputs({"scans": {"restore": str(tmp_path / "few.tif")}}) == []


def test_a_queue_that_is_not_installed_here_is_not_recorded(tmp_path: Path) -> None:
    """Other computers that share the folder may have it."""
    queue_record.write_problem(tmp_path, CommandMissingError("SLURM is not here."))
    assert queue_record.read_state(tmp_path).problem == ""
    queue_record.write_problem(tmp_path, JobError("SLURM does not respond."))
    assert queue_record.read_state(tmp_path).problem == "SLURM does not respond"
