"""Graphs of measured volumes, on the command line and in Python."""

from __future__ import annotations

import json

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.physics.specimens.tubes import render_tubes

SHAPE = (48, 64, 64)


def ladder(rungs: int) -> np.ndarray:
    """Two dark rails along Z and rungs between them, in a bright solid."""
    rails = [np.array([[-5.0, y, 32.0], [53.0, y, 32.0]]) for y in (16.0, 48.0)]
    across = [np.array([[z, 16.0, 32.0], [z, 48.0, 32.0]]) for z in (12.0, 24.0, 36.0)]
    paths = [*rails, *across[:rungs]]
    fraction = render_tubes(SHAPE, paths, [2.5] * len(paths))
    return (200 - 150 * fraction).astype(np.uint8)


def volume(rungs: int, unit: str = "µm", size: float = 0.5) -> Volume:
    return Volume(ladder(rungs), "ZYX", (size,) * 3, unit, name=f"{rungs} rungs")


def test_the_graph_is_measured_where_asked_for() -> None:
    report = geosr.measure_porosity(volume(3), graph=True)
    graph = report.graph
    assert graph is not None
    assert (graph.junctions, graph.loops, graph.joining["Z"]) == (6, 2, 1)
    assert graph.box.tolist() == [[-0.25] * 3, [23.75, 31.75, 31.75]]
    values = report.to_json_dict()["graph"]
    assert (values["branches"], values["unit"]) == (11, "µm")
    assert values["tubules_per_mm2"]["Z"] == pytest.approx(2 / 0.032**2)
    lines = "\n".join(report.summary_lines())
    assert "Branches: 11" in lines
    assert "Components that join two faces: Z 1, Y 0, X 0" in lines
    plain = geosr.measure_porosity(volume(3))
    assert plain.graph is None
    assert plain.to_json_dict()["graph"] is None
    assert "Branches" not in "\n".join(plain.summary_lines())


def test_what_lies_outside_of_the_sample_has_no_branches() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :32] = 1
    report = geosr.measure_porosity(volume(0), mask, graph=True)
    assert report.graph is not None
    assert len(report.graph.paths) == 1
    assert report.graph.joining == {"Z": 1, "Y": 0, "X": 0}


def test_small_pores_make_no_branches() -> None:
    data = ladder(3)
    data[4:7, 4, 4] = 50
    for smallest, components in ((8, 1), (1, 2)):
        report = geosr.measure_porosity(data, min_voxels=smallest, graph=True)
        assert report.graph is not None
        assert report.graph.components == components
        assert report.graph.tubules_per_mm2(0) is None


def test_a_graph_that_does_not_fit_is_refused() -> None:
    many = np.tile(ladder(3), (6, 5, 5))
    with pytest.raises(VolumeError, match=r"graph needs .*--memory.*--graph"):
        geosr.measure_porosity(many, graph=True, memory="150MB")


def test_branches_are_compared_on_the_command_line(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other units and voxels, at the same position; one rung of three is lost."""
    found, true = tmp_path / "found.ome.tif", tmp_path / "true.ome.tif"
    io.write(volume(2), found)
    io.write(volume(3, "nm", 500.0), true)
    out = tmp_path / "out"
    words = ["measure", str(found), "--reference", str(true), "--out", str(out)]
    assert run([*words, "--graph"]) == 0
    said = capsys.readouterr().out
    assert "Branches of the reference that were found: 90.9 %" in said
    assert "within 1 µm" in said
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert values["graph_agreement"]["branch_recall"] == pytest.approx(10 / 11)
    assert values["graph_agreement"]["branch_precision"] == 1.0
    more = ["--overwrite", "--json", "--graph-distance", "0.8"]
    assert run([*words, "--graph", *more]) == 0
    assert json.loads(capsys.readouterr().out)["graph_agreement"]["distance"] == 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--graph-distance", "1"], "requires --graph and --reference"),
        (
            ["--graph", "--graph-distance", "1"],
            "requires --graph and --reference",
        ),
        (["--graph", "--graph-distance", "0"], "must be above zero"),
    ],
)
def test_a_distance_without_use_is_refused(
    tmp_path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    path = tmp_path / "a.ome.tif"
    io.write(volume(1), path)
    words = ["measure", str(path), "--out", str(tmp_path / "out"), *options]
    if "0" in options:
        words += ["--reference", str(path)]
    assert run(words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
