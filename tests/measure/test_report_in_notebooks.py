"""A report as a pandas table, and its display in notebooks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import summary_rows


@pytest.fixture
def report() -> PorosityReport:
    data = np.full((12, 24, 24), 200, np.uint8)
    data[2:6, 2:8, 2:8] = data[6:11, 12:20, 12:20] = 30
    volume = Volume(data, "ZYX", (2.0, 1.0, 1.0), "µm", name="<rock>")
    return measure_porosity(volume)


def test_one_row_per_pore_by_its_label(report):
    table = report.to_dataframe()
    assert list(table.columns) == list(report.table)
    assert table.sort_values("label").index.tolist() == [0, 1]
    for _, pore in table.iterrows():
        label = pore["label"]
        assert pore["voxels"] == np.count_nonzero(np.asarray(report.labels) == label)
    assert table["volume"].tolist() == (2 * table["voxels"]).tolist()
    assert table.attrs["units"] == report.units
    assert table.attrs["units"]["volume"] == "µm³"


def test_one_line_says_what_was_found(report):
    assert repr(replace(report, warnings=())) == (
        "<PorosityReport '<rock>': porosity 0.06713, pores 2, "
        "threshold 30 (dark pores), warnings 0>"
    )


def test_a_changed_table_leaves_the_report(report):
    table = report.to_dataframe()
    table.attrs["units"].clear()
    table.loc[1, "voxels"] = 0
    assert report.units
    assert report.table["voxels"].min() > 0


def test_a_volume_without_pores_has_an_empty_table():
    data = np.full((8, 8, 8), 200, np.uint8)
    data[4, 4, 4] = 30
    table = measure_porosity(data).to_dataframe()
    assert len(table) == 0
    assert "voxels" in table.columns


def test_a_notebook_shows_the_summary(report):
    html = replace(report, warnings=("few & small",))._repr_html_()
    for label, text in summary_rows(report):
        assert label.replace("<", "&lt;") in html
        assert text in html
    assert "&lt;rock&gt;" in html
    assert "<rock>" not in html
    assert "few &amp; small" in html
