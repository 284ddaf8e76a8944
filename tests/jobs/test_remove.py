"""Only what is a job for certain is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.errors import JobError
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder


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
