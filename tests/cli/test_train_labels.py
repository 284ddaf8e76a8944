"""Labels on the command line: from a scan and its phases to a label file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run

FAST = [
    *("--batch-size", "2", "--patch", "24", "--layers", "3"),
    *("--width", "6", "--device", "cpu", "--threads", "1"),
]


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three phases with grey values 0, 1, 2 and weak noise, and their labels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    phases = np.kron(rng.integers(0, 3, (8, 5, 5)), np.ones((1, 8, 8))).astype(np.uint8)
    noisy = (phases + rng.normal(0, 0.2, phases.shape)).astype(np.float32)
    for name, data in (("scan.tif", noisy), ("phases.tif", phases)):
        tifffile.imwrite(
            name,
            data,
            imagej=True,
            resolution=(0.5, 0.5),
            metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
        )
    return tmp_path


def train(*more: str, steps: int = 120) -> int:
    pair = ["--source", "scan.tif", "--target", "phases.tif", "--steps", str(steps)]
    return run(["train", "supervised", *pair, "--out", "job", *FAST, *more])


def test_from_a_scan_to_a_file_of_labels(scan: Path, capsys: Any) -> None:
    more = ("--labels", "3", "--learning-rate", "0.02", "--name", "phases")
    assert train(*more) == 0
    model = scan / "job" / "result" / "phases"
    assert run(["models", "verify", str(model)]) == 0
    capsys.readouterr()
    assert run(["models", "show", str(model), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["task"], card["labels"]) == ("segment", 3)
    assert [row["method"] for row in card["figures"]] == ["model"]
    for out in ("r.ome.tif", "r.ome.zarr"):
        assert run(["restore", "scan.tif", "--model", "job", "--out", out]) == 0
        found = io.read(out)
        assert found.dtype == np.uint8
        assert found.metadata["kind"] == "labels"
        assert found.voxel_size == (2.0, 2.0, 2.0)
        assert found.unit == "µm"
    right = np.asarray(found.data) == tifffile.imread("phases.tif")
    assert right.mean() > 0.8
    log = (scan / "job" / "events.jsonl").read_text()
    assert "missed overlap" in log
    assert io.read(scan / "job" / "previews" / "latest.tif").dtype == np.uint8
    assert run(["measure", "r.ome.zarr", "--out", "pores", "--json"]) == 0
    assert "contains labels" in capsys.readouterr().out
    both = ["restore", "scan.tif", "phases.tif", "--average"]
    assert run([*both, "--model", "job", "--out", "mean.tif"]) == 2
    assert "labels have no mean" in capsys.readouterr().err


def test_more_values_than_labels_are_refused_at_once(scan: Path, capsys: Any) -> None:
    assert train("--labels", "2") == 2
    assert "the value 2" in capsys.readouterr().err
    assert not (scan / "job").exists()


def test_missing_voxels_are_labelled_and_it_is_said(scan: Path, capsys: Any) -> None:
    assert train("--labels", "3", steps=4) == 0
    data = tifffile.imread("scan.tif")
    data[:, :4] = np.nan
    tifffile.imwrite("holes.tif", data, imagej=True, metadata={"axes": "ZYX"})
    assert run(["restore", "holes.tif", "--model", "job", "--out", "r.ome.tif"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "get labels like all other voxels" in said
    assert "stay NaN" not in said
    assert set(np.unique(np.asarray(io.read("r.ome.tif").data))) <= {0, 1, 2}
