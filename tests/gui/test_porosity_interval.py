"""The Porosity dock shows an interval for an uncertain result."""

from __future__ import annotations

import json

import numpy as np
from porosity_helpers import SHAPE, add, measure, open_dock, physical, wait_for_levels
from qtpy.QtWidgets import QFileDialog, QLabel


def record(this: str, time: str = "t1", factor: float | None = 2.0) -> dict:
    known = {"kind": "tta", "members": 1, "factor": factor, "nominal": 0.9}
    uncertainty = {"kind": "tta", "members": ["as it is"], "this": this}
    uncertainty["calibration"] = None if factor is None else known
    return {"operation": "restore", "time": time, "uncertainty": uncertainty}


def add_pair(viewer, name: str, time: str):
    """A result and its standard deviations, as the Restore dock adds them."""
    mean = add(viewer, physical(name=name))
    mean.metadata["geosr"] = {"provenance": [record("mean", time)]}
    made = physical(name=f"{name} (std)")
    spread = made.replace(data=np.full(SHAPE, 8, np.float32))
    from napari_geosr.gui.layers import geometry

    deviation = viewer.add_image(
        spread.data,
        name=spread.name,
        metadata={"geosr": {"provenance": [record("standard deviation", time)]}},
        **geometry(spread),
    )
    return mean, deviation


def test_the_interval_is_shown_and_exported(viewer, qtbot, tmp_path, monkeypatch):
    add_pair(viewer, "other", "t0")
    mean, deviation = add_pair(viewer, "mine", "t1")
    dock = open_dock(viewer, qtbot)
    settings = dock.settings
    assert settings.image.findText("mine (std)") < 0
    settings.image.set_layer(mean)
    wait_for_levels(dock, qtbot)
    assert settings.deviation.layer() is deviation
    measure(dock, qtbot)
    report = dock.result.report
    low, high = report.interval.porosity
    assert low <= report.porosity <= high
    assert low < high
    assert report.interval.nominal == 0.9
    texts = [label.text() for label in dock.result.figures.findChildren(QLabel)]
    assert any(text.startswith("Porosity interval") for text in texts)
    target = tmp_path / "mine_report.html"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), "")
    )
    dock.export()
    qtbot.waitUntil(lambda: "report is in" in dock.message.text, timeout=30_000)
    kept = json.loads((tmp_path / "mine_report.json").read_text(encoding="utf-8"))
    assert kept["porosity_interval"] == [low, high]
    assert "Porosity interval (90 %)" in target.read_text(encoding="utf-8")


def test_without_deviations_there_is_no_interval(viewer, qtbot):
    mean, deviation = add_pair(viewer, "mine", "t1")
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(mean)
    wait_for_levels(dock, qtbot)
    viewer.layers.remove(deviation)
    qtbot.waitUntil(lambda: dock.settings.deviation.layer() is None)
    measure(dock, qtbot)
    assert dock.result.report.interval is None
    json.dumps(dock.result.report.to_json_dict())
