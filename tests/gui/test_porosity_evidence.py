"""Evidence for each measured pore: a column of the table and a colour."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from porosity_helpers import add, measure, open_dock, physical, wait_for_levels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

import napari_geosr as geosr
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import METADATA, add_result
from napari_geosr.gui.layers.explained import source_entry
from napari_geosr.gui.porosity import evidence as evidence_run
from napari_geosr.operations.explain import explain_pores_steps

#: Number of noise realisations; eight take four times as long.
FEW = {"draws": 2}
VERDICTS = {"well supported", "weak", "prior only"}


@pytest.fixture(scope="module")
def restored() -> Volume:
    return geosr.restore(physical(noise=12), "ct-denoise")


@pytest.fixture
def dock(viewer, qtbot, restored, monkeypatch):
    """The Porosity dock, with the pores of a restored layer measured."""
    usual = evidence_run.explain_settings
    monkeypatch.setattr(
        evidence_run,
        "explain_settings",
        lambda *args: (found := usual(*args)) and found.model_copy(update=FEW),
    )
    source = add(viewer, physical(noise=12))
    result = add_result(viewer, restored, source, name="restored")
    result.metadata[METADATA] |= source_entry(source)
    viewer.layers.selection.active = result
    made = open_dock(viewer, qtbot)
    made.settings.image.set_layer(result)
    made.settings.other.set_layer(None)
    wait_for_levels(made, qtbot)
    measure(made, qtbot)
    return made


def explain(dock, qtbot) -> None:
    assert dock.result.evidence.isEnabled()
    dock.result.evidence.click()
    assert dock.activity.busy == "evidence"
    assert not dock.measure_button.isEnabled()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=120_000)


def shown_heads(dock) -> list[str]:
    """Titles of the columns from left to right."""
    header, model = dock.result.table.horizontalHeader(), dock.result.table.model()
    order = [header.logicalIndex(i) for i in range(model.columnCount())]
    return [model.headerData(i, Qt.Orientation.Horizontal) for i in order]


def test_evidence_is_a_column_and_a_colour(viewer, qtbot, dock, tmp_path, monkeypatch):
    pores, result = viewer.layers["restored · pores"], dock.result
    before = result.report
    assert "evidence" not in shown_heads(dock)
    by_size = pores.get_color(1)
    result.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    sorted_labels = result.table.pores.shown_labels.tolist()
    explain(dock, qtbot)
    assert "pores: " in dock.message.text
    assert "blue: well supported" in dock.message.text

    # The column is next to the label, and does not change the order of the rows.
    assert shown_heads(dock)[:2] == ["label", "evidence"]
    assert result.table.pores.shown_labels.tolist() == sorted_labels
    found = result.report.table["evidence"]
    assert set(found) <= VERDICTS | {""}
    large = result.report.table["voxels"] > 300
    assert large.sum() == 2
    assert set(found[large]) == {"well supported"}
    assert (result.report.table["evidence_support"][large] > 4).all()
    assert list(pores.features["evidence"][1:]) == list(found)

    # The colours.
    assert result.colour_column == "evidence"
    blue = pores.get_color(int(np.flatnonzero(large)[0]) + 1)
    assert blue[2] > 0.8 > blue[0]
    assert not np.allclose(blue, by_size)
    result.colour.setCurrentText("volume")
    assert np.allclose(pores.get_color(1), by_size)

    # The exported table has the column.
    chosen = str(tmp_path / "foam_report.html"), ""
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: chosen)
    result.export.click()
    qtbot.waitUntil(lambda: "report is in" in dock.message.text, timeout=60_000)
    with (tmp_path / "foam_pores.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["evidence"] for row in rows] == list(found)

    # A run for an earlier measurement does not change the table of a later one.
    measured, explained = dock._measured, result.report
    measure(dock, qtbot)
    assert "evidence" not in result.report.table
    name = result.which.currentText()
    late = evidence_run.ExplainedPores(before, explained, None, None, "…", ())
    dock._on_explained(name, measured, late)
    assert "evidence" not in result.report.table
    assert "was discarded" in dock.message.text


def test_groups_kept_while_the_evidence_is_found_stay(viewer, qtbot, dock):
    result, pores = dock.result, viewer.layers["restored · pores"]
    result.evidence.click()
    assert dock.activity.busy == "evidence"
    dock.pores.marked.set_labels([1])
    result.plot.name.setText("mine")
    result.plot.save.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=120_000)
    for table in (result.report.table, pores.features):
        assert {"mine", "evidence", "evidence_support"} <= {*table}
    assert result.report.table["mine"].tolist()[:2] == [True, False]
    name = result.which.currentText()
    assert dock._measured.reports[name] is result.report
    assert {"mine", "evidence"} <= {*dock._measured.features[name]}


def test_evidence_needs_a_restored_layer_and_its_scan(viewer, qtbot, dock):
    result = dock.result
    assert result.evidence.isEnabled()
    viewer.layers.remove("scan")
    assert not result.evidence.isEnabled()
    assert (
        "restored by a model, and only if the scan is open" in result.evidence.toolTip()
    )
    other = add(viewer, physical(noise=12, seed=1))  # of the same name and shape
    assert not result.evidence.isEnabled()
    viewer.layers.remove(other)
    add(viewer, physical(noise=12))
    assert result.evidence.isEnabled()
    dock.settings.image.set_layer(viewer.layers["scan"])
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert not result.evidence.isEnabled()


def test_evidence_comes_from_the_source_by_any_name(viewer, qtbot, dock):
    source = viewer.layers["scan"]
    source.name = "noisy"
    other = add(viewer, physical(noise=12, seed=1))
    assert other.name == "scan"
    assert dock.result.evidence.isEnabled()
    restored = viewer.layers["restored"]
    dock.settings.image.set_layer(source)
    dock.settings.image.set_layer(restored)
    assert dock.settings.other.layer() is source
    explain(dock, qtbot)
    table = dock.result.report.table
    assert set(table["evidence"][table["voxels"] > 300]) == {"well supported"}


def test_evidence_refuses_a_source_that_was_edited(viewer, qtbot, dock):
    source = viewer.layers["scan"]
    source.data = source.data + 1
    explain(dock, qtbot)
    assert "was edited since" in dock.message.text
    assert "evidence" not in dock.result.report.table


@pytest.fixture
def from_disk(viewer, qtbot, tmp_path, monkeypatch):
    """The dock with the pores of a restored file, whose scan is not open."""
    usual = evidence_run.explain_settings
    monkeypatch.setattr(
        evidence_run,
        "explain_settings",
        lambda *args: (found := usual(*args)) and found.model_copy(update=FEW),
    )
    scan = geosr.write(physical(noise=12), tmp_path / "scan.ome.tif")
    result = geosr.write(
        geosr.restore(geosr.read(scan), "ct-denoise"), tmp_path / "restored.ome.tif"
    )
    (layer,) = viewer.open(str(result), plugin="napari-geosr")
    made = open_dock(viewer, qtbot)
    made.settings.image.set_layer(layer)
    made.settings.other.set_layer(None)
    wait_for_levels(made, qtbot)
    measure(made, qtbot)
    return made


def test_evidence_reads_a_scan_that_is_only_on_disk(qtbot, from_disk, tmp_path):
    explain(from_disk, qtbot)
    table = from_disk.result.report.table
    assert "pores: " in from_disk.message.text
    assert set(table["evidence"][table["voxels"] > 300]) == {"well supported"}
    assert from_disk.result.colour_column == "evidence"


def test_evidence_refuses_a_scan_that_is_gone_or_changed(qtbot, from_disk, tmp_path):
    dock, scan = from_disk, tmp_path / "scan.ome.tif"
    scan.rename(tmp_path / "elsewhere.ome.tif")
    explain(dock, qtbot)
    assert str(scan) in dock.message.text
    assert "no longer exists" in dock.message.text
    geosr.write(physical(noise=12, seed=1), scan)
    explain(dock, qtbot)
    assert "not the scan that was restored" in dock.message.text
    assert "evidence" not in dock.result.report.table
    assert dock.result.evidence.isEnabled()


def test_evidence_can_be_cancelled(viewer, qtbot, dock, monkeypatch):
    """Cancel at the first pore, so that the test does not depend on the speed."""
    counted = []

    def steps(*args):
        for step in explain_pores_steps(*args):
            counted.append(step)
            dock.activity.cancel()
            yield step

    monkeypatch.setattr(evidence_run, "explain_pores_steps", steps)
    dock.result.evidence.click()
    assert dock.cancel_button.isEnabled()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=120_000)
    assert "Cancelled" in dock.message.text
    assert len(counted) < 3
    assert "evidence" not in dock.result.report.table
    assert dock.measure_button.isEnabled()
    assert dock.result.evidence.isEnabled()
