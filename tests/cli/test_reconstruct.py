"""``napari-geosr reconstruct`` and ``info`` on projections, as used by a script."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import write_projections
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan


@pytest.fixture(scope="module")
def scan() -> Projections:
    axis = np.arange(34) - 16.5
    disc = (np.hypot(axis[:, None], axis[None, :] + 4) < 9).astype(np.float32)
    made = simulate_scan(np.stack([disc] * 3), ScanConfig(projections=40, noise=False))
    return made.replace(pixel_size=(2.0, 2.0), unit="µm")


@pytest.fixture
def file(scan, tmp_path) -> str:
    return str(write_projections(scan, tmp_path / "scan.h5"))


def words(*more: str) -> list[str]:
    return ["reconstruct", *more, "--threads", "1", "--device", "cpu"]


def test_json_says_what_was_made(file, tmp_path, capsys):
    out = str(tmp_path / "v.ome.tif")
    given = words(file, "--out", out, "--center", "20.5", "--json")
    assert run(given) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["shape"] == [3, 42, 42]
    assert values["voxel_size"] == [2.0, 2.0, 2.0]
    assert values["unit"] == "µm"
    assert values["values"] == "attenuation per µm"
    assert values["centre"] == {"column": 20.5, "method": "given"}
    assert values["complete"] is True
    assert run(given) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*given, "--overwrite"]) == 0
    assert io.read(out).voxel_size == (2.0, 2.0, 2.0)


def test_settings_of_every_algorithm_are_flags(file, tmp_path, capsys):
    out = tmp_path / "v.tif"
    given = words(file, "--out", str(out), "--centre", "20.5", "--overwrite")
    given += ["--rows", "0,1", "--every", "2", "--size", "30"]
    tv = ["--algorithm", "tv", "--iterations", "3", "--weight", "0.2"]
    assert run([*given, *tv, "--no-nonnegative"]) == 0
    said = capsys.readouterr()
    assert "column 20.50" in said.out
    record = io.read(out).provenance[-1]
    expected = {"iterations": 3, "weight": 0.2, "nonnegative": False}
    assert record["algorithm"] == expected
    assert record["used"]["projections"] == 20
    assert io.read(out).shape == (1, 30, 30)
    assert run([*given, "--weight", "0.2"]) == 2
    said = capsys.readouterr().err
    assert "fbp has no setting 'weight'" in said
    assert "It is a setting of tv" in said
    assert run([*given, "--algorithm", "art"]) == 2
    assert "'art'" in capsys.readouterr().err


def test_settings_of_a_file_are_overruled_by_flags(file, tmp_path):
    settings = tmp_path / "s.yaml"
    settings.write_text("algorithm: tv\niterations: 2\noptions: {weight: 0.3}\n")
    out = tmp_path / "v.tif"
    given = words(file, "--out", str(out), "--center", "20.5", "--iterations", "3")
    assert run([*given, "--config", str(settings)]) == 0
    record = io.read(out).provenance[-1]
    assert record["algorithm"] == {"iterations": 3, "weight": 0.3, "nonnegative": True}
    # Another algorithm drops the settings of the first one.
    given = words(file, "--out", str(out), "--center", "20.5", "--algorithm", "fbp")
    assert run([*given, "--config", str(settings), "--overwrite"]) == 0
    assert io.read(out).provenance[-1]["algorithm"]["filter"] == "ramp"


@pytest.mark.parametrize("style", [["0", "180"], ["0,180"]])
def test_angles_of_images_are_given_as_a_range(scan, tmp_path, capsys, style):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, np.asarray(scan.data), photometric="minisblack")
    given = words(str(path), "--out", str(tmp_path / "v.tif"), "--center", "20.5")
    given += ["--no-line-integrals"]
    assert run(given) == 2
    assert "angle" in capsys.readouterr().err
    assert run([*given, "--angle-range", *style, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert any("no flat fields" in text for text in values["warnings"])
    assert values["unit"] == "pixel"


def test_angles_come_from_a_file(scan, tmp_path, capsys):
    path, angles = tmp_path / "views.tif", tmp_path / "angles.txt"
    tifffile.imwrite(path, np.asarray(scan.data), photometric="minisblack")
    np.savetxt(angles, scan.angles)
    given = words(str(path), "--out", str(tmp_path / "v.tif"), "--center", "20.5")
    given += ["--angles", str(angles), "--pixel-size", "5", "--unit", "um"]
    assert run([*given, "--json", "--line-integrals"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["voxel_size"] == [5.0, 5.0, 5.0]
    np.savetxt(angles, scan.angles[:-1])
    assert run([*given, "--overwrite"]) == 2
    said = capsys.readouterr().err
    assert "39" in said
    assert "40" in said


def bad(scan: Projections, what: str) -> Projections:
    data = np.array(scan.data)
    if what == "nan":
        data[3, 1, 4] = np.nan
        return scan.replace(data=data)
    if what == "zero flux":
        return scan.replace(data=np.zeros_like(data))
    if what == "no flux in the flats":
        return scan.replace(flats=np.zeros((2, *data.shape[1:])), darks=None)
    if what == "few":
        return scan.subset(range(10))
    assert what == "dark is flat"
    return scan.replace(darks=scan.flats)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nan", "NaN or infinite .*projection 3, row 1, column 4"),
        ("zero flux", "no signal|below the dark"),
        ("no flux in the flats", "flat fields contain no signal"),
        ("dark is flat", "the flat field is nowhere brighter than the dark field"),
        ("few", "give|Give the centre"),
    ],
)
def test_bad_projections_give_one_sentence(scan, tmp_path, capsys, what, says):
    path = write_projections(bad(scan, what), tmp_path / "bad.h5")
    out = tmp_path / "v.tif"
    more = [] if what == "few" else ["--center", "20.5"]
    assert run(words(str(path), "--out", str(out), *more)) == 2
    said = capsys.readouterr().err
    assert "bad.h5" in said
    assert re.search(says, said)
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["bad.h5"]


def test_what_is_no_file_of_projections(file, tmp_path, capsys):
    out = str(tmp_path / "v.tif")
    assert run(words(str(tmp_path / "none.h5"), "--out", out)) == 2
    assert "does not exist" in capsys.readouterr().err
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["volume"] = np.zeros((4, 5, 6))
    assert run(words(str(tmp_path / "other.h5"), "--out", out)) == 2
    assert "--dataset" in capsys.readouterr().err
    assert run(words(file, "--out", str(tmp_path / "v.xyz"))) == 2
    assert "suffix" in capsys.readouterr().err
    assert run(words(file, "--out", out, "--center", "left")) == 2
    assert "auto or the number of a column" in capsys.readouterr().err
    assert run(words(file, "--out", out, "--algorithm", "fdk")) == 2
    assert "parallel-beam" in capsys.readouterr().err
    assert run(words(file, "--out", out, "--continue")) == 2
    assert "--continue" in capsys.readouterr().err
    assert run(words(file, "--out", out, "--rows", "2,9")) == 2
    assert "rows 2 to 8 do not exist" in capsys.readouterr().err


def test_shapes_that_do_not_fit_are_said(scan, tmp_path, capsys):
    path = write_projections(scan, tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        del file["exchange/data_white"]
        file["exchange/data_white"] = np.ones((2, 3, 7))
    assert run(words(str(path), "--out", str(tmp_path / "v.tif"))) == 2
    assert "flat fields have shape" in capsys.readouterr().err


def test_info_tells_projections(file, capsys):
    assert run(["info", file]) == 0
    shown = capsys.readouterr().out
    assert "40 of 3 × 42 pixels" in shown
    assert "covering 180" in shown
    assert "2 × 2 µm" in shown
    assert run(["info", file, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["kind"] == "projections"
    assert values["shape"] == [40, 3, 42]
    assert values["flats"] == values["darks"] == 10
    assert values["unit"] == "µm"


def test_info_of_a_scan_without_angles_says_so_and_goes_on(scan, tmp_path, capsys):
    path = write_projections(scan, tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"]
        for name in ("data_white", "data_dark"):
            del file[f"exchange/{name}"]
    assert run(["info", str(path)]) == 0
    said = capsys.readouterr()
    assert "angle" in said.err
    assert "shape" in said.out


@pytest.mark.parametrize("given", [["1,3"], ["1", "3"]])
def test_rows_are_two_words_or_one(file, tmp_path, given):
    out = tmp_path / "v.tif"
    assert (
        run(words(file, "--out", str(out), "--centre", "20.5", "--rows", *given)) == 0
    )
    assert io.read(out).shape == (2, 42, 42)


def test_one_row_alone_is_refused_with_an_example(file, tmp_path, capsys):
    assert run(words(file, "--out", str(tmp_path / "v.tif"), "--rows", "1")) == 2
    assert "a start and an end, such as 10,20" in capsys.readouterr().err
