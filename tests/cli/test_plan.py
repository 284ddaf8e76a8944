"""``napari-geosr plan``: files, JSON, and meaningless settings."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume

#: Positions of a stage, far from zero.
SIZE, ORIGIN = (2.0, 2.0, 2.0), (10.0, 20.0, 1_234_567.8)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grey = np.random.default_rng(0).choice([50, 200], (64, 64, 64), p=[0.2, 0.8])
    path = tmp_path_factory.mktemp("plan") / "coarse.ome.tif"
    io.write(
        Volume(grey.astype(np.uint8), "ZYX", voxel_size=SIZE, unit="µm", origin=ORIGIN),
        path,
    )
    return path


def test_files_of_a_plan(
    coarse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan"
    words = ["plan", str(coarse), "--spot", "32um", "--precision", "2%", "-o", str(out)]
    assert run([*words, "--hours-per-spot", "3"]) == 0
    shown = capsys.readouterr().out
    assert "8 of 64 possible" in shown
    assert "Scan time saved" in shown
    values = json.loads((out / "plan.json").read_text("utf-8"))
    assert values["n_spots"] == 8
    assert values["costs"] == {"hours": 24, "hours_saved": 168}
    assert values["provenance"]["operation"] == "plan"
    assert values["provenance"]["settings"]["spot"] == "32um"
    with (out / "spots.csv").open(encoding="utf-8") as file:
        spots = list(csv.DictReader(file))
    assert len(spots) == 8
    corners = np.array([[float(s[f"{a} (µm)"]) for a in "zyx"] for s in spots])
    # Centres of spots of 16 voxels, from the origin of the scan.
    np.testing.assert_allclose((corners - ORIGIN) % 32, 15, atol=1e-4)
    with (out / "sizes.csv").open(encoding="utf-8") as file:
        sizes = {float(row["edge (µm)"]): row for row in csv.DictReader(file)}
    assert sizes[32]["spots"] == "8"
    assert run(words) == 2
    assert "already contains" in capsys.readouterr().err
    assert run([*words, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_possible"] == 64


def test_files_of_a_plan_for_an_image(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).choice([50, 200], (96, 96), p=[0.2, 0.8])
    image, out = tmp_path / "image.tif", tmp_path / "plan"
    io.write(Volume(grey.astype(np.uint8), "YX"), image)
    assert run(["plan", str(image), "--spot", "16", "-o", str(out)]) == 0
    values = json.loads((out / "plan.json").read_text("utf-8"))
    assert values["unit"] == "pixel"
    header = (out / "spots.csv").read_text("utf-8").splitlines()[0]
    assert header == "spot,y (pixel),x (pixel),porosity"
    volume = tmp_path / "volume.tif"
    io.write(Volume(np.tile(grey.astype(np.uint8), (96, 1, 1)), "ZYX"), volume)
    words = ["plan", str(volume), "--spot", "16", "-o", str(out), "--overwrite"]
    assert run(words) == 0
    assert json.loads((out / "plan.json").read_text("utf-8"))["unit"] == "voxel"
    header = (out / "spots.csv").read_text("utf-8").splitlines()[0]
    assert header == "spot,z (voxel),y (voxel),x (voxel),porosity"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--spot", "3parsec"], "not a length unit"),
        (["--spot", "3um"], "only 1.5 voxels"),
        (["--spot", "100um"], "more than half as wide"),
        (["--precision", "much"], "not a valid precision"),
        (["--threshold", "10", "--spot", "32um"], "no pores"),
    ],
)
def test_plans_without_meaning_are_refused(
    given: list[str],
    sentence: str,
    coarse: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["plan", str(coarse), *given, "-o", str(tmp_path / "plan")]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "plan").exists()
