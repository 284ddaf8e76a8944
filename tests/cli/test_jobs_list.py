"""``jobs list`` on a terminal with 80 columns, and the message after Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run
from napari_geosr.cli.kit.console import run_command
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a long path of folders of a person" / "mine-with-a-long-name"
    values = {"operation": "train", "method": "neighbor2neighbor", "training": {}}
    job = JobFolder.create(path, values, name="foam-denoise-and-more")
    job.set_state("finishing", done=100_000, total=100_000)
    index.register(job)
    return path


def test_a_job_is_one_line_on_a_narrow_terminal(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = os.terminal_size((80, 24))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda **_: size)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["jobs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert "foam-denois…" in lines[1]
    assert "judging" in lines[1]
    assert "100000/100000" in lines[1]
    assert lines[1].endswith("-name")


def test_nothing_is_cut_short_in_a_file(folder: Path, capsys: Any) -> None:
    assert run(["jobs", "list"]) == 0
    listed = capsys.readouterr().out
    assert "foam-denoise-and-more" in listed
    assert str(folder) in listed


def test_ctrl_c_says_what_it_stops(capsys: Any) -> None:
    def steps(should_stop: Any) -> Any:
        yield from ()
        signal.raise_signal(signal.SIGINT)
        return should_stop()

    assert run_command(steps, stopping="stopping after this step …")[0] is True
    assert "stopping after this step …" in capsys.readouterr().err
    run_command(steps)
    assert "after this tile" in capsys.readouterr().err
