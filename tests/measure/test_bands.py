"""Bands: the values of statistics at the threshold and at both shifted thresholds."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure
from test_morphometry import field

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import GreyHistogram, histogram_steps
from napari_geosr.measure.methods import methods_text
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.reports.export import write_csv, write_values
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import table_rows
from napari_geosr.measure.reports.stored import report_from_files
from napari_geosr.measure.segment import shifted_thresholds

OPTIONS = {"voxel_size": (2.0,) * 3, "unit": "µm", "threshold": 120.0}


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """Pores with gradual walls, and a thickness that depends on the threshold."""
    smooth = field((30, 32, 34), (2, 2.5, 3))
    return (120 + 40 * (smooth + 0.7)).astype(np.float32)


def _limits(grey: np.ndarray) -> tuple[float, float]:
    histogram: GreyHistogram = run_to_end(histogram_steps(grey, thickness=len(grey)))
    return shifted_thresholds(histogram, 120.0)


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_a_band_contains_the_values_at_the_shifted_thresholds(
    name: str, grey: np.ndarray
) -> None:
    found = measure(grey, statistics=(name,), bands=True, **OPTIONS)
    plain = measure(grey, statistics=(name,), **OPTIONS)
    others = [
        measure(grey, statistics=(name,), **(OPTIONS | {"threshold": value}))
        for value in _limits(grey)
    ]
    one = found.morphometry[name]
    assert one.values == plain.morphometry[name].values
    assert found.warnings == plain.warnings
    for quantity, value in one.values.items():
        values = [value, *(other.figures[quantity] for other in others)]
        if None in values:
            assert quantity not in one.bands
        else:
            expected = (min(values), max(values))
            assert one.bands[quantity] == pytest.approx(expected, rel=1e-9)


def test_bands_are_in_all_forms_of_the_report(tmp_path: Path, grey: np.ndarray) -> None:
    names = ("thickness", "trabecular")
    found = measure(grey, statistics=names, bands=True, **OPTIONS)
    plain = measure(grey, statistics=names, **OPTIONS)
    low, high = found.morphometry["thickness"].bands["Tb.Th"]
    assert low < found.figures["Tb.Th"] < high
    shown = {
        label.split(" ")[0]: texts for label, texts, _ in table_rows([found, plain])
    }
    assert shown["Tb.Th"][0] == f"{shown['Tb.Th'][1]} ({low:#.3g} to {high:#.3g})"
    # The volume does not depend on the threshold.
    assert found.morphometry["trabecular"].bands["TV"][0] == found.figures["TV"]
    assert shown["TV"][0] == shown["TV"][1]
    assert shown["BV/TV"][0].startswith(f"{shown['BV/TV'][1]} (")
    values = found.to_json_dict()
    stored = values["morphometry"]["trabecular"]["values"]["Conn.D"]
    assert stored["low"] <= stored["value"] <= stored["high"]
    assert stored["unit"] == "1/mm³"
    again = report_from_files(values, write_csv(tmp_path / "pores.csv", found))
    for name in names:
        bands = again.morphometry[name].bands
        assert bands.keys() == found.morphometry[name].bands.keys()
        for key, ends in found.morphometry[name].bands.items():
            assert bands[key] == pytest.approx(ends)
    assert "Bands: these statistics" in methods_text(found)
    assert "Bands" not in methods_text(plain)
    head, rows = _table(tmp_path / "values.csv", {"a": plain, "b": found})
    assert head[3:] == ["a", "b", "b: change (%)", "b: low", "b: high"]
    assert [float(cell) for cell in rows["Tb.Th"][-2:]] == pytest.approx([low, high])
    assert rows["Conn.D"][-2:] == [str(stored["low"]), str(stored["high"])]
    ends = found.morphometry["trabecular"].bands["BV/TV"]
    assert [float(c) / 100 for c in rows["BV/TV"][-2:]] == pytest.approx(ends)
    assert rows["porosity"][-2:] == ["", ""]


def _table(
    path: Path, reports: dict[str, PorosityReport]
) -> tuple[list[str], dict[str, list[str]]]:
    with write_values(path, reports).open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    return head, {row[0]: row for row in rows}


def test_the_blurred_surface_of_an_automatic_sample_keeps_its_phase() -> None:
    """A ball with a pore in air; its mask ends at the threshold itself."""
    from scipy.ndimage import gaussian_filter

    shape = (40,) * 3
    ball = ellipsoid(shape, (19.5,) * 3, 15) & ~ellipsoid(shape, (19.5,) * 3, 5)
    grey = gaussian_filter(np.where(ball, 200.0, 50.0), 1.5)
    for scan in (grey.astype(np.float32), np.round(grey).astype(np.uint8)):
        options = {"sample_mask": "auto", "statistics": ("trabecular", "lacunae")}
        found = measure(scan, bands=True, **options)
        low, high = (
            1 - end for end in reversed(found.morphometry["trabecular"].bands["BV/TV"])
        )
        assert low < found.porosity < high
        # If the surface became pore, the porosity would be above 6 %.
        assert found.porosity_low < low
        assert high < found.porosity_high < 0.04
        bands = found.morphometry["lacunae"].bands
        assert bands["Lc.N"] == (1, 1)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"statistics": ("thickness",), "hysteresis": 0.5},
            "bands cannot be measured with hysteresis",
        ),
        ({}, r"but none are requested \(--statistics\)"),
    ],
)
def test_bands_that_cannot_be_measured_are_refused(more: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        PorosityConfig.create(bands=True, **more)
