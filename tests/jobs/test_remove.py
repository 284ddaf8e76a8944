"""Only folders that are certainly jobs are deleted, and only files of the job."""

from __future__ import annotations

import errno
import json
import lzma
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files.hidden import temporary_sibling
from napari_geosr.io.unfinished_files.journal import journal_of, written_by_job
from napari_geosr.jobs import index, kinds
from napari_geosr.jobs.__main__ import main
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.kinds import describe_resume
from napari_geosr.jobs.run import run_steps


@pytest.mark.parametrize(
    "job_json",
    [None, "", "{}", "[1]", '{"name": "project"}', '{"state": "odd", "created": 1}'],
)
def test_a_project_with_a_config_file_is_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], job_json: str | None
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("operation: train\n")
    (project / "precious.tif").write_text("x")
    if job_json is not None:
        (project / "job.json").write_text(job_json)
    before = sorted(project.iterdir())
    assert run(["jobs", "remove", str(project)]) == 2
    assert "not deleted" in capsys.readouterr().err
    assert sorted(project.iterdir()) == before


@pytest.mark.parametrize("words", [("resume",), ("resume", "--detach"), ("cancel",)])
def test_a_project_with_a_config_file_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    project = tmp_path / "project"
    (project / "checkpoints").mkdir(parents=True)
    (project / "config.yaml").write_text("operation: train\nmethod: noise2void\n")
    before = sorted(project.rglob("*"))
    assert run(["jobs", words[0], str(project), *words[1:]]) == 2
    if words[0] == "resume":
        assert "is not a job folder" in capsys.readouterr().err
    with pytest.raises(JobError):
        run_to_end(run_steps(JobFolder(project)))
    assert main(str(project)) == 2
    assert sorted(project.rglob("*")) == before
    assert index.list_jobs() == []


def test_a_missing_folder_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(str(tmp_path / "missing")) == 2
    assert "missing is not a job folder" in capsys.readouterr().err


def test_a_job_without_an_operation_is_not_deleted(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "job", {"colour": "red"}, name="a")
    job.set_state("paused")
    with pytest.raises(JobError, match="not deleted"):
        index.remove(job)
    assert job.path.is_dir()


def test_a_job_goes_with_all_that_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = JobFolder.create(tmp_path / "job", {"operation": "train"}, name="a")
    index.register(job)
    job.set_state("failed", message="x")
    assert run(["jobs", "remove", str(job.path)]) == 0
    assert "Removed" in capsys.readouterr().out
    assert not job.path.exists()
    assert index.list_jobs() == []


def test_a_result_outside_the_folder_is_kept_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean.ome.tif"
    values = {"operation": "restore", "out": str(out)}
    job = JobFolder.create(tmp_path / "clean.job", values, name="clean")
    job.set_state("done")
    out.write_text("x")
    assert run(["jobs", "remove", str(job.path)]) == 0
    assert f"Its result is kept: {out}\n" in capsys.readouterr().out
    assert out.exists()


@pytest.fixture
def shared(tmp_path: Path) -> JobFolder:
    """A job with files of the user and of the job in its folder."""
    job = JobFolder.create(tmp_path / "job", {"operation": "train"}, name="a")
    job.set_state("failed", message="x")
    job.append("stage", message="x")
    own = (
        "checkpoints/latest.pt",
        "previews/latest.tif",
        "result/a/card.yaml",
        "result/a/weights.safetensors",
        "data/source_1_scan.ome.zarr/0/c/0/0/0",
        "log.txt",
        "previews/.latest.0a1b2c3d.partial.tif",
    )
    others = (
        "thesis.docx",
        "result/a/notes.txt",
        "data/raw/scan.raw",
        # Names that other kinds of jobs write, or that only resemble those of a job.
        "result/my_mask.ome.tif",
        "result/models/paper.docx",
        "previews/figure.tif",
        ".thesis.partial.docx",
    )
    for name in (*own, *others):
        (job.path / name).parent.mkdir(parents=True, exist_ok=True)
        (job.path / name).write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious.tif").write_text("x")
    (job.path / "link").symlink_to(tmp_path / "elsewhere")
    return job


FOREIGN = [
    ".thesis.partial.docx",
    "data/raw/scan.raw",
    "link",
    "previews/figure.tif",
    "result/a/notes.txt",
    "result/models/paper.docx",
    "result/my_mask.ome.tif",
    "thesis.docx",
]


