"""``jobs list`` on a terminal with 80 columns, and the message after Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run
from napari_geosr.cli.kit.console import run_command
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.jobs import index
from napari_geosr.jobs import run as run_module
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps


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


def test_the_warnings_of_a_finished_job_are_shown(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobFolder(folder)

    def steps(*_: object) -> Any:
        yield WarningIssued(message="The scan is noisy.")
        yield WarningIssued(message="The walltime is short.")
        return folder / "result"

    monkeypatch.setattr(run_module, "_operation", steps)
    job.append("warning", message="The scan is noisy.")  # by an earlier run
    run_to_end(run_steps(job))
    assert run(["jobs", "list"]) == 0
    assert "done, 2 warnings  " in capsys.readouterr().out
    assert run(["jobs", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "warning      The scan is noisy.\n" in shown
    assert shown.count("warning  ") == 2
    assert run(["jobs", "show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == job.warnings()


def test_ctrl_c_says_what_it_stops(capsys: Any) -> None:
    def steps(should_stop: Any) -> Any:
        yield from ()
        signal.raise_signal(signal.SIGINT)
        return should_stop()

    assert run_command(steps, stopping="stopping after this step …")[0] is True
    assert "stopping after this step …" in capsys.readouterr().err
    run_command(steps)
    assert "after this tile" in capsys.readouterr().err
