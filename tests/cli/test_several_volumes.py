"""Warnings about several measured volumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import StageStarted, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.operations import measure
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps

SAID = "The noise is high."


@pytest.fixture
def volumes(monkeypatch):
    monkeypatch.setattr(measure, "sampled_porosity", lambda *_: [SAID])
    data = np.full((8, 20, 20), 200, np.uint8)
    data[2:6, 5:9, 5:9] = 50
    return {n: Volume(data, "ZYX", (1,) * 3, "µm", name=n) for n in ("noise", "b")}


def test_warnings_are_issued_before_the_next_volume_is_measured(volumes):
    steps = measure_several_steps(volumes, MeasureConfig(), keep_labels=False)
    said = [s.message for s in steps if isinstance(s, StageStarted | WarningIssued)]
    assert said.index(f"'noise': {SAID}") < said.index("Measuring 'b'")
    assert said.index("Measuring 'b'") < said.index(f"'b': {SAID}")


def test_one_warning_about_two_volumes_is_listed_once(volumes, tmp_path, capsys):
    paths = [str(tmp_path / f"{name}.tif") for name in volumes]
    for path, volume in zip(paths, volumes.values(), strict=True):
        io.write(volume, path)
    words = ["measure", paths[0], "--reference", paths[1], "--out", str(tmp_path / "m")]
    assert run([*words, "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert [w for w in warnings if SAID in w] == [f"noise.tif, b.tif: {SAID}"]
    assert run([*words, "--overwrite"]) == 0
    printed = capsys.readouterr()
    lines = [w for w in (printed.out + printed.err).splitlines() if SAID in w]
    assert len(lines) == 2, lines
    assert [sum(f"{n}.tif" in line for line in lines) for n in volumes] == [1, 1]
