"""Output for users and programs: JSON, rows of text, CSV, pictures, the page."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from pore_shapes import ellipsoid, measure, scan

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.measure.number_text import (
    difference_text,
    number_text,
    percent_text,
    rough_percent,
)
from napari_geosr.measure.reports import export
from napari_geosr.measure.reports.named import named_warning, named_warnings
from napari_geosr.measure.reports.report import PorosityReport, size_histogram
from napari_geosr.measure.reports.rows import summary_rows, table_rows


@pytest.fixture(scope="module")
def pores() -> np.ndarray:
    both = ellipsoid((40,) * 3, (12,) * 3, 7) | ellipsoid((40,) * 3, (28,) * 3, 9)
    both[0, :4, :4] = True
    return both


@pytest.fixture(scope="module")
def before(pores: np.ndarray) -> PorosityReport:
    grey = scan(pores) + np.random.default_rng(0).normal(0, 20, pores.shape)
    return measure(grey, voxel_size=(2, 2, 2), unit="µm", name="scan.tif")


@pytest.fixture(scope="module")
def after(pores: np.ndarray) -> PorosityReport:
    return measure(scan(pores), voxel_size=(0.002,) * 3, unit="mm", name="truth")


FIELDS = {
    "porosity", "pore_count", "pores_per_mm3", "unit", "threshold", "phase",
    "voxel_size", "min_voxels", "connectivity", "shape", "sample_voxels",
    "pore_voxels", "small_pore_voxels", "open_porosity", "closed_porosity",
    "surface_area", "specific_surface_area", "euler_number", "mean_volume",
    "median_volume", "equivalent_diameter", "nonfinite_voxels",
    "porosity_uncertainty", "warnings",
}  # fmt: skip


def test_json_has_the_fields_and_is_strict(before, after) -> None:
    for report in (before, after):
        values = json.loads(json.dumps(report.to_json_dict(), allow_nan=False))
        assert set(values) >= FIELDS
        assert 0 < values["porosity"] < 1
        assert values["voxel_size"] == list(report.voxel_size)
        closed, opened = values["closed_porosity"], values["open_porosity"]
        assert closed + opened == pytest.approx(values["porosity"])
        assert sum(values["histogram"]["counts"]) == values["pore_count"]


def test_figures_in_different_units_agree(pores, after) -> None:
    other = measure(scan(pores), voxel_size=(2, 2, 2), unit="µm")
    ours, theirs = other.to_json_dict(), after.to_json_dict()
    assert ours["pores_per_mm3"] == pytest.approx(theirs["pores_per_mm3"])
    assert ours["mean_volume"] == pytest.approx(theirs["mean_volume"] * 1e9)
    specific = ours["specific_surface_area"], theirs["specific_surface_area"]
    assert specific[0] * 1e3 == pytest.approx(specific[1])


def test_unknown_voxel_size_gives_no_physical_values(pores) -> None:
    values = measure(scan(pores)).to_json_dict()
    assert values["unit"] == "pixel"
    for name in ("pores_per_mm3", "mean_volume", "surface_area", "volume_unit"):
        assert values[name] is None
    assert values["pore_size_voxels"]["max"] > 1000


def test_image_has_areas() -> None:
    disc = ellipsoid((1, 40, 40), (0, 20, 20), 12)[0]
    report = measure(scan(disc), "YX", voxel_size=(2, 2), unit="µm")
    values = report.to_json_dict()
    assert values["pores_per_mm3"] is None
    assert values["pores_per_mm2"] == pytest.approx(1 / (80e-3) ** 2)
    assert values["mean_area"] == pytest.approx(disc.sum() * 4)
    assert values["surface_area"] is None
    assert any("µm²" in text for _, text in summary_rows(report))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (3, "3"), (12345, "12\u202f345"), (0.01234, "0.0123"),
        (2.0 / 3, "0.667"),
        (1234.5, "1\u202f230"), (2.5e9, "2.50×10⁹"), (1.2e-7, "1.20×10⁻⁷"),
        (-7.25, "\N{MINUS SIGN}7.25"), (math.nan, "–"), (123.4, "123"),
    ],
)  # fmt: skip
def test_number_text(value, text) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.1234, "12.3 %"), (0.5, "50.0 %"), (0.001234, "0.123 %"), (0.18, "18.0 %"),
        (0, "0 %"), (1, "100 %"), (0.03, "3.00 %"),
    ],
)  # fmt: skip
def test_percent_text(fraction, text) -> None:
    assert percent_text(fraction) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0 %"),
        (0.00052, "0.052 %"),
        (0.0523, "5.2 %"),
        (0.1449, "14 %"),
        (0.996, "100 %"),
        (1.5, "150 %"),
    ],
)
def test_estimates_have_two_digits(fraction: float, text: str) -> None:
    assert rough_percent(fraction) == text


@dataclass(frozen=True)
class OfFigures:
    """Figures as in a report."""

    figures: dict[str, Any]
    unit: str = "pixel"
    voxel_size: tuple[float, ...] = (1.0, 1.0, 1.0)
    is_flat: bool = False
    group: None = None
    groups: dict[str, Any] = field(default_factory=dict)
    morphometry: dict[str, Any] = field(default_factory=dict)


def test_figures_side_by_side_have_the_same_digits() -> None:
    assert number_text(18.0, whole=False) == "18.0"
    assert number_text(0, whole=False) == "0"
    figures = {"porosity": 0.175, "mean_volume": 17.5, "euler_number": 3}
    other = {"porosity": 0.18, "mean_volume": 18.0, "euler_number": -4}
    shown = {
        label: texts
        for label, texts, _ in table_rows([OfFigures(figures), OfFigures(other)])
    }
    assert shown["Porosity"] == ["17.5 %", "18.0 %"]
    assert shown["Mean pore volume"] == ["17.5 voxel³", "18.0 voxel³"]
    # a count remains an integer
    assert shown["Euler number"] == ["3", "\N{MINUS SIGN}4"]


def test_numbers_without_a_unit_are_not_called_pixels(shared_data: Path) -> None:
    # The file gives 1.953125 without a unit.
    bone = io.read(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    size = bone.voxel_size
    found = measure(bone.data, voxel_size=size, keep_labels=False)
    shown = dict(summary_rows(found))
    assert shown["Largest pore volume"].endswith(" unit³")
    assert shown["Mean equivalent diameter"].endswith(" unit")
    assert found.units["volume"] == "unit³"
    assert found.units["centroid_x"] == "unit"
    plain = measure(bone.data, keep_labels=False)
    assert dict(summary_rows(plain))["Largest pore volume"].endswith(" voxel³")
    assert plain.units["volume"] == "voxel³"


def test_volumes_share_one_unit() -> None:
    figures = {"mean_volume": 31.04, "median_volume": 0.775, "largest_volume": 586.2}
    shown = {
        label: texts[0]
        for label, texts, _ in table_rows([OfFigures(figures, "mm", (0.4, 0.4, 0.4))])
    }
    assert shown["Mean pore volume"] == "31.0 mm³"
    assert shown["Median pore volume"] == "0.775 mm³"
    assert shown["Largest pore volume"] == "586 mm³"


@pytest.mark.parametrize("units", [("nm", "µm"), ("µm", "nm"), ("nm", "nm")])
def test_reciprocal_lengths_are_in_the_more_readable_unit(
    units: tuple[str, str],
) -> None:
    per = {"µm": 0.02, "nm": 0.00002}
    reports = [
        OfFigures({"specific_surface_area": per[unit]}, unit, (1.0, 1.0, 1.0))
        for unit in units
    ]
    ((_, texts, _),) = table_rows(reports)
    expected = "2.00×10⁻⁵ nm⁻¹" if "µm" not in units else "0.0200 µm⁻¹"
    assert texts == [expected] * 2


def test_the_sensitivity_to_the_threshold_is_called_that(before, after) -> None:
    rows = dict(summary_rows(before))
    assert rows["Porosity"] == percent_text(before.porosity)
    low, high = 100 * before.porosity_low, 100 * before.porosity_high
    text = rows["Threshold sensitivity (±5 %)"]
    found = [float(part) for part in text.removesuffix(" %").split(" to ")]
    assert found == pytest.approx([low, high], abs=high - low)
    assert dict(summary_rows(after))["Threshold sensitivity (±5 %)"] == "no change"
    assert not any("±" in text for text in rows.values())
    values = before.to_json_dict()
    assert values["threshold_sensitivity"] == before.threshold_sensitivity
    assert values["porosity_uncertainty"] == before.threshold_sensitivity


def test_difference_text() -> None:
    assert difference_text(2.0, 2.5) == "+25.0 %"
    assert difference_text(2.0, 1.0) == "\N{MINUS SIGN}50.0 %"
    assert difference_text(0, 1.0) == "–"
    assert difference_text(None, 1.0) == "–"


def test_rows_share_one_unit(before, after) -> None:
    rows = {
        label: (*texts, differences[1])
        for label, texts, differences in table_rows([before, after])
    }
    one, other, difference = rows["Largest pore volume"]
    assert one.split()[-1] == other.split()[-1] == "µm³"
    assert difference.endswith("%")
    assert rows["Porosity"][0].endswith("%")
    assert rows["Threshold"][2] == ""
    assert before.summary_lines()[0].startswith("Porosity: ")


def test_histogram_counts_every_pore() -> None:
    for values in ([8.0], [8.0, 8.0], [1.0, 10.0, 1e9], []):
        histogram = size_histogram(np.array(values), "µm³", 12)
        assert histogram.counts.sum() == len(values)


def test_csv(before, tmp_path: Path) -> None:
    path = export.write_csv(tmp_path / "pores.csv", before)
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == before.pore_count
    volumes = [float(row["volume (µm³)"]) for row in rows]
    np.testing.assert_array_equal(volumes, before.table["volume"])
    assert {row["touches_border"] for row in rows} == {"0", "1"}
    assert [row["sphericity"] == "" for row in rows] == before.table[
        "touches_border"
    ].tolist()


def test_json_file_takes_reports_and_mappings(before, tmp_path: Path) -> None:
    values = {"degraded": before, "n": np.int64(3), "path": tmp_path}
    path = export.write_json(tmp_path / "report.json", values)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["degraded"]["porosity"] == before.porosity
    assert read["n"] == 3


def test_pictures(before, after, tmp_path: Path) -> None:
    path = export.write_png(tmp_path / "h.png", {"before": before, "after": after})
    one = imread(path)
    assert min(one.shape[:2]) > 300
    none = measure(np.arange(64.0).reshape(4, 4, 4), threshold=-1.0)
    for reports in ({"none": none}, {"before": before, "none": none}):
        export.write_png(path, reports, overwrite=True)
        assert not np.array_equal(imread(path), one)
    light = export.histogram_png({"before": before})
    assert light != export.histogram_png({"before": before}, theme="dark")


def test_labels_of_log_axes_are_not_formulas(before, monkeypatch) -> None:
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    shown: set[str] = set()
    draw = Text.draw

    def note(text: Text, renderer: Any) -> None:
        shown.add(text.get_text())
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", note)
    monkeypatch.delattr(MathTextParser, "parse")
    export.histogram_png({"before": before})
    assert shown & {"10⁰", "10¹", "10²", "10³"}
    formula = r"$\mathdefault{-2\times10^{-14}}$"
    assert export._without_formula(formula) == "-2×10⁻¹⁴"


def test_page_is_self_contained(before, after, tmp_path: Path) -> None:
    reports = {"degraded <1>": before, "truth": after}
    path = export.write_html(
        tmp_path / "report.html",
        reports,
        title="Foam & scan",
        pictures={"slice": export.histogram_png(reports)},
        histogram=export.write_png(tmp_path / "histogram.png", reports),
        provenance=[{"software": "napari-geosr", "path": Path("a")}],
    )
    text = path.read_text(encoding="utf-8")
    assert "http" not in text
    assert "<script" not in text
    assert not re.search(r'(src|href|srcset)="(?!data:image/png;base64,)', text)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert "degraded &lt;1&gt;" in text
    assert "Foam &amp; scan" in text
    assert text.count("data:image/png") == 3
    again = export.write_html(tmp_path / "again.html", reports)
    drawn = re.findall(r'"(data:image/png[^"]*)"', again.read_text(encoding="utf-8"))
    assert len(drawn) == 2
    assert all(picture in text for picture in drawn)
    assert "change relative to truth" in text
    assert percent_text(before.porosity) in text
    assert "Threshold sensitivity" in text
    assert "not a measurement uncertainty" in text
    for tag in ("table", "figure", "div", "details", "picture"):
        assert text.count(f"<{tag}") == text.count(f"</{tag}>")


@pytest.mark.parametrize("kind", ["csv", "json", "png", "html"])
def test_existing_files_are_kept(kind: str, before, tmp_path: Path) -> None:
    path = tmp_path / f"out.{kind}"
    path.write_text("precious")
    write = getattr(export, f"write_{kind}")
    content = before if kind in ("csv", "json") else {"a": before}
    with pytest.raises(FileError, match="exists"):
        write(path, content)
    assert path.read_text() == "precious"
    write(path, content, overwrite=True)
    assert path.stat().st_size > 100
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(FileError, match="folder"):
        write(tmp_path / "missing" / "x", content)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("scan", "Voxels are not cubic; morphometry used as many as in the scan."),
        ("pores", "τ.x (tortuosity) cannot be determined: no pores connect the faces."),
        ("a", "Conn.D leaves out 202 loose particles and a cavity."),
        ("SR", "The SRC is unknown."),
        ("Voxels", "Voxels are not cubic."),
        ("a.tif", "bona.tif has no voxel size."),
    ],
)
def test_words_of_a_warning_are_not_the_name_of_its_volume(
    title: str, text: str
) -> None:
    assert named_warning(text, title) == f"{title}: {text}"
    assert named_warnings({title: [text], "other": []}) == [f"{title}: {text}"]


@pytest.mark.parametrize(
    ("title", "name", "text"),
    [
        ("scan", "", "'scan' is dark."),
        ("core.tif", "core", "The mask covers 'core' in part."),
        ("core.tif", "core", "The samples differ: 2 % of the voxels of core.tif."),
        ("'scan'", "scan", "'scan' looks like a label image."),
        ("slices", "", "slices looks like a label image."),
    ],
)
def test_a_warning_that_names_its_volume_is_unchanged(
    title: str, name: str, text: str
) -> None:
    assert named_warning(text, title, name) == text


def _values(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the head of ``values.csv``, and the cells after the name by the name."""
    with path.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert len({row[0] for row in rows}) == len(rows)
    return head, {row[0]: row[1:] for row in rows}


