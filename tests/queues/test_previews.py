"""Previews of jobs: of what has been computed so far, also through ssh."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_ssh
import numpy as np
import pytest
import tifffile
from queue_helpers import submit

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError, JobError
from napari_geosr.core.steps import TileDone
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files import journal
from napari_geosr.jobs import previews
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import Elsewhere
from napari_geosr.jobs.run import run_steps

HOST = "me@login"


@pytest.fixture
def computer(new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another computer with the same folders, reached by a fake ssh."""
    folder = new_folder()
    home = folder / "home"
    home.mkdir()
    fake_ssh.install(folder, home)
    fake_ssh.put_program(folder)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture
def idle_oar(oar: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OAR that accepts jobs but never starts them."""
    text = '{"36000": {"state": "Running", "types": [], "resubmit_job_id": 0}}'
    (Path(os.environ["OAR_EMULATOR"]) / "jobs.json").write_text(text)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A scan with planes larger than a preview."""
    rng = np.random.default_rng(5)
    data = rng.normal(100, 10, (24, 600, 520)).astype(np.float32)
    volume = Volume(data, "ZYX", voxel_size=2.0, unit="µm")
    io.write(volume, tmp_path / "wide.ome.tif")
    return tmp_path / "wide.ome.tif"


@pytest.mark.usefixtures("idle_oar")
@pytest.mark.parametrize(
    "name", ["clean.ome.zarr", pytest.param("clean.ome.tif", marks=pytest.mark.slow)]
)
def test_the_finished_part_of_a_running_job_is_pulled(
    computer: Path,
    wide: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "_INTERVAL_FACTOR", 0.0)
    out = wide.with_name(name)
    words = ["restore", str(wide), "-m", "gaussian", "--memory", "150MB", "-o"]
    job = JobFolder(submit(capsys, *words, str(out), "--queue", "oar")["job"])
    place, here = Elsewhere(HOST, str(job.path)), wide.with_name("preview.tif")
    assert previews.fetch(place, here) is None  # nothing is finished
    assert not here.exists()
    steps, n_tiles = run_steps(job), 0
    for step in steps:
        n_tiles += isinstance(step, TileDone)
        if n_tiles == 3:
            break
    first = previews.fetch(place, here)
    assert first is not None
    assert here.stat().st_size < 600_000
    seen = io.read(here)
    assert seen.shape == (1, 300, 260)
    assert seen.voxel_size == (2.0, 4.0, 4.0)
    for _ in steps:
        pass
    z = round(seen.origin[0] / 2)
    expected = np.asarray(io.read(out).data)[z, ::2, ::2]
    found = np.asarray(seen.data)[0]
    # What was finished is the result; other voxels have no value.
    assert np.all((found == expected) | np.isnan(found))
    assert 0.01 < (found == expected).mean() < 1
    assert previews.fetch(place, here) != first
    np.testing.assert_array_equal(
        np.asarray(io.read(here).data)[0], np.asarray(io.read(out).data)[12, ::2, ::2]
    )


def test_the_preview_of_a_training_run_is_pulled(
    computer: Path, tmp_path: Path, capsys: Any
) -> None:
    values = {"operation": "train", "method": "noise2void", "training": {}}
    job = JobFolder.create(tmp_path / "job", values, name="m")
    out = tmp_path / "preview.tif"
    words = ["jobs", "preview", str(job.path), "-o", str(out), "--host", HOST]
    assert run(words) == 2
    assert "has no preview yet" in capsys.readouterr().err
    job.preview.parent.mkdir()
    data = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    io.write(Volume(data, "ZYX", voxel_size=3.0, unit="nm"), job.preview)
    assert run(words) == 0
    np.testing.assert_array_equal(tifffile.imread(out).reshape(8, 8), data[0])
    assert io.read(out).voxel_size == (3.0, 3.0, 3.0)
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words[:-2], "--overwrite"]) == 0  # without ssh


def restoring_job(tmp_path: Path) -> tuple[JobFolder, Volume]:
    """A job that restores a scan, and what it could have computed."""
    data = np.arange(512, dtype=np.float32).reshape(8, 8, 8)
    volume = Volume(data, "ZYX", voxel_size=2.0, unit="µm")
    io.write(volume, tmp_path / "scan.tif")
    values = {
        "operation": "restore",
        "name": "clean",
        "data": {"volume": str(tmp_path / "scan.tif")},
        "method": "gaussian",
        "out": str(tmp_path / "clean.tif"),
    }
    return JobFolder.create(tmp_path / "job", values, name="clean"), volume


def test_a_result_that_was_moved_is_named(tmp_path: Path, capsys: Any) -> None:
    job, volume = restoring_job(tmp_path)
    io.write(volume, tmp_path / "clean.tif")
    job.set_state("done")
    words = ["jobs", "preview", str(job.path), "-o", str(tmp_path / "seen.tif")]
    assert run(words) == 0
    (tmp_path / "clean.tif").rename(tmp_path / "moved.tif")
    assert run([*words, "--overwrite"]) == 2
    said = capsys.readouterr().err
    assert f"no longer at {tmp_path / 'clean.tif'}" in said
    assert "bug" not in said


def test_a_job_may_finish_while_its_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, volume = restoring_job(tmp_path)
    out = tmp_path / "clean.tif"
    io.write(volume, incomplete_path(out))
    read = previews.read_file

    def finish(path: Path, *more: Any) -> Volume:
        path.rename(out)
        job.set_state("done")
        return read(path, *more)

    monkeypatch.setattr(previews, "read_file", finish)
    found = previews.preview_of(job)
    assert found is not None
    np.testing.assert_array_equal(found.volume.data, volume.data[4:5])


def test_a_damaged_part_is_an_error(tmp_path: Path) -> None:
    job, _ = restoring_job(tmp_path)
    incomplete_path(tmp_path / "clean.tif").write_text("no image")
    with pytest.raises(FileError):
        previews.preview_of(job)


def test_a_study_has_no_preview(tmp_path: Path) -> None:
    values = {"operation": "study projections"}
    job = JobFolder.create(tmp_path / "job", values, name="s")
    with pytest.raises(JobError, match="has no preview"):
        previews.preview_of(job)


@pytest.mark.parametrize("text", ["", "{}", '{"stamp": 1, "tiff": "???"}', "[1]"])
def test_odd_answers_are_refused(computer: Path, tmp_path: Path, text: str) -> None:
    from napari_geosr.core.version import __version__

    program = f"#!/bin/sh\n[ $1 = --version ] && {{ echo {__version__}; exit; }}\n"
    fake_ssh.put_program(computer, f"{program}echo '{text}'\n")
    with pytest.raises(JobError, match="is not a preview"):
        previews.fetch(Elsewhere(HOST, "/bettik/job"), tmp_path / "preview.tif")
    assert not list(tmp_path.iterdir())