def test_files_of_others_are_named_and_nothing_is_deleted(
    shared: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(shared.path.rglob("*"))
    assert run(["jobs", "remove", str(shared.path)]) == 2
    said = capsys.readouterr().err
    assert (
        "not part of the job: .thesis.partial.docx, data/raw/scan.raw, link and 5 more"
        in said
    )
    assert "--force" in said
    assert sorted(shared.path.rglob("*")) == before


def test_files_of_others_stay_where_they_are(
    shared: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    index.register(shared)
    assert run(["jobs", "remove", str(shared.path), "--force"]) == 0
    assert "kept .thesis.partial.docx, data/raw/scan.raw" in capsys.readouterr().out
    left = [p for p in shared.path.rglob("*") if not p.is_dir() or p.is_symlink()]
    assert sorted(p.relative_to(shared.path).as_posix() for p in left) == FOREIGN
    assert (shared.path / "link" / "precious.tif").read_text() == "x"
    assert index.list_jobs() == []


def test_what_jobs_of_earlier_releases_wrote_is_their_own(tmp_path: Path) -> None:
    stored = Path(__file__).parents[1] / "golden" / "folders.tar.xz"
    with tarfile.open(fileobj=lzma.open(stored)) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safe)
    found = [path.parent for path in tmp_path.rglob("job.json")]
    assert len(found) > 3
    for folder in found:
        given = [path for path in foreign_files(folder) if path.parts[0] != "data"]
        assert not given, folder.name


@pytest.fixture
def interrupted(tmp_path: Path) -> JobFolder:
    """A restoration to a file next to its folder, stopped by the user."""
    out = tmp_path / "clean.ome.zarr"
    values = {"operation": "restore", "name": "clean", "out": str(out)}
    job = JobFolder.create(tmp_path / "clean.job", values, name="clean")
    record = {"operation": "restore", "complete": False, "finished": []}
    volume = Volume(np.zeros((4, 8, 8), np.float32), "ZYX", provenance=(record,))
    with written_by_job(job.path):
        io.write(volume, incomplete_path(out))
    job.set_state("paused")
    return job


@pytest.mark.parametrize("was_killed", [False, True])
def test_the_unfinished_result_goes_with_its_job(
    interrupted: JobFolder, capsys: pytest.CaptureFixture[str], was_killed: bool
) -> None:
    job, parent = interrupted, interrupted.path.parent
    (stopped,) = parent.glob("clean.incomplete.ome.zarr")
    part = stopped
    if was_killed:
        # A killed run leaves a hidden file and a journal that names the job.
        part = temporary_sibling(parent / "clean.ome.zarr", ".ome.zarr")
        stopped.rename(part)
        entry = {"boxes": [], "pid": 1, "host": "node1", "job": str(job.path)}
        journal_of(part).write_text(json.dumps(entry))
        other = temporary_sibling(parent / "clean.ome.zarr", ".ome.zarr")
        other.mkdir()
        journal_of(other).write_text(json.dumps({**entry, "job": "/another.job"}))
    assert run(["jobs", "remove", str(job.path)]) == 0
    assert f"Removed the unfinished result {part}" in capsys.readouterr().out
    left = {path.name for path in parent.iterdir()}
    assert left == ({other.name, journal_of(other).name} if was_killed else set())


def test_a_job_resumes_from_its_own_unfinished_result(
    interrupted: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, parent = interrupted, interrupted.path.parent
    resumes = "resumes from the finished tiles"
    assert describe_resume("restore", job.path) == resumes

    def not_connected(*_: object) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    with monkeypatch.context() as context:
        context.setattr(kinds, "is_recorded", not_connected)
        assert describe_resume("restore", job.path) == resumes
    part = temporary_sibling(parent / "clean.ome.zarr", ".ome.zarr")
    (parent / "clean.incomplete.ome.zarr").rename(part)
    begins = "starts again from the beginning"
    assert describe_resume("restore", job.path) == begins
    entry = {"boxes": [[[0, 4]] * 3], "pid": 1, "host": "node1"}
    for owner, words in (("/another.job", begins), (str(job.path), resumes)):
        journal_of(part).write_text(json.dumps({**entry, "job": owner}))
        assert describe_resume("restore", job.path) == words


def test_results_of_others_are_kept(interrupted: JobFolder) -> None:
    """A finished result, and what a later run to the same output has finished."""
    job, parent = interrupted, interrupted.path.parent
    part = parent / "clean.incomplete.ome.zarr" / "zarr.json"
    os.utime(part, (later := time.time() + 60, later))
    (parent / "clean.ome.zarr").mkdir()
    index.remove(job)
    assert {path.name for path in parent.iterdir()} == {
        "clean.ome.zarr",
        "clean.incomplete.ome.zarr",
    }
