"""Graphs of networks in a comparison: figures of each volume, common branches."""

from __future__ import annotations

import json

import numpy as np
import pytest
from compare_helpers import run

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.graph.agreement import graph_agreement
from napari_geosr.operations.compare import CompareConfig
from napari_geosr.operations.compare import files as report_files
from napari_geosr.operations.measure import measure_several_steps

GRAPH = CompareConfig(graph=True, phase="bright", difference=False)


def tubes(places, shape=(40, 48, 52), voxel=1.0, name="tubes") -> Volume:
    """Straight bright tubes of radius 3.2 µm along Z, at positions (y, x) in µm."""
    n = [round(s / voxel) for s in shape]
    y, x = (np.arange(k) * voxel + (voxel - 1) / 2 for k in n[1:])
    mask = np.zeros(n[1:], bool)
    for at in places:
        mask |= (y[:, None] - at[0]) ** 2 + (x - at[1]) ** 2 < 3.2**2
    plane = np.where(mask, 200.0, 50.0)
    data = np.repeat(plane[None], n[0], 0).astype(np.float32)
    origin = ((voxel - 1) / 2,) * 3
    return Volume(data, "ZYX", (voxel,) * 3, "µm", origin, name=name)


TRUE = [(10, 10), (10, 30), (30, 12), (32, 36)]


@pytest.fixture
def truth() -> Volume:
    return tubes(TRUE, name="truth")


@pytest.fixture
def found() -> Volume:
    """One tube is lost, one is invented, and one is shifted by 3 µm; coarser voxels."""
    places = [(10, 10), (10, 33), (30, 12), (20, 44)]
    return tubes(places, voxel=2.0, name="found")


def test_branches_are_found_within_a_distance(truth, found):
    volumes = {"A": truth, "B": found, "C": truth.replace(name="same")}
    near = run(volumes, GRAPH)
    assert set(near.graphs) == {"B", "C"}
    assert near.graphs["B"].distance == 4  # two voxels of the coarsest volume
    assert near.graphs["B"].branch_recall == 0.75
    assert near.graphs["B"].branch_precision == 0.75
    assert near.graphs["B"].length_recall == pytest.approx(0.75, abs=0.05)
    assert near.graphs["C"].branch_recall == near.graphs["C"].length_precision == 1
    strict = run(volumes, GRAPH.model_copy(update={"graph_distance": 2.0}))
    assert strict.graphs["B"].distance == 2
    assert strict.graphs["B"].branch_recall == 0.5
    rows = {row.label: row for row in strict.rows()}
    assert rows["Branch recall"].texts == ["–", "50.0 %", "100 %"]
    assert "within 2 µm" in rows["Branch recall"].help
    assert rows["Branches"].texts == ["4", "4 (0.0 %)", "4 (0.0 %)"]
    assert rows["Tubules per mm²"].texts[0].startswith("Z 1\u202f600")


def test_the_figures_are_those_of_measure(truth, found):
    report = run({"A": truth, "B": found}, GRAPH)
    measured = run_to_end(
        measure_several_steps({"A": truth, "B": found}, GRAPH.measuring())
    )
    for key in "AB":
        assert report.porosity[key].graph.to_json_dict() == (
            measured[key].graph.to_json_dict()
        )
    assert report.graphs["B"] == graph_agreement(
        measured["B"].graph, measured["A"].graph, 4.0
    )


def test_other_units_are_converted(truth, found):
    in_mm = found.replace(
        voxel_size=(0.002,) * 3, origin=(0.0005,) * 3, unit="mm", name="mm"
    )
    one = run({"A": truth, "B": found}, GRAPH)
    other = run({"A": truth, "B": in_mm}, GRAPH)
    assert vars(other.graphs["B"]) == pytest.approx(vars(one.graphs["B"]))
    column = "graph_length"
    assert other.to_dataframe().loc["B", column] == pytest.approx(
        one.to_dataframe().loc["B", column]
    )


def test_they_are_in_every_file(truth, found, tmp_path):
    volumes = {"A": truth, "B": found}
    files = report_files.plan(tmp_path, list(volumes), "A", GRAPH)
    report = run(volumes, GRAPH)
    report_files.write(files, volumes, report, GRAPH)
    values = json.loads(files["json"].read_text(encoding="utf-8"))
    assert values["graph_agreement"]["B"]["branch_recall"] == 0.75
    assert values["porosity"]["A"]["graph"]["branches"] == 4
    head, a, b = files["figures"].read_text(encoding="utf-8").splitlines()
    columns = head.split(",")
    for name in ("branch_precision", "length_recall", "graph_distance"):
        assert float(b.split(",")[columns.index(name)]) > 0
        assert a.split(",")[columns.index(name)] == ""
    assert float(a.split(",")[columns.index("graph_branches")]) == 4
    assert float(a.split(",")[columns.index("graph_loops")]) == 0
    assert float(a.split(",")[columns.index("tubules_per_mm2_z")]) > 1000
    page = files["html"].read_text(encoding="utf-8")
    assert "Branch recall" in page
    assert "within 4 µm of the lines of the other volume" in page


def test_without_the_setting_there_are_none(truth, found):
    report = run({"A": truth, "B": found}, CompareConfig(phase="bright"))
    assert report.graphs == {}
    assert report.to_dict()["graph_agreement"] == {}
    assert "graph_branches" not in report.to_dataframe().columns
    assert not any("ranch" in row.label for row in report.rows())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"graph": True, "pores": False}, "traced in the pores"),
        ({"graph_distance": 2.0}, "requires --graph"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(truth, found, settings, said):
    with pytest.raises(ConfigError, match=said):
        run({"A": truth, "B": found}, CompareConfig(**settings))


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), float("nan")])
def test_a_distance_is_above_zero(wrong):
    with pytest.raises(ConfigError):
        CompareConfig.create(graph=True, graph_distance=wrong)


def test_graphs_that_do_not_fit_into_memory_are_refused_first(truth, found):
    config = GRAPH.model_copy(update={"memory": "2MB"})
    steps = []
    with pytest.raises(VolumeError, match="omit the graph"):
        run({"A": truth, "B": found}, config, said=steps)
    assert steps == []
