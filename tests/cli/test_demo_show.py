"""``demo --show`` opens napari, whatever the current folder contains."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli import demo
from napari_geosr.cli.app import run
from napari_geosr.core.steps import (
    Step,
)
from napari_geosr.operations.demo import INPUTS, OUTPUTS, DemoResult


def no_demo(out: Path, **_: Any) -> Generator[Step, None, DemoResult]:
    class Report:
        porosity = 0.2

    reports: Any = {name: Report() for name in ("degraded", "restored", "truth")}
    files = {name: out / name for name in (*INPUTS, *OUTPUTS)}
    yield from ()
    return DemoResult(reports, files)


def test_files_beside_it_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []

    def asked(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        begun.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo, "demo_steps", no_demo)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "napari.py").write_text("print('a file of the folder')")
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "run", asked)
        assert run(["demo", "--show"]) == 0
    (command,) = begun
    assert command[-3:] == [
        str(Path("geosr-demo", f"{name}.ome.tif"))
        for name in ("truth", "scan", "result")
    ]
    end = command.index("napari") + 1
    said = subprocess.run(
        [*command[:end], "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("napari version")
