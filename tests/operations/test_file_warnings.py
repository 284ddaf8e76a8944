"""Warnings of readers appear where the file is used: steps, reports, commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.train.checks import reading_warnings


@pytest.fixture
def holey(tmp_path: Path) -> Path:
    """A zarr with a chunk that was not copied."""
    rng = np.random.default_rng(0)
    data = rng.integers(90, 110, (8, 24, 24)).astype(np.uint8)
    data[2:6, 4:10, 4:10] = 20
    path = tmp_path / "scan.zarr"
    zarr.create_array(path, data=data, chunks=(4, 24, 24))
    (path / "c" / "1" / "0" / "0").unlink()
    return path


@pytest.fixture
def gappy(tmp_path: Path) -> Path:
    folder = tmp_path / "slices"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in (1, 2, 4):
        plane = rng.integers(0, 255, (24, 24)).astype(np.uint8)
        tifffile.imwrite(folder / f"{i}.tif", plane)
    return folder


@pytest.mark.parametrize("which", ["holey", "gappy"])
def test_restoring_and_training_warn(
    which: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(which)
    text = "1 of 2 chunks" if which == "holey" else "1 image seems to be missing"
    volume = io.read(path)
    warned: list[str] = []
    run_to_end(
        prepare_steps(volume, RestoreConfig(model="gaussian", device="cpu")),
        lambda step: (
            warned.append(step.message) if isinstance(step, WarningIssued) else None
        ),
    )
    assert any(said.startswith(path.name) and text in said for said in warned)
    said = reading_warnings({"source": [volume, volume]})
    assert sum(text in each for each in said) == 1


def test_reports_and_commands_say_what_is_missing(
    holey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert run(["measure", str(holey), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    text = "1 of 2 chunks are not in the file and are read as 0 (Z 4–7)"
    assert any(text in warning for warning in said["warnings"])
    stored = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert any(text in warning for warning in stored["warnings"])
    assert text in (out / "report.html").read_text(encoding="utf-8")
    assert run(["info", str(holey)]) == 0
    assert text in capsys.readouterr().out
    assert run(["info", str(holey), "--json"]) == 0
    assert text in json.loads(capsys.readouterr().out)["warnings"][0]
    restored = tmp_path / "restored.tif"
    words = ["restore", str(holey), "--out", str(restored), "--model", "gaussian"]
    assert run([*words, "--device", "cpu"]) == 0
    assert text in " ".join(capsys.readouterr().err.split())
    # The warning also applies to its result, in which nothing is missing.
    assert run(["measure", str(restored), "--out", str(tmp_path / "second")]) == 0
    said_again = " ".join(capsys.readouterr().err.split())
    assert f"restored.tif was made from scan: {text}" in said_again


def test_an_assumed_slice_spacing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.tif"
    data = np.random.default_rng(0).integers(90, 110, (8, 24, 24)).astype(np.uint8)
    data[2:6, 4:10, 4:10] = 20
    options = {"metadata": {"axes": "ZYX", "unit": "um"}, "resolution": (0.5, 0.5)}
    tifffile.imwrite(path, data, imagej=True, **options)
    text = (
        "scan.tif: The slice spacing is not in the file; it was taken to be 1 µm, as "
        "ImageJ does. If that is wrong, give the voxel size (--voxel-size and --unit)."
    )

    def measured(source: Path, *words: str) -> tuple[str, list[str]]:
        out = tmp_path / "report"
        command = ["measure", str(source), "--out", str(out), "--json", "--overwrite"]
        assert run([*command, *words]) == 0
        said = capsys.readouterr()
        return " ".join(said.err.split()), json.loads(said.out)["warnings"]

    warned, reported = measured(path)
    assert text in warned
    assert text in reported
    given = ("--voxel-size", "2", "--unit", "um")
    assert not any("spacing" in each for each in measured(path, *given)[1])
    restored = tmp_path / "restored.tif"
    words = ["restore", str(path), "--out", str(restored), "--model", "gaussian"]
    assert run([*words, "--device", "cpu"]) == 0
    assert text in " ".join(capsys.readouterr().err.split())
    assert (
        f"restored.tif was made from {text.replace('.tif', '', 1)}"
        in (measured(restored)[1])
    )
    assert not any("spacing" in each for each in measured(restored, *given)[1])
    assert run(["info", str(path), *given]) == 0
    assert "spacing" not in capsys.readouterr().out
