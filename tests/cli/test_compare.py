"""``napari-geosr compare`` as used by a script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run


def save(path: Path, data: np.ndarray, voxel: float) -> Path:
    settings = {"spacing": voxel, "unit": "um", "axes": "ZYX"}
    resolution = (1 / voxel, 1 / voxel)
    tifffile.imwrite(
        path, data.astype("f4"), imagej=True, resolution=resolution, metadata=settings
    )
    return path


@pytest.fixture
def files(tmp_path, rng) -> dict[str, Path]:
    truth = np.full((24, 48, 50), 200.0)
    for z, y, x in rng.integers(2, (18, 40, 42), (12, 3)):
        truth[z : z + 5, y : y + 5, x : x + 5] = 80
    low = truth.reshape(12, 2, 24, 2, 25, 2).mean((1, 3, 5))
    noise = [rng.normal(0, 6, truth.shape) for _ in range(3)]
    found = {"truth": save(tmp_path / "truth.tif", truth, 1.0)}
    for name, each in zip(("one", "two", "three"), noise, strict=True):
        found[name] = save(tmp_path / f"{name}.tif", truth + each, 1.0)
    found["low"] = save(tmp_path / "low.tif", low, 2.0)
    return found


def test_two_voxel_sizes(files, tmp_path, capsys):
    out = tmp_path / "out"
    words = [str(files["one"]), str(files["low"]), "--out", str(out)]
    assert run(["compare", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frame"]["voxel_size"] == [2, 2, 2]
    assert found["psnr"] > 20
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.html",
        "figures.csv",
        "spectra.csv",
        "pores_B.csv",
        "difference_B.ome.tif",
    }
    assert run(["compare", *words]) == 2
    assert "already contains" in capsys.readouterr().err
    assert run(["compare", *words, "--overwrite"]) == 0


def test_grey_values_beyond_the_squares_of_float32(files, tmp_path, capsys):
    paths = {}
    for name in ("one", "truth"):
        data = tifffile.imread(files[name])
        paths[name] = save(tmp_path / f"large {name}.tif", data * 1e20, 1.0)
    found = []
    for pair in (files, paths):
        out = tmp_path / str(len(found))
        words = [str(pair["one"]), str(pair["truth"]), "--out", str(out)]
        assert run(["compare", *words, "--fsc", "pair", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
        report = (out / "report.json").read_text()
        json.loads(report, parse_constant=pytest.fail)
    usual, large = found
    assert large["psnr"] == pytest.approx(usual["psnr"], rel=1e-4)
    power = [each["spectra"]["A"]["power"] for each in found]
    assert power[1] == pytest.approx(np.multiply(power[0], 1e40), rel=1e-3)


def test_the_record_names_mask_and_halves(files, tmp_path):
    out = tmp_path / "out"
    mask = save(tmp_path / "mask.tif", np.ones((24, 48, 50)), 1.0)
    words = [str(files["one"]), str(files["truth"]), "--mask", str(mask)]
    halves = ["--fsc", "halves", str(files["two"]), str(files["three"])]
    assert run(["compare", *words, *halves, "--out", str(out)]) == 0
    inputs = json.loads((out / "report.json").read_text())["provenance"]["inputs"]
    assert list(inputs) == ["A", "B", "mask", "half 1", "half 2"]
    assert "mask.tif" in str(inputs["mask"])


def test_several_against_a_reference_with_halves(files, tmp_path, capsys):
    out = tmp_path / "out"
    volumes = [str(files[name]) for name in ("one", "two", "low")]
    halves = ["--fsc", "halves", str(files["one"]), str(files["two"])]
    truth = ["--reference", str(files["truth"])]
    code = run(["compare", *volumes, *truth, *halves, "-o", str(out)])
    assert code == 0
    text = capsys.readouterr()
    assert "truth (base)" in text.out
    assert "Resolution, one and two" in text.out
    assert "note: " in text.err
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(values["figures"]) == {"A", "B", "C"}
    assert (out / "fourier.csv").stat().st_size > 200
    assert (out / "difference_C.ome.tif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["one"], "Give 2 to 6 volumes"),
        (["one", "two", "--fsc", "halves", "one"], "is invalid"),
        (["one", "two", "--fsc", "twice"], "is invalid"),
        (["one", "one", "--fsc", "pair"], "contain the same voxels"),
        (["one", "two", "--data-range", "0"], "data range"),
        (["one", "absent.tif"], "absent.tif"),
    ],
)
def test_wrong_input_is_one_sentence(files, tmp_path, capsys, words, said):
    given = [str(files.get(word, word)) for word in words]
    out = tmp_path / "out"
    assert run(["compare", *given, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (out / "report.json").exists()


def test_nothing_is_written_where_it_was_not_wanted(files, tmp_path):
    out = tmp_path / "out"
    words = ["compare", str(files["one"]), str(files["two"]), "-o", str(out)]
    assert run([*words, "--no-pores", "--no-difference"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "report.json",
        "report.html",
        "figures.csv",
        "spectra.csv",
    }


def test_graphs_are_compared_within_a_distance(tmp_path, capsys):
    truth = np.full((24, 40, 40), 50.0)
    for y, x in ((8, 8), (8, 28), (28, 18)):
        truth[:, y : y + 5, x : x + 5] = 200
    found = truth.copy()
    found[:, 28:33, 18:23] = 50
    one = save(tmp_path / "truth.tif", truth, 0.5)
    other = save(tmp_path / "found.tif", found, 0.5)
    out = tmp_path / "out"
    words = ["compare", str(other), "--reference", str(one), "--out", str(out)]
    graph = ["--phase", "bright", "--graph", "--graph-distance", "0.75"]
    assert run([*words, *graph]) == 0
    text = capsys.readouterr().out
    assert "Branch recall" in text
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))
    agreement = values["graph_agreement"]["A"]
    assert agreement["distance"] == 0.75
    assert agreement["branch_recall"] == pytest.approx(2 / 3)
    assert agreement["branch_precision"] == 1
    for wrong in (["--graph-distance", "1"], ["--graph", "--no-pores"]):
        assert run([*words, *wrong, "--overwrite"]) == 2
        assert "--graph" in capsys.readouterr().err


def test_a_restored_volume_is_checked_against_its_scan(files, tmp_path, capsys):
    scan, clean = str(files["one"]), str(tmp_path / "clean.ome.tif")
    made = ["restore", scan, "--model", "gaussian", "--device", "cpu", "-o", clean]
    assert run([*made, "--check-consistency", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["consistency"]
    words = ["compare", scan, clean, "--out", str(tmp_path / "out"), "--json"]
    assert run(words) == 0
    check = json.loads(capsys.readouterr().out)["consistency"]["B"]
    assert check["scan"] == "A"
    assert check["level"] == alone["verdict"]
    assert check["contrast"] == alone["slope"]
    assert check["residual"] == alone["residual_rms"] / alone["noise_rms"]
    # Another scan of the same object is not the scan that was restored.
    words[1] = str(files["two"])
    assert run([*words, "--overwrite"]) == 0
    assert json.loads(capsys.readouterr().out)["consistency"] == {}


@pytest.mark.parametrize("inner", ["", "result"])
def test_a_study_has_no_volumes_to_compare(files, tmp_path, capsys, inner):
    """Neither the folder written by the command nor the folder of a job."""
    folder = tmp_path / "study"
    (folder / inner).mkdir(parents=True)
    text = json.dumps({"essential": {}, "rows": []})
    (folder / inner / "study.json").write_text(text, encoding="utf-8")
    for words in ([folder, files["one"]], [files["one"], files["two"], folder]):
        given = [str(word) for word in words]
        assert run(["compare", *given, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert "contains a study" in error
        assert "report.html" in error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
