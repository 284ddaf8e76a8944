"""Job folders: states, requests, events."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_geosr.core.errors import FileError, JobError
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import foreign_files


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder.create(tmp_path / "job", {"operation": "train"}, name="foam")


def test_a_new_job_waits(job: JobFolder) -> None:
    status = job.status()
    assert (status.state, status.name, status.operation) == ("queued", "foam", "train")
    assert status.is_alive
    assert not status.can_resume


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(FileError, match="not empty"):
        JobFolder.create(tmp_path, {}, name="a")
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_some_folder_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="not a job folder"):
        JobFolder(tmp_path)


def test_a_process_that_is_gone_makes_it_interrupted(job: JobFolder) -> None:
    host = socket.gethostname()
    mine = psutil.Process()
    job.set_state("running", pid=os.getpid(), host=host, started=mine.create_time())
    assert job.status().state == "running"
    # The process number is in use, but by another process.
    job.set_state("running", pid=os.getpid(), host=host, started=1.0)
    assert job.status().state == "interrupted"
    assert job.status().can_resume


def test_a_job_elsewhere_lives_as_long_as_it_beats(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.set_state("running", pid=1, host="node7", started=0.0)
    assert job.status().state == "running"
    facts: dict[str, Any] = json.loads((job.path / "job.json").read_text())
    facts["updated"] -= 1000
    (job.path / "job.json").write_text(json.dumps(facts))
    assert job.status().state == "interrupted"


def test_requests_come_and_go(job: JobFolder) -> None:
    assert job.pending_request() == ""
    job.request("pause")
    assert job.pending_request() == "pause"
    job.clear_request()
    assert job.pending_request() == ""


def test_events_are_read_from_where_one_stopped(job: JobFolder) -> None:
    job.append("progress", step=1)
    first, offset = job.events()
    job.append("progress", step=2)
    second, _ = job.events(offset)
    assert [e["step"] for e in first + second] == [1, 2]


def test_a_line_cut_by_a_kill_spoils_no_other(job: JobFolder) -> None:
    job.append("progress", step=1)
    with (job.path / "events.jsonl").open("ab") as stream:
        stream.write(b'{"event": "progr')
    found, offset = job.events()
    assert [e["step"] for e in found] == [1]
    job.append("progress", step=2)
    found, _ = job.events(offset)
    assert [e["step"] for e in found] == [2]


def test_jobs_are_found_by_name_and_by_folder(
    job: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "index_folder", lambda: tmp_path / "state")
    index.register(job)
    assert index.find("foam").path == job.path
    assert index.find(job.path).path == job.path
    other = JobFolder.create(tmp_path / "other", {"operation": "train"}, name="foam")
    index.register(other)
    with pytest.raises(JobError, match="Several"):
        index.find("foam")
    index.forget(other.path)
    assert index.find("foam").path == job.path
    with pytest.raises(JobError, match="There is no job"):
        index.find("bar")


def test_who_has_seen_a_job_writes_no_state(tmp_path: Path) -> None:
    """Its process may write ``job.json`` at the same moment."""
    job = JobFolder.create(tmp_path / "job", {"operation": "train"}, name="job")
    job.set_state("paused")
    before = (job.path / "job.json").read_bytes()
    assert not job.status().seen
    job.set_seen()
    assert job.status().seen
    assert (job.path / "job.json").read_bytes() == before
    assert foreign_files(job.path) == []
    with job.hold():
        job.claim("running")  # nobody has seen its new result
    assert not job.status().seen
