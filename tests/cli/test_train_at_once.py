"""A training run in the terminal does not wait for others, and reports this."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.steps import Step
from napari_geosr.jobs import index
from napari_geosr.jobs import run as jobs_run
from napari_geosr.jobs.folder import JobFolder


def make(folder: Path, name: str) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(folder / name, values, name=name)
    index.register(job)
    return job


@pytest.mark.parametrize("host", [socket.gethostname(), "node7"])
def test_another_job_on_this_machine_is_named(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def nothing(*_: Any) -> Iterator[Step]:
        yield Step(1, 2)

    monkeypatch.setattr(jobs_run, "_operation", nothing)
    started = psutil.Process().create_time()
    other, mine = make(tmp_path, "other"), make(tmp_path, "mine")
    other.set_state("running", pid=os.getpid(), host=host, started=started)
    mine.set_state("paused")
    assert run(["jobs", "resume", "mine", "--json"]) in (0, 130)
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    if host == "node7":
        assert warnings == []
    else:
        (sentence,) = warnings
        assert "other" in sentence
        assert "--detach" in sentence


def test_a_second_ctrl_c_says_how_to_go_on(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> Iterator[Step]:
        yield Step(7, 9)
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(jobs_run, "_operation", stopped)
    job = make(tmp_path, "mine")
    assert run(["jobs", "resume", "mine"]) == 130
    out, err = capsys.readouterr()
    assert "stopping after this step" in err
    assert (
        f"Stopped after step 7. Resume with: napari-geosr jobs resume {job.path}"
        in (out)
    )
    status = job.status()
    assert (status.state, status.can_resume) == ("interrupted", True)


def test_help_says_that_it_does_not_wait(capsys: Any) -> None:
    for words in (["train", "noise2noise"], ["jobs", "resume"]):
        assert run([*words, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "until other jobs have finished" in shown
