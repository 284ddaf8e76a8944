"""``napari-geosr info``: what it says of channels, voxel sizes and projections."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.cli.info import _print_row


@pytest.fixture
def channels(tmp_path: Path, rng: np.random.Generator) -> str:
    """Two channels: one noisy, one without a finite value."""
    clean = np.where(np.arange(64) < 30, 100.0, 200.0) * np.ones((64, 1))
    noisy = clean + rng.normal(0, 10, clean.shape)
    data = np.stack([noisy, np.full_like(noisy, np.nan)]).astype(np.float32)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "CYX"})
    return str(path)


def test_the_noise_of_each_channel_is_shown(
    channels: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["info", channels, "--noise"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = (line for line in lines if line.startswith("noise, channel "))
    assert first.startswith("noise, channel 0 Noise of ")
    assert "cannot be measured" in second
    assert run(["info", channels, "--noise", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["noise"]
    assert [row["channel"] for row in rows] == [0, 1]
    assert rows[0]["level"] == pytest.approx(10, rel=0.2)
    assert "cannot be measured" in rows[1]["error"]


def test_long_rows_are_wrapped_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    words = "word " * 30
    _print_row("notes", words)
    assert capsys.readouterr().out.count("\n") == 1  # one line in a file
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _print_row("notes", words)
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("notes        word")
    assert all(line.startswith(" " * 13 + "word") for line in others)
    assert max(map(len, (first, *others))) < 60


def test_channels_at_each_choice_of_a_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    clean = np.where(np.arange(48) < 20, 100.0, 200.0) * np.ones((3, 2, 48, 1))
    noisy = (clean + rng.normal(0, 10, clean.shape)).astype(np.float32)
    path = str(tmp_path / "cells.tif")
    tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "TCYX"})
    assert run(["info", path, "--noise", "--channel", "1"]) == 0
    assert "\nnoise, time point 1 " in capsys.readouterr().out
    assert run(["info", path, "--noise", "--channel", "1", "--time", "0"]) == 0
    assert "\nnoise        " in capsys.readouterr().out


def test_one_time_point_of_a_series_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: np.random.Generator
) -> None:
    clean = np.where(np.arange(48) < 20, 100.0, 200.0) * np.ones((5, 48, 1))
    paths = [str(tmp_path / name) for name in ("a.tif", "b.tif")]
    for path in paths:
        noisy = (clean + rng.normal(0, 10, clean.shape)).astype(np.float32)
        tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "TYX"})
    assert run(["info", paths[0], "--second", paths[1], "--json"]) == 0
    [noise] = json.loads(capsys.readouterr().out)["noise"]
    assert (noise["time"], noise["source"]) == (2, "repeat")
    assert run(["info", paths[0], "--second", paths[1], "--time", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["noise"]["source"] == "repeat"


def test_a_second_scan_with_other_channels_is_refused(
    channels: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "one.tif", np.zeros((64, 64), np.float32))
    assert run(["info", channels, "--second", str(tmp_path / "one.tif")]) == 2
    assert "must have the same axes and shape" in capsys.readouterr().err


def test_no_measurable_channel_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = np.full((2, 32, 32), np.nan, np.float32)
    path = str(tmp_path / "nan.tif")
    tifffile.imwrite(path, nan, imagej=True, metadata={"axes": "CYX"})
    assert run(["info", path, "--noise"]) == 2
    shown = capsys.readouterr()
    assert "noise, channel 1" in shown.out
    assert "cannot be measured" in shown.err


def test_projections_have_no_noise_to_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.ones((4, 2, 8), np.float32)
        file["exchange/theta"] = np.linspace(0, 135, 4)
    assert run(["info", str(path), "--noise"]) == 2
    said = capsys.readouterr().err
    assert "scan.h5 contains projections" in said
    assert "napari-geosr reconstruct" in said
    assert run(["info", str(path)]) == 0
    assert "not in the file; `reconstruct` determines it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "unit", "reason"),
    [
        ("1,0.01,0.01", "inch", "its edge lengths differ by a factor of 100"),
        ("5", "cm", "a voxel size of 50 mm is 10 mm or more"),
        ("0.5", "pm", "is below 1 nm"),
    ],
)
def test_an_implausible_size_that_is_given_is_warned_of(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    size: str,
    unit: str,
    reason: str,
) -> None:
    path = str(tmp_path / "scan.tif")
    tifffile.imwrite(path, np.arange(8 * 16 * 16, dtype=np.uint16).reshape(8, 16, 16))
    given = ["--voxel-size", size, "--unit", unit]
    assert run(["info", path, *given]) == 0
    shown = capsys.readouterr().out
    assert "is implausible (" in shown
    assert reason in shown
    assert "Check the voxel size (--voxel-size and --unit)." in shown
    assert run(["measure", path, "-o", str(tmp_path / "report"), *given]) == 0
    assert "scan.tif: the given voxel size of" in capsys.readouterr().err
    assert run(["info", path, "--voxel-size", "2,0.5,0.5", "--unit", "um"]) == 0
    assert "implausible" not in capsys.readouterr().out


def test_a_size_that_the_user_confirms_is_stated_but_not_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "scan.tif")
    tifffile.imwrite(
        path,
        np.zeros((4, 8, 8), np.uint8),
        imagej=True,
        resolution=(1 / 4, 1 / 4),
        metadata={"axes": "ZYX", "unit": "nm", "spacing": 50.0},
    )
    assert run(["info", path]) == 0
    assert "or confirm this one" in capsys.readouterr().out
    assert run(["info", path, "--voxel-size", "50,4,4", "--unit", "nm"]) == 0
    shown = capsys.readouterr().out
    assert "the confirmed voxel size of 50 × 4 × 4 nm is implausible" in shown
    assert "Check the voxel size" not in shown
    assert "or confirm this one" not in shown
    assert run(["info", path, "--voxel-size", "60,4,4", "--unit", "nm"]) == 0
    assert "implausible" in capsys.readouterr().out


def test_a_unit_alone_applies_to_the_numbers_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "scan.tif")
    tifffile.imwrite(
        path,
        np.zeros((4, 8, 8), np.uint8),
        imagej=True,
        resolution=(0.5, 0.5),
        metadata={"axes": "ZYX", "spacing": 2.0},
    )
    assert run(["info", path]) == 0
    assert "unknown (numbers in the file: 2 × 2 × 2)" in capsys.readouterr().out
    assert run(["info", path, "--unit", "um", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["voxel_size"], values["unit"]) == ([2, 2, 2], "µm")
    bare = str(tmp_path / "bare.tif")
    tifffile.imwrite(bare, np.zeros((5, 8, 8), np.uint8))
    assert run(["info", bare]) == 0
    assert "unknown; give --voxel-size and --unit" in capsys.readouterr().out
    assert run(["info", bare, "--unit", "um"]) == 2
    assert "Give the voxel size as well as its unit" in capsys.readouterr().err
