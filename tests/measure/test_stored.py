"""A report rebuilt from its files equals the original."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.measure.reports import export
from napari_geosr.measure.reports.rows import summary_rows
from napari_geosr.measure.reports.stored import report_from_files


def written(report, folder):
    export.write_json(folder / "report.json", report)
    export.write_csv(folder / "pores.csv", report)
    return json.loads((folder / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("unit", ["µm", "pixel"])
@pytest.mark.parametrize("axes", ["ZYX", "YX"])
def test_it_says_what_it_said(tmp_path, rng, unit, axes):
    data = rng.normal(200, 4, (30, 40, 44)[-len(axes) :])
    data[..., 4:12, 4:12] = 20
    data[..., 20:31, 20:31] = 30
    data[..., 33:36, :3] = 25  # cut by the border: no sphericity
    sizes = (1.5, 2.0, 2.0)[-len(axes) :] if unit == "µm" else (1.0,) * len(axes)
    report = measure_porosity(Volume(data, axes, sizes, unit, name="foam"))
    found = report_from_files(written(report, tmp_path), tmp_path / "pores.csv")
    assert summary_rows(found) == summary_rows(report)
    assert found.to_json_dict() == report.to_json_dict() | {"noise": None}
    assert found.units == report.units
    for name, values in report.table.items():
        assert found.table[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found.table[name], values)


@pytest.mark.parametrize("axes", ["ZYX", "YX"])
def test_morphometry_group_and_settings_are_kept(tmp_path, rng, axes):
    from scipy.ndimage import gaussian_filter

    data = gaussian_filter(rng.normal(size=(40, 44, 48)[-len(axes) :]), 2)
    volume = Volume(data, axes, (2.0,) * len(axes), "µm", name="foam")
    names = ("thickness", "trabecular", "profile", "subvolumes", "network", "lacunae")
    report = measure_porosity(volume, statistics=names, group="d > 10 µm")
    report = report.with_group("large", report.table["voxels"] > 40, "voxels>40")
    report = report.with_group("drawn", report.table["voxels"] > 50)
    network = report.morphometry["network"].tables["network"]
    path = export.write_columns(tmp_path / "network.csv", network)
    found = report_from_files(
        written(report, tmp_path), tmp_path / "pores.csv", tables={"network": path}
    )
    assert summary_rows(found) == summary_rows(report)
    assert found.to_json_dict() == report.to_json_dict() | {"noise": None}
    assert found.group == report.group
    for name in ("in_group", "large", "drawn"):
        assert found.table[name].dtype == np.float64
    assert found.groups == report.groups
    again = export.write_columns(
        tmp_path / "again.csv", found.morphometry["network"].tables["network"]
    )
    assert again.read_bytes() == path.read_bytes()


def test_pores_of_unknown_membership_have_empty_cells(tmp_path, rng):
    import csv

    data = rng.normal(200, 4, (24, 24, 24))
    data[4:10, 4:10, 4:10] = 0
    data[16:20, 16:20, :4] = 0  # cut by the border: no sphericity
    report = measure_porosity(Volume(data, "ZYX"), group="sphericity>0.1")
    report = report.with_group("round", report.table["in_group"] == 1, "in_group==1")
    values = written(report, tmp_path)
    path = tmp_path / "pores.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["in_group"] for row in rows] == ["1", ""]
    assert [row["round"] for row in rows] == ["1", ""]
    found = report_from_files(values, path)
    for name in ("in_group", "round"):
        np.testing.assert_array_equal(found.table[name], [1, np.nan])
    # Files of earlier versions have 0 there, and are still read.
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].rstrip(",") + ",0,0"]), "utf-8")
    earlier = report_from_files(values, path)
    assert earlier.table["round"].tolist() == [1, 0]
    assert found.table["round"].dtype == earlier.table["round"].dtype


def test_figures_of_earlier_files_get_their_current_names(tmp_path, rng):
    data = rng.normal(200, 4, (12, 12, 12))
    data[3:7, 3:7, 3:7] = 0
    values = written(measure_porosity(Volume(data, "ZYX")), tmp_path)
    values["porosity_band"] = [0.02, 0.04]
    del values["porosity_interval"]
    found = report_from_files(values, tmp_path / "pores.csv")
    assert found.figures["porosity_interval"] == [0.02, 0.04]


def test_no_pores_are_no_rows(tmp_path, rng):
    data = rng.normal(200, 4, (12, 12, 12))
    data[5, 5, 5] = 0
    report = measure_porosity(Volume(data, "ZYX"), min_voxels=8)
    found = report_from_files(written(report, tmp_path), tmp_path / "pores.csv")
    assert summary_rows(found) == summary_rows(report)
    assert list(found.table) == list(report.table)
    assert len(found.table["label"]) == 0


def test_damaged_files_are_said_in_one_sentence(tmp_path, rng):
    data = rng.normal(200, 4, (12, 12, 12))
    data[3:7, 3:7, 3:7] = 0
    values = written(measure_porosity(Volume(data, "ZYX")), tmp_path)
    table = tmp_path / "pores.csv"
    with pytest.raises(FileError, match="another release"):
        report_from_files(values | {"histogram": None}, table)
    table.write_text(table.read_text("utf-8") + "1,2\n", "utf-8")
    with pytest.raises(FileError, match="damaged"):
        report_from_files(values, table)
    table.write_text("")
    with pytest.raises(FileError, match="damaged"):
        report_from_files(values, table)
    with pytest.raises(FileError, match="cannot be read"):
        report_from_files(values, tmp_path / "none.csv")
