"""Training on volumes that are simulated while they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.cli.app import run

SETTINGS = """
method: noise2noise
training:
  name: tiny
  source: ["simulated:fluo:0-3"]
  target: ["simulated:fluo-again:0-3"]
  steps: 4
  batch_size: 2
  patch: 24
  layers: 2
  width: 2
  normalisation: volume
  device: cpu
  threads: 1
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.yaml").write_text(SETTINGS)
    return tmp_path / "train.yaml"


def train(*more: str) -> int:
    words = ["train", "noise2noise", "--config", "train.yaml", "--out", "job"]
    return run([*words, *more])


def test_a_config_says_all_about_the_data(config: Path, capsys: Any) -> None:
    assert train("--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["warnings"] == []
    model = config.parent / "job" / "result" / "tiny"
    assert run(["models", "verify", str(model)]) == 0
    capsys.readouterr()
    assert run(["models", "show", str(model), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    record = card["provenance"]
    assert record["settings"]["training"]["source"] == ["simulated:fluo:0-3"]
    assert record["inputs"]["source 1"]["name"] == "simulated:fluo:0"
    assert record["inputs"]["target 2"]["checksum"].startswith("crc32-sampled:")
    assert len(record["inputs"]) == 4
    assert card["normalisation"]["kind"] == "standardise"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--target", "simulated:fluo-again:0-2"], "4 source volumes and 3 target"),
        (["--target", "simulated:flu:0-3"], "give a kind (ct-scan"),
        (["--target", "simulated:fluo-again"], "first and the last number"),
    ],
)
def test_wrong_names_are_refused_before_a_folder_is_made(
    config: Path, capsys: Any, words: list[str], says: str
) -> None:
    assert train(*words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (config.parent / "job").exists()
