"""No command overwrites its input."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume


@pytest.fixture
def voxels():
    data = np.full((8, 20, 20), 200, np.uint8)
    data[2:6, 5:9, 5:9] = 50
    return data


def test_reports_do_not_join_slices(voxels, tmp_path, capsys):
    folder = tmp_path / "slices"
    folder.mkdir()
    for z, plane in enumerate(voxels):
        tifffile.imwrite(folder / f"s{z:02}.tif", plane)
    before = sorted(folder.iterdir())
    arguments = ["measure", str(folder), "--out", str(folder), "--labels"]
    assert run(arguments) == 2
    assert "the input is never changed" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    assert run(["measure", str(folder), "--out", str(folder / "report")]) == 0
    assert run(["info", str(folder)]) == 0


@pytest.mark.parametrize("role", ["input", "--reference", "--mask"])
def test_labels_do_not_replace_what_is_measured(voxels, tmp_path, capsys, role):
    other = str(tmp_path / "scan.tif")
    io.write(Volume(voxels, "ZYX"), other)
    mine = tmp_path / "report" / "pores.ome.tif"
    mine.parent.mkdir()
    io.write(Volume(voxels, "ZYX"), mine)
    before = mine.read_bytes()
    inputs = [str(mine)] if role == "input" else [other, role, str(mine)]
    arguments = ["measure", *inputs, "--out", str(mine.parent), "--labels"]
    assert run([*arguments, "--overwrite"]) == 2
    assert "the input is never changed" in capsys.readouterr().err
    assert mine.read_bytes() == before


def test_a_home_folder_is_a_folder_like_any_other(
    voxels, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    scan = io.write(Volume(voxels, "ZYX"), tmp_path / "scan.tif")
    before = scan.read_bytes()
    assert run(["restore", str(scan), "--out=~/scan.tif", "--overwrite"]) == 2
    assert "the input is never changed" in capsys.readouterr().err
    assert scan.read_bytes() == before
    assert run(["measure", str(scan), "--out=~/report"]) == 0
    assert (tmp_path / "report" / "report.json").exists()
