"""``napari-geosr simulate``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.io.projections import read_projections

SMALL = ["--size", "24", "--rows", "4", "--projections", "12", "--radius", "3,4"]


def test_it_writes_a_scan_with_its_truth(tmp_path, capsys):
    out = tmp_path / "new" / "scan"
    words = ["simulate", "blobs", "--out", str(out), *SMALL, "--photons", "1e4"]
    assert run([*words, "--rings", "0.01", "--continuous", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    assert said["porosity"] == kept["porosity"]
    assert 0 < said["porosity"] < 1
    assert said["files"]["projections"] == str(out / "projections.h5")
    settings = kept["provenance"]["settings"]
    assert (settings["photons"], settings["rings"]) == (1e4, 0.01)
    assert settings["continuous"] is True
    assert run(words) == 2
    assert "already contains" in capsys.readouterr().err


def test_it_says_what_was_made(tmp_path, capsys):
    words = ["simulate", "blobs", "--out", str(tmp_path), *SMALL, "--seed", "3"]
    assert run(words) == 0
    said = capsys.readouterr().out
    kept = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert f"True porosity: {100 * kept['porosity']:.3f} %" in said
    assert "20 % requested" in said
    at_half = kept["porosity_at_half_contrast"]
    assert f"the true object has a porosity of {100 * at_half:.3f} %" in said


def test_threads_change_nothing(tmp_path):
    scans = []
    for threads in ("1", "2"):
        out = tmp_path / threads
        words = ["simulate", "foam", "--out", str(out), *SMALL, "--threads", threads]
        assert run(words) == 0
        scans.append(np.asarray(read_projections(out / "projections.h5").data[:]))
    np.testing.assert_array_equal(*scans)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sponge"], "sponge"),
        (["foam", "--radius", "5,3"], "two numbers above zero"),
        (["foam", "--porosity", "2"], "porosity"),
        (["foam", "--unit", "parsec"], "parsec"),
        (["foam", "--photons", "0"], "photons"),
    ],
)
def test_errors_are_one_sentence(tmp_path, capsys, words, says):
    assert run(["simulate", *words, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_radiographs_with_some_painted(tmp_path, capsys) -> None:
    out = tmp_path / "few"
    words = [
        "simulate",
        "radiographs",
        "--number",
        "3",
        "--shape",
        "64",
        "-o",
        str(out),
    ]
    assert run([*words, "--painted", "1", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    grey, labels, painted = (
        io.read(made["files"][key]) for key in ("radiographs", "labels", "painted")
    )
    assert grey.shape == labels.shape == painted.shape == (3, 64, 64)
    assert (grey.voxel_size[1:], grey.unit) == ((0.5, 0.5), "mm")
    np.testing.assert_array_equal(painted.data[0], labels.data[0])
    assert (np.asarray(painted.data[1:]) == 255).all()
    known = np.asarray(labels.data) != 255
    assert sum(made["shares"].values()) == pytest.approx(known.mean())
    assert run(words) == 2
    assert "already contains" in capsys.readouterr().err
    assert run([*words, "--painted", "4", "--overwrite"]) == 2
    assert "painted" in capsys.readouterr().err
    assert run([*words, "--kind", "chest", "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "lung" in said
    assert "255: metal objects" in said
    chest = io.read(out / "radiographs.ome.tif")
    assert chest.voxel_size[1:] == (420 / 64, 420 / 64)
    assert chest.provenance[-1]["labels"]["4"] == "rib"
