"""The rotation axis can be spelled in two ways, which are the same in all commands."""

from __future__ import annotations

import json

import pytest

from napari_geosr.cli.app import run


@pytest.mark.parametrize(
    "command",
    [
        "reconstruct",
        "study projections",
        "train noise2inverse",
        "train supervised",
        "train tomogan",
        "train ganrec",
    ],
)
def test_every_command_takes_both_spellings(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*command.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--center CHOICE|FLOAT" in said
    assert "--centre" not in said
    assert "Detector column of the rotation axis; 0 is the centre of the first" in said


@pytest.mark.parametrize("spelling", ["--center-offset", "--centre-offset"])
def test_so_does_the_simulator(spelling, tmp_path, capsys):
    words = ["simulate", "blobs", "--out", str(tmp_path), "--size", "16", "--rows", "2"]
    words += ["--projections", "6", spelling, "1.5", "--json"]
    assert run(words) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["provenance"]["settings"]["centre_offset"] == 1.5
