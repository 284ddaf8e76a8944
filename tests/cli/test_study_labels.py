"""``napari-geosr study labels``: what it refuses, and the words of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.cli.study import _print_labels
from napari_geosr.operations.study.labels import LabelsStudySummary


def test_grey_values_are_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    path = str(tmp_path / "scan.tif")
    tifffile.imwrite(path, rng.integers(0, 250, (6, 16, 16)).astype(np.uint8))
    out = str(tmp_path / "study")
    assert run(["study", "labels", "--source", path, "--labels", path, "-o", out]) == 2
    said = capsys.readouterr().err
    assert "as in a grey-value image or numbered objects" in said
    assert "from 0 to at most 49" in said


def test_one_slice_is_singular(capsys: pytest.CaptureFixture[str]) -> None:
    curve = [
        {"labels": n, "method": "from scratch", "mean_iou": 0.5, "spread": None}
        for n in (1, 2)
    ]
    files = {"csv": Path("labels.csv")}
    for count, words in ((1, "1 labelled slice is"), (2, "2 labelled slices are")):
        fewest = {"from scratch": count}
        _print_labels(LabelsStudySummary([], curve, fewest, files))
        shown = capsys.readouterr().out
        assert "  1 labelled slice, from scratch: 50.0" in shown
        assert "  2 labelled slices, from scratch: 50.0" in shown
        assert f"{words} enough to come within 1 percentage point" in shown