def test_values_side_by_side_have_units(tmp_path, pores) -> None:
    """Two volumes in different units, whose lengths are in the unit of the first."""
    more = {
        "statistics": ("trabecular", "thickness", "profile"),
        "group": "voxels>1500",
    }
    one = measure(scan(pores), voxel_size=(2,) * 3, unit="µm", name="a", **more)
    two = measure(scan(pores), voxel_size=(0.003,) * 3, unit="mm", name="b", **more)
    path = export.write_values(tmp_path / "values.csv", {"a": one, "name": two})
    head, rows = _values(path)
    assert head == ["name", "quantity", "unit", "a", "name", "name: change (%)"]
    label, unit, *cells = rows["Tb.Th"]
    assert label.startswith("Tb.Th (")
    assert unit == "µm"
    assert [float(cell) for cell in cells] == pytest.approx(
        [one.figures["Tb.Th"], 1000 * two.figures["Tb.Th"], 50]
    )
    _, unit, *cells = rows["Conn.D"]
    assert unit == "1/mm³"
    assert float(cells[0]) == pytest.approx(one.figures["Conn.D"] * 1e9)
    assert float(cells[1]) == pytest.approx(two.figures["Conn.D"])
    assert rows["BV/TV"][1] == rows["porosity"][1] == "%"
    assert float(rows["porosity"][2]) == pytest.approx(100 * one.porosity)
    assert rows["Prof.SD"][1] == "percentage points"
    assert float(rows["Prof.SD"][2]) == pytest.approx(100 * one.figures["Prof.SD"])
    assert rows["pore_count"][1:] == ["", "3", "3", "0.0"]
    assert rows["pores_per_mm3"][1] == "1/mm³"
    ends = (rows[f"threshold_sensitivity {end}"] for end in ("low", "high"))
    for cells, value in zip(ends, (one.porosity_low, one.porosity_high), strict=True):
        assert cells[1] == "%"
        assert float(cells[2]) == pytest.approx(100 * value)
        assert cells[4] == ""  # limits are not compared
    assert one.group is not None
    assert rows["group"][2:4] == [str(one.group.count)] * 2
    assert rows["group share"][1] == "%"


def test_values_of_an_unknown_voxel_size_and_of_the_truth(tmp_path, pores) -> None:
    voxels = measure(scan(pores), statistics=("thickness",), name="v")
    sized = measure(
        scan(pores), statistics=("thickness",), voxel_size=(2,) * 3, unit="µm"
    )
    head, rows = _values(export.write_values(tmp_path / "v.csv", {"v": voxels}))
    assert head == ["name", "quantity", "unit", "v"]
    assert rows["Tb.Th"][1] == "voxel"
    assert float(rows["Tb.Th"][2]) == pytest.approx(voxels.figures["Tb.Th"])
    both = {"v": voxels, "truth": sized}
    head, rows = _values(export.write_values(tmp_path / "both.csv", both))
    assert head[3:] == ["v", "truth", "v: change (%)"]
    assert rows["Tb.Th"][1:3] == ["µm", ""]  # voxels cannot be converted
    assert float(rows["porosity"][4]) == pytest.approx(0)
