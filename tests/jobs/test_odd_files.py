"""Invalid data in one job do not affect listing, running or showing others."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError, JobError
from napari_geosr.core.steps import run_to_end
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_output_paths, foreign_files
from napari_geosr.jobs.run import run_steps
from napari_geosr.models import zoo

ODD: tuple[Any, ...] = (None, "x", [], {}, True, -1, 1e400, float("nan"), 10**400)
FIELDS = ("state", "pid", "started", "created", "updated", "done", "total", "host")


def make(folder: Path, name: str) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(folder / name, values, name=name)
    index.register(job)
    return job


@pytest.fixture
def bad(tmp_path: Path) -> JobFolder:
    return make(tmp_path, "bad")


@pytest.fixture
def good(tmp_path: Path) -> JobFolder:
    job = make(tmp_path, "good")
    job.set_state("paused", done=3, total=9)
    return job


def write(job: JobFolder, **facts: Any) -> None:
    (job.path / "job.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("value", ODD, ids=lambda v: repr(v)[:8])
def test_an_odd_fact_stops_no_list_and_no_queue(
    good: JobFolder, bad: JobFolder, value: Any
) -> None:
    usual = {"state": "queued", "pid": 1, "host": socket.gethostname(), "created": 1}
    for field in (*FIELDS, "name", "message", "result"):
        write(bad, **usual, **({} if field in usual else {field: value}))
        write(bad, **(usual | {field: value}))
        assert {s.path for s in index.list_jobs()} == {good.path, bad.path}, field
        assert run(["jobs", "list"]) == 0
        with local.turn(good) as wish:
            assert wish == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b'{"name": "x"}',
        b'{"state": 3}',
        b'{"state": "done"}' + b" " * 2_000_000,
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_damaged_state_is_kept_aside_when_the_job_goes_on(
    bad: JobFolder, content: bytes
) -> None:
    (bad.path / "job.json").write_bytes(content)
    again = JobFolder(bad.path)
    assert again.status().state == "damaged"
    assert again.status().can_resume
    assert "job.json is damaged" in again.status().message
    with again.hold():
        again.claim("running")
    assert again.status().state == "running"
    assert (bad.path / "job.json.damaged").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"state": 3, "place": "/"}'])
def test_a_damaged_job_keeps_its_name_folder_and_output(
    tmp_path: Path, content: bytes
) -> None:
    """A job with an output file outside its folder could otherwise not be resumed."""
    values = {"operation": "measure", "out": str(tmp_path / "report")}
    job = JobFolder.create(tmp_path / "folder", values, name="foam")
    before = job.status()
    (job.path / "job.json").write_bytes(content)
    again = JobFolder(job.path)
    assert again.status().state == "damaged"
    for _ in range(2):
        check_output_paths(again)
        assert again.status().name == "foam"
        assert again.status().created == before.created
        with again.hold():
            again.claim("running")
    assert foreign_files(job.path) == []
    copy = JobFolder(job.path.rename(tmp_path / "copy"))
    for damaged in (False, True):
        if damaged:
            (copy.path / "job.json").write_bytes(content)
        with pytest.raises(JobError, match="names an output outside the job folder"):
            check_output_paths(copy)


def test_settings_that_cannot_be_read_are_said(
    good: JobFolder, bad: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (
        "operation: [",
        "- 1",
        "operation: train\ntraining: 3",
        "a: 2026-13-45",
    ):
        (bad.path / "config.yaml").write_text(text)
        status = {s.path: s for s in index.list_jobs()}[bad.path]
        assert status.state == "unreadable", text
        assert "config.yaml" in status.message
        assert not status.can_resume
        with pytest.raises(JobError, match="config.yaml"):
            local.start(bad)
    assert run(["jobs", "list"]) == 0
    assert "unreadable" in capsys.readouterr().out
    assert run(["jobs", "show", str(bad.path)]) == 0
    assert "config.yaml" in capsys.readouterr().out
    assert index.find("good").path == good.path


@pytest.mark.skipif(os.name == "nt", reason="named pipes are POSIX")
@pytest.mark.parametrize("name", ["job.json", "queue.json", "queue_state.json"])
def test_a_pipe_or_folder_in_place_of_a_file_stops_no_list(
    good: JobFolder, bad: JobFolder, name: str
) -> None:
    path = bad.path / name
    for make_odd in (os.mkfifo, os.mkdir):
        path.unlink(missing_ok=True)
        make_odd(path)
        states = {s.path: s.state for s in index.list_jobs()}
        assert states[good.path] == "paused"
        assert states[bad.path] == ("damaged" if name == "job.json" else "queued")


@pytest.mark.parametrize("config", ["name: web\nport: 80\n", "operation: 3\n"])
@pytest.mark.parametrize("state", [None, '{"name": "web", "version": 2}', "{"])
def test_the_files_of_another_program_are_no_job(
    good: JobFolder,
    bad: JobFolder,
    capsys: pytest.CaptureFixture[str],
    config: str,
    state: str | None,
) -> None:
    (bad.path / "config.yaml").write_text(config)
    (bad.path / "job.json").unlink()
    if state is not None:
        (bad.path / "job.json").write_text(state)
    before = {p: p.read_bytes() for p in bad.path.iterdir()}
    status = {s.path: s for s in index.list_jobs()}[bad.path]
    assert status.state == "unreadable"
    assert not status.can_resume
    assert run(["jobs", "list"]) == 0
    assert f"note: {status.name}: {status.message}" in capsys.readouterr().err
    assert run(["jobs", "resume", str(bad.path)]) == 2
    # It is removed from the list, but the folder keeps everything.
    assert run(["jobs", "remove", str(bad.path)]) == 0
    assert "from the list" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in bad.path.iterdir()} == before
    assert [s.path for s in index.list_jobs()] == [good.path]
    assert run(["jobs", "remove", str(bad.path)]) == 2


def test_a_damaged_job_leaves_the_list_and_keeps_its_files(
    good: JobFolder, bad: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (bad.path / "job.json").write_text("{")
    assert run(["jobs", "list"]) == 0
    printed = capsys.readouterr()
    assert "damaged" in printed.out
    assert len([x for x in printed.err.splitlines() if "job.json is damaged" in x]) == 1
    assert run(["jobs", "remove", str(bad.path)]) == 0
    assert (bad.path / "config.yaml").exists()
    assert [s.path for s in index.list_jobs()] == [good.path]


def test_an_entry_that_is_no_path_is_passed_over(good: JobFolder) -> None:
    for i, content in enumerate([b"\0", b"\xff", b"~nobody-of-that-name/a", b""]):
        (index.index_folder() / f"{i}.path").write_bytes(content)
    assert [s.path for s in index.list_jobs()] == [good.path]


def test_odd_events_are_passed_over(
    good: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ("time", "event", "step")
    whole = {"time": 1.0, "event": "progress", "step": 1, "total": 9, "losses": {}}
    odd = [
        [1],
        {"time": 1.0},
        {"event": "stage", "message": "x"},
        {"time": 1.0, "event": ["stage"]},
        {"time": 1.0, "event": "preview"},
        {"time": 1.0, "event": "warning", "message": 3},
        *({k: v for k, v in whole.items() if k != field} for field in needed),
        *(whole | {"step": value} for value in ODD),
        *(whole | {"losses": value} for value in (None, 3, [1])),
    ]
    with (good.path / "events.jsonl").open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in odd)
        stream.write("[" * 100_000 + "\n")
    losses = {"loss": 0.5, "bad": None, "worse": "x", "nan": float("nan")}
    good.append("progress", step=2, total=9, losses=losses, watts="x", memory=[1])
    (event,) = good.events()[0]
    assert set(event["losses"]) == {"loss", "nan"}
    assert (event["step"], event["watts"], event["memory"]) == (2, None, None)
    assert run(["jobs", "show", str(good.path)]) == 0
    assert run(["jobs", "watch", str(good.path)]) == 0
    assert "0.5" in capsys.readouterr().out


def test_facts_that_cannot_be_read_now_are_not_lost(
    good: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (good.path / "job.json").read_text()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "used by another process")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_RETRY_SECONDS", 0.05)
        patch.setattr("napari_geosr.jobs.facts.read_document", refuse)
        with pytest.raises(FileError, match=r"job\.json cannot be read"):
            good.send_heartbeat(done=5)
        status = good.status()
        assert (status.state, status.can_resume) == ("unreadable", False)
        assert "used by another process" in status.message
    assert good.status().state == "paused"
    assert (good.path / "job.json").read_text() == before


@pytest.mark.parametrize(
    "named", ["/etc/passwd", "../../etc", "result/link", "~", "a\0"]
)
def test_a_result_outside_of_the_folder_is_not_taken(
    bad: JobFolder, good: JobFolder, tmp_path: Path, named: str
) -> None:
    (bad.path / "result").mkdir()
    (bad.path / "result" / "link").symlink_to(tmp_path)
    write(bad, state="done", result=named, created=1)
    status = bad.status()
    if named == "~":  # a plain name
        assert status.result == bad.path / "~"
        return
    assert status.result is None
    assert "outside the job folder" in status.message
    assert {s.path for s in index.list_jobs()} == {good.path, bad.path}


def test_the_model_that_a_training_began_with_may_be_its_result(
    bad: JobFolder, tmp_path: Path
) -> None:
    model = zoo.find("foam-denoise").path
    write(bad, state="done", result=str(model), created=1)
    for other in (None, "", "no-such-model", "ct-denoise"):
        with bad.hold():
            bad.replace_values(
                {"operation": "train", "training": {"from_model": other}}
            )
        assert bad.status().result is None
    with bad.hold():
        bad.replace_values(
            {"operation": "train", "training": {"from_model": "foam-denoise"}}
        )
    assert bad.status().result == model
    mine = tmp_path / "elsewhere" / "mine"
    shutil.copytree(model, mine)
    write(bad, state="done", result=str(mine), created=1)
    assert bad.status().result is None
    values = {"operation": "train", "training": {"from_model": str(mine)}}
    with bad.hold():
        bad.replace_values(values)
    assert bad.status().result == mine
    (mine / "card.yaml").unlink()
    assert bad.status().result is None


def test_a_job_of_others_writes_nothing_outside_of_its_folder(
    bad: JobFolder, tmp_path: Path
) -> None:
    with bad.hold():
        bad.replace_values(
            {
                "operation": "train from projections",
                "scans": {"restore": str(tmp_path / "thesis.tif"), "overwrite": True},
            }
        )
    check_output_paths(bad)  # its creator wanted it there
    shutil.move(bad.path, tmp_path / "moved")
    with pytest.raises(JobError, match="outside the job folder"):
        run_to_end(run_steps(JobFolder(tmp_path / "moved")))
    inside = {"restore": str(tmp_path / "moved" / "denoised.ome.tif")}
    moved = JobFolder(tmp_path / "moved")
    with moved.hold():
        moved.replace_values({"operation": "train from projections", "scans": inside})
    check_output_paths(moved)


def test_a_job_whose_result_is_a_link_is_not_run(
    bad: JobFolder, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bad.path / "result").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JobError, match="result is a link"):
        run_to_end(run_steps(bad))
    assert not list((tmp_path / "elsewhere").iterdir())
