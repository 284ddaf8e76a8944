"""A job does not claim a result that a later job has overwritten."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder


def finished(folder: Path, out: Path, operation: str = "restore") -> JobFolder:
    values = {"operation": operation, "method": "tv", "out": str(out)}
    job = JobFolder.create(folder, values, name=folder.stem)
    job.set_state("done", result=str(out))
    index.register(job)
    return job


@pytest.fixture
def two(tmp_path: Path) -> tuple[JobFolder, JobFolder]:
    """Two jobs that have written the same file, one after the other."""
    out = tmp_path / "clean.ome.tif"
    out.touch()
    first = finished(tmp_path / "clean.job", out)
    time.sleep(0.01)
    return first, finished(tmp_path / "clean-2.job", out)


def test_only_the_last_job_claims_the_result(
    two: tuple[JobFolder, JobFolder], capsys: Any
) -> None:
    first, last = two
    assert run(["jobs", "list"]) == 0
    printed = capsys.readouterr()
    states = {line.split()[0]: "done, overwritten" in line for line in lines(printed)}
    assert (states["clean"], states["clean-2"]) == (True, False)
    text = f"was overwritten by a later job, clean-2 in {last.path}"
    assert text in " ".join(printed.err.split())
    for verb in ("show", "watch"):
        assert run(["jobs", verb, str(first.path)]) == 0
        printed = capsys.readouterr()
        assert text in printed.out + printed.err
        assert run(["jobs", verb, str(last.path)]) == 0
        printed = capsys.readouterr()
        assert "overwritten" not in printed.out + printed.err


def lines(printed: Any) -> list[str]:
    return [line for line in printed.out.splitlines()[1:] if ".job" in line]


def test_jobs_without_a_common_result_are_not_mentioned(
    two: tuple[JobFolder, JobFolder], tmp_path: Path
) -> None:
    first, last = two
    last.set_state("failed")
    assert index.later_writer(first.status()) is None
    # Two training runs without improvement return the model from which they started.
    trained = [finished(tmp_path / name, tmp_path, "train") for name in "ab"]
    assert index.later_writers([job.status() for job in trained]) == {}
