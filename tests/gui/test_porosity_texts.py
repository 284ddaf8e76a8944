"""Figures, tool tips, columns and colours of the Porosity dock do not change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from porosity_helpers import open_dock, physical, scan
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.gui.porosity.charts import _unit_to_label
from napari_geosr.gui.porosity.result import PorosityResult

GOLDEN = Path(__file__).parent / "golden" / "porosity_texts.json"


def texts_of(result: PorosityResult) -> dict[str, object]:
    """The texts of the dock's result."""
    grid = result.figures.layout()
    widgets = [grid.itemAt(i).widget() for i in range(grid.count())]
    figures = [[w.text(), w.toolTip()] for w in widgets if isinstance(w, QLabel)]
    model = result.table.pores
    roles = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole)
    heads = [
        [model.headerData(i, Qt.Orientation.Horizontal, role) for role in roles]
        for i in range(model.columnCount())
    ]
    cells = [model.data(model.index(0, i)) for i in range(model.columnCount())]
    colours = [result.colour.itemText(i) for i in range(result.colour.count())]
    return {"figures": figures, "heads": heads, "cells": cells, "colours": colours}


def image(**fields) -> Volume:
    return Volume(scan().data[8], "YX", name="image", **fields)


def measured(case: str) -> dict:
    """Reports of a case by the name of their column."""
    flat = {"voxel_size": (2.0, 2.0), "unit": "µm"}
    if case == "interval":
        deviation = physical().replace(data=0 * scan().data + 30)
        settings = {"deviation": deviation, "interval_factor": 1.5}
        return {"scan": measure_porosity(physical(), **settings)}
    volumes = {
        "volume": [physical()],
        "pixel": [scan()],
        "image": [image(**flat)],
        "compared": [physical(), physical(name="other", noise=30)],
    }[case]
    return {volume.name: measure_porosity(volume) for volume in volumes}


CASES = ("volume", "pixel", "image", "interval", "compared")


@pytest.mark.parametrize("case", CASES)
def test_texts_stay(case: str, qtbot) -> None:
    result = PorosityResult()
    qtbot.addWidget(result)
    result.set_reports(measured(case))
    found = json.loads(json.dumps(texts_of(result)))
    if "WRITE_GOLDEN" in os.environ:  # for an intended change
        known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        text = json.dumps(known | {case: found}, indent=0, ensure_ascii=False)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))[case]


def test_the_unit_of_the_smallest_pore_size_follows_its_number(viewer, qtbot):
    dock = open_dock(viewer, qtbot)
    editor = dock.settings.form.editor("min_voxels")
    assert (editor.value(), editor.suffix()) == (8, " voxels")
    editor.setValue(1)
    assert editor.suffix() == " voxel"


@pytest.mark.parametrize(
    ("texts", "unit", "shown"),
    [
        (["9.34 percentage points", "–"], "percentage points", ["9.34", "–"]),
        (
            ["25.0 µm (24.6 to 25.40)", "1\u202f020 µm (980 to 1\u202f060)"],
            "µm",
            ["25.0 (24.6 to 25.40)", "1\u202f020 (980 to 1\u202f060)"],
        ),
        (["\N{MINUS SIGN}1.2 µm⁻¹", "0 µm⁻¹"], "µm⁻¹", ["\N{MINUS SIGN}1.2", "0"]),
        (["12.1 to 13.4 %", "12 %"], "%", ["12.1 to 13.4", "12"]),
        (["2.0 µm", "3.0 voxels"], "", ["2.0 µm", "3.0 voxels"]),
        (["3 of 20 (12 % by volume)", "–"], "", ["3 of 20 (12 % by volume)", "–"]),
        (["no change", "–"], "", ["no change", "–"]),
    ],
)
def test_a_common_unit_is_part_of_the_label(texts, unit, shown) -> None:
    label = f"Value ({unit})" if unit else "Value"
    assert _unit_to_label("Value", texts) == (label, shown)
