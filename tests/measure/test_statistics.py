"""A statistic is one file; all output is generated from the registry."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, scan

from napari_geosr.core import registry
from napari_geosr.core.errors import ConfigError
from napari_geosr.measure.reports import export
from napari_geosr.measure.reports.rows import summary_rows, table_rows
from napari_geosr.measure.statistics import pore_statistics, volume_statistics
from napari_geosr.operations.measure import colour_columns

#: Everything a new statistic requires.
SURFACE_TO_VOLUME = '''
"""Surface-to-volume ratio of each pore, and its mean."""

from napari_geosr.measure.statistic import (
    Colour, PoreStatistic, Row, VolumeStatistic
)
from napari_geosr.measure.sums import ratio


def surface_to_volume(pores):
    return ratio(pores.surface, pores.size)


STATISTICS = (
    PoreStatistic("surface_to_volume", surface_to_volume, power=-1, colour=Colour()),
    VolumeStatistic(
        "mean_surface_to_volume",
        lambda totals: totals.quantiles("surface_to_volume")["mean"],
        power=-1,
        unit_key="surface_to_volume_unit",
        row=Row("Mean surface-to-volume ratio", help="Surface ÷ volume of a pore."),
    ),
)
'''
RADIUS = 12


@pytest.fixture
def bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """Add a statistic like another package, by an entry point."""
    brought: list[str] = []

    def bring(name: str, source: str) -> None:
        (tmp_path / f"brought_{name}.py").write_text(source, encoding="utf-8")
        brought.append(f"brought_{name}")
        point = EntryPoint(name, f"brought_{name}", "napari_geosr.statistics")
        monkeypatch.setattr(
            registry,
            "entry_points",
            lambda group: [point] if group == "napari_geosr.statistics" else [],
        )

    monkeypatch.syspath_prepend(tmp_path)
    yield bring
    for name in brought:
        sys.modules.pop(name, None)


def ball(**fields):
    return measure(scan(ellipsoid((32,) * 3, (16,) * 3, RADIUS)), **fields)


def test_a_statistic_of_one_file_is_everywhere(bring, tmp_path: Path) -> None:
    bring("surface_to_volume", SURFACE_TO_VOLUME)
    report = ball(voxel_size=(0.5,) * 3, unit="µm")
    # For a sphere, 3 ÷ radius.
    assert report.table["surface_to_volume"] == pytest.approx([3 / 6], rel=0.03)
    assert list(report.table)[-1] == "surface_to_volume"
    assert report.units["surface_to_volume"] == "1/µm"
    path = export.write_csv(tmp_path / "pores.csv", report)
    with path.open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["surface_to_volume (1/µm)"]) == report.table["surface_to_volume"]
    values = report.to_json_dict()
    assert values["mean_surface_to_volume"] == report.table["surface_to_volume"]
    assert values["surface_to_volume_unit"] == "1/µm"
    label, text = summary_rows(report)[-1]
    assert label == "Mean surface-to-volume ratio"
    assert text.endswith(" µm⁻¹")
    page = export.write_html(tmp_path / "page.html", {"ball": report}).read_text()
    assert f"{label}</th><td>{text}<" in page
    assert colour_columns(report)["surface_to_volume"] is False
    assert report.figures["mean_surface_to_volume"] == pytest.approx(0.5, rel=0.03)


def test_a_length_in_voxels_is_shown_but_not_written_as_physical(bring) -> None:
    bring("surface_to_volume", SURFACE_TO_VOLUME)
    report = ball()
    values = report.to_json_dict()
    assert values["mean_surface_to_volume"] is None
    assert values["surface_to_volume_unit"] is None
    assert summary_rows(report)[-1][1].endswith("voxel⁻¹")


def test_without_it_nothing_is_left_of_it() -> None:
    assert "surface_to_volume" not in ball().table


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        (
            "second",
            SURFACE_TO_VOLUME.replace('"surface_to_volume", s', '"sphericity", s'),
            "Two statistics are called 'sphericity'",
        ),
        (
            "short",
            SURFACE_TO_VOLUME.replace("pores.size)", "pores.size)[:0]"),
            r"'surface_to_volume'.*shape \(0,\) for 1 pores",
        ),
    ],
)
def test_a_broken_statistic_is_named(bring, name: str, source: str, says: str) -> None:
    bring(name, source)
    with pytest.raises(ConfigError, match=says):
        ball()


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("empty", "", "'empty'.*brought_empty has no STATISTICS"),
        ("odd", "STATISTICS = 3", "'odd'.*brought_odd has an invalid STATISTICS"),
        ("lost", "import electricity_of_nobody", "'lost'.*electricity"),
        ("raising", "1 / 0", "'raising'.*division by zero"),
    ],
)
def test_a_module_that_cannot_be_used_stops_no_measurement(
    bring, name: str, source: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    bring(name, source)
    assert ball().pore_count == ball().pore_count == 1
    (message,) = caplog.messages
    assert re.search(says, message)


@pytest.mark.parametrize("flat", [False, True])
def test_no_two_stand_at_the_same_place(flat: bool) -> None:
    columns, figures = pore_statistics(flat=flat), volume_statistics(flat=flat)
    orders = [s.order for s in columns]
    assert len(set(orders)) == len(orders)
    written = [s.order for s in figures if s.in_json]
    assert len(set(written)) == len(written)
    colours = [s.colour.order for s in columns if s.colour is not None]
    assert len(set(colours)) == len(colours)


def test_a_figure_is_an_attribute_with_the_value_of_its_statistic() -> None:
    report = ball(voxel_size=(2.0,) * 3, unit="µm")
    names = ("porosity", "pore_count", "surface_area", "euler_number", "pores_per_mm3")
    for name in names:
        assert getattr(report, name) == report.figures[name]
    assert report.sample_size == report.figures["sample_volume"] == 32**3 * 8
    assert report.pore_size == pytest.approx(report.porosity * 32**3 * 8)


def test_images_share_only_fractions_with_volumes() -> None:
    disc = measure(scan(ellipsoid((1, 32, 32), (0, 16, 16), RADIUS)[0]), "YX")
    for reports in ([disc, ball()], [ball(), disc]):
        rows = {label: texts for label, texts, _ in table_rows(reports)}
        assert list(rows) == [
            "Porosity",
            "Threshold sensitivity (±5 %)",
            "Open porosity",
            "Closed porosity",
        ]
        assert all(len(texts) == 2 for texts in rows.values())


def test_columns_do_not_hold_on_to_all_sums() -> None:
    table = ball().table
    assert all(
        values.base is None or values.base.ndim == 1 for values in table.values()
    )
    assert all(isinstance(values, np.ndarray) for values in table.values())
