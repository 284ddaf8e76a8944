"""``napari-geosr study projections``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io, simulate
from napari_geosr.cli.app import run


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
