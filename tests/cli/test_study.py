"""``napari-geosr study projections``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io, simulate
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = simulate(
        "blobs",
        tmp_path_factory.mktemp("scan"),
        size=24,
        rows=6,
        projections=24,
        radius=(3, 4),
    )
    return {key: str(path) for key, path in made.files.items()}


def words(files, out, *more):
    start = ["study", "projections", files["projections"], "--out", str(out)]
    return [*start, "--threads", "1", "--centre", "15.5", *more]


def test_it_writes_table_and_report_and_goes_on(files, tmp_path, capsys):
    more = ["--algorithms", "fbp,cgls", "--options.cgls.iterations", "5"]
    more += ["--reference", files["truth"], "--mask", files["sample"]]
    assert run(words(files, tmp_path, "--counts", "6", *more, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    names = [(row["projections"], row["algorithm"]) for row in said["rows"]]
    assert names == [(24, "full"), (6, "fbp"), (6, "cgls")]
    assert said["rows"][2]["settings"] == {"iterations": 5}
    assert said["reference"]["is_truth"] is True
    assert set(said["fewest"]) == {"fbp", "cgls"}
    for path in said["files"].values():
        assert Path(path).stat().st_size > 0
    assert run(words(files, tmp_path, "--counts", "6,12", *more)) == 0
    shown = capsys.readouterr().out
    assert "Porosity" in shown
    assert "smallest scan that still gives the correct porosity" in shown
    assert shown.splitlines()[-1].endswith("report.html")


def test_a_name_that_is_too_long(files, tmp_path, capsys):
    assert run(words(files, tmp_path / ("x" * 300), "--counts", "6")) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--counts", "12,24"], "24 projections, but 24 were requested"),
        (["--counts", "few"], "50,75,100"),
        (["--counts", "6", "--algorithms", "magic"], "'magic' is unknown"),
        (["--counts", "6", "--algorithms", "msdnet"], "6 rows"),
        (["--counts", "6", "--tolerance", "7"], "tolerance"),
    ],
)
def test_errors_are_one_sentence(files, tmp_path, capsys, more, says):
    assert run(words(files, tmp_path / "new", *more)) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "new").exists()


def test_a_reference_of_another_shape_is_refused(files, tmp_path, capsys):
    truth = io.read(files["truth"])
    short = tmp_path / "short.ome.tif"
    io.write(truth.replace(data=np.asarray(truth.data)[:4], source=None), short)
    more = ["--counts", "6", "--reference", str(short)]
    assert run(words(files, tmp_path / "new", *more)) == 2
    assert "short.ome.tif has shape 4 × 24 × 24" in capsys.readouterr().err


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    words = ["simulate", "radiographs", "--number", "6", "--shape", "32"]
    assert run([*words, "--out", str(folder)]) == 0
    return {
        key: str(folder / f"{key}.ome.tif") for key in ("radiographs", "labels")
    } | {"folder": str(folder)}


def label_words(labelled, out, *more):
    start = ["study", "labels", "--source", labelled["radiographs"]]
    start += ["--labels", labelled["labels"], "--out", str(out), "--steps", "2"]
    return [*start, "--draws", "2", "--threads", "1", "--patch", "16", *more]


def test_numbers_of_labelled_slices(labelled, tmp_path, capsys):
    prior = tmp_path / "prior"
    words = ["train", "ddpm", "--source", labelled["radiographs"], "--out", str(prior)]
    words += ["--steps", "1", "--patch", "16", "--width", "8", "--threads", "1"]
    assert run(words) == 0
    out, start = tmp_path / "study", ["--start-from", str(prior)]
    capsys.readouterr()
    more = ["--counts", "1", *start, "--json"]
    assert run(label_words(labelled, out, *more)) == 0
    first = json.loads(capsys.readouterr().out)
    assert [(r["method"], r["draw"]) for r in first["rows"]] == [
        ("from scratch", 0),
        ("from scratch", 1),
        ("from prior", 0),
        ("from prior", 1),
    ]
    assert all(0 <= row["mean_iou"] < 1 for row in first["rows"])
    assert {tuple(row["slices"]) for row in first["rows"]} <= {(z,) for z in range(4)}
    slices = [row["slices"] for row in first["rows"]]
    assert slices[:2] == slices[2:]
    assert set(first["fewest"].values()) == {1}
    assert run(label_words(labelled, out, "--counts", "1,2", *start, "--json")) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["rows"][:4] == first["rows"]
    assert len(second["rows"]) == 8
    lines = Path(second["files"]["csv"]).read_text("utf-8").splitlines()
    assert len(lines) == 1 + 8
    assert lines[0].startswith("method,labels,draw,slices,mean_iou,iou_0")
    assert run(label_words(labelled, out, "--counts", "1", "--seed", "1")) == 2
    assert "different data or settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "more", "says"),
    [
        (None, ["--counts", "1,5"], "4 remain for training, but 5 were requested"),
        (np.zeros((6, 16, 16), np.uint8), [], "must have the shape of the scan"),
        (np.zeros((6, 32, 32), np.uint8), [], "paint at least two classes"),
    ],
)
def test_labels_that_cannot_be_studied(labels, more, says, labelled, tmp_path, capsys):
    if labels is not None:
        path = tmp_path / "labels.ome.tif"
        io.write(Volume(labels, "ZYX"), path, kind="labels")
        labelled = labelled | {"labels": str(path)}
    words = label_words(labelled, tmp_path / "study", "--counts", "1", *more)
    assert run(words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
