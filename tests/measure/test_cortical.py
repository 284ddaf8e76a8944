"""The cortex of rings with trabeculae, cracks and a limited field of view."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pore_shapes import measure
from test_morphometry import measured

from napari_geosr.measure.overview.curves import curve_pictures
from napari_geosr.measure.phases.findings import Morphometry
from napari_geosr.measure.reports.export import write_columns

#: Distance from the axis of a tube with radii of 50 and 35 voxels.
RADIUS = np.hypot(*(np.indices((128, 128)) - np.array([63.3, 64.1])[:, None, None]))


def _tube(depth: int) -> np.ndarray:
    return np.repeat(((RADIUS <= 50) & (RADIUS >= 35))[None], depth, axis=0)


def _cortex(bone: np.ndarray, **more) -> Morphometry:
    return measured(~bone, "cortical", **more).morphometry["cortical"]


def _check_tube(found: Morphometry) -> None:
    area = math.pi * 50**2
    assert found.values["Tt.Ar"] == pytest.approx(area, rel=0.002)
    assert found.values["Ct.Ar"] == pytest.approx(area - math.pi * 35**2, rel=0.005)
    assert found.values["Ma.Ar"] == pytest.approx(math.pi * 35**2, rel=0.005)
    assert found.values["Ct.Th"] == pytest.approx(15, rel=0.03)


@pytest.mark.parametrize("start", [40, 50, 56, 60, 62])
def test_a_trabecula_across_the_marrow_is_no_cortex(start: int) -> None:
    bone = _tube(2)
    bone[1, start : start + 4] |= RADIUS[start : start + 4] <= 50
    found = _cortex(bone)
    _check_tube(found)
    assert found.values["Ct.Po"] == found.values["Po.N"] == 0
    assert any("In 1 of 2 slices, there are trabeculae" in r for r in found.remarks)


def test_crossing_trabeculae_and_pores_of_the_cortex() -> None:
    bone = _tube(2)
    bone[:, 60:65] |= RADIUS[60:65] <= 50
    bone[:, :, 80:84] |= RADIUS[:, 80:84] <= 50
    bone[:, 40:43, 99:103] = False  # a pore between the contours
    found = _cortex(bone)
    assert found.values["Ma.Ar"] == pytest.approx(math.pi * 35**2, rel=0.015)
    assert found.values["Po.N"] == 1
    assert found.values["Ct.Po"] == pytest.approx(12 / found.values["Ct.Ar"])


def test_canals_in_solid_bone_are_no_divided_marrow() -> None:
    """Without a cavity, all canals are pores of the cortex."""
    bone = np.repeat((RADIUS <= 50)[None], 2, axis=0)
    for y, x in np.argwhere(np.ones((4, 4))) * 16 + 40:
        bone[:, y - 2 : y + 2, x - 2 : x + 2] = False
    found = _cortex(bone)
    assert found.values["Ma.Ar"] == 0
    assert found.values["Po.N"] == 16


def _with_canals(n: int, radius: float, at: float) -> np.ndarray:
    """A tube with radii of 60 and 30 voxels, and canals around the marrow."""
    y, x = np.indices((128, 128)) - np.array([63.3, 64.1])[:, None, None]
    away = np.hypot(y, x)
    bone = (away <= 60) & (away >= 30)
    for angle in 2 * np.pi * np.arange(n) / max(n, 1) + 0.1:
        bone &= np.hypot(y - at * np.sin(angle), x - at * np.cos(angle)) > radius
    return np.repeat(bone[None], 2, axis=0)


@pytest.mark.parametrize(
    ("n", "radius", "at"),
    [(1, 5, 37), (4, 5, 38), (1, 9, 41), (8, 7, 40), (8, 8, 42)],
)
def test_canals_near_the_marrow_are_pores_of_the_cortex(
    n: int, radius: float, at: float
) -> None:
    """The bone between canal and marrow is thinner than both, as a trabecula is."""
    found = _cortex(_with_canals(n, radius, at)).values
    area = math.pi * (60**2 - 30**2)
    assert found["Ct.Ar"] == pytest.approx(area, rel=0.005)
    assert found["Po.N"] == n
    assert found["Ct.Po"] == pytest.approx(n * math.pi * radius**2 / area, rel=0.06)


def test_parts_of_the_marrow_are_told_apart_from_canals_and_counted() -> None:
    """Two trabeculae divide the marrow, and there is a canal near it."""
    bone = _with_canals(1, 5, 38)
    middle = RADIUS <= 60
    for start in (44, 76):
        bone[:, start : start + 3] |= middle[start : start + 3]
    found = _cortex(bone)
    assert found.values["Po.N"] == 1
    assert found.values["Ma.Ar"] == pytest.approx(math.pi * 30**2, rel=0.02)
    (remark,) = (r for r in found.remarks if "several holes" in r)
    assert remark.startswith("In 2 of 2 slices")
    assert "on average, there are 2 holes besides the largest one" in remark
    plain = _cortex(_with_canals(1, 5, 38))
    assert not any("several holes" in r for r in plain.remarks)


def test_a_network_of_trabeculae_divides_the_marrow() -> None:
    """No part is larger than the others together, so none may be a canal alone.

    Only small corners between trabeculae and cortex do not belong to the cavity.
    """
    bone = _tube(2)
    for start in range(32, 96, 15):
        bone[:, start : start + 4] |= RADIUS[start : start + 4] <= 50
        bone[:, :, start : start + 4] |= RADIUS[:, start : start + 4] <= 50
    found = _cortex(bone)
    assert 0.75 < found.values["Ma.Ar"] / (math.pi * 35**2) < 1
    assert any("several holes" in r for r in found.remarks)


@pytest.mark.parametrize("cracked", [slice(0, 3), slice(8, 9)])
def test_slices_with_an_open_ring_are_left_out(cracked: slice) -> None:
    bone = _tube(40)
    bone[cracked, :40, 64] = False
    found = _cortex(bone)
    _check_tube(found)
    n = len(range(40)[cracked])
    (remark,) = (r for r in found.remarks if "left out" in r)
    assert remark.startswith(f"{n} of 40 slice")
    solid = _tube(40)
    solid[-1] = RADIUS < 30  # the tip of a bone has no cavity, but is no open ring
    assert not any("left out" in r for r in _cortex(solid).remarks)


def test_nan_voxels_or_a_mask_that_cut_the_bone_are_reported() -> None:
    bone = _tube(4)
    cut, whole = (np.repeat((r > RADIUS)[None], 4, axis=0) for r in (45, 53))
    for inside, n_reports in ((cut, 1), (whole, 0)):
        grey = np.where(bone, 200.0, 50.0).astype(np.float32)
        grey[~inside] = np.nan
        by_nan = measure(grey, threshold=120.0, statistics=("cortical",))
        by_mask = measured(~bone, "cortical", mask=inside.astype(np.uint8))
        for report in (by_nan, by_mask):
            remarks = report.morphometry["cortical"].remarks
            told = [r for r in remarks if "NaN voxels in 4 of 4 slices" in r]
            assert len(told) == n_reports


def test_a_mask_of_the_cortex_does_not_cut_the_bone() -> None:
    bone = _tube(2)
    bone[:, 60:64] |= RADIUS[60:64] <= 50
    mask = np.repeat(((RADIUS <= 50) & (RADIUS >= 34))[None], 2, axis=0)
    found = _cortex(bone, mask=mask.astype(np.uint8))
    _check_tube(found)
    assert not any("may not be a cortex" in r for r in found.remarks)


def test_pores_below_the_minimum_size_are_not_counted() -> None:
    """A canal, a thin canal and specks, of which a slice shows single pixels."""
    bone = _tube(12)
    bone[:, 18:22, 62:66] = bone[:, 105, 64] = False
    bone[3, 64, 20:28:2] = bone[5:7, 64, 105] = False
    found, every = (_cortex(bone, min_voxels=n).values for n in (8, 1))
    assert found["Po.N"] == 2
    assert every["Po.N"] == pytest.approx(2 + 6 / 12)
    widths = [math.sqrt(4 * area / math.pi) for area in (16, 1)]
    assert found["Ct.Po.Dm"] == pytest.approx(np.mean(widths))
    assert found["Ct.Po"] == every["Ct.Po"]
    bone[:, 18:22, 62:66] = bone[:, 105, 64] = True
    specks = _cortex(bone)
    assert specks.values["Po.N"] == 0
    assert any("no pores that reach the minimum size" in r for r in specks.remarks)


def test_slices_are_those_of_the_scan() -> None:
    """With slices twice as thick as the other edges of a voxel."""
    bone = _tube(12)
    bone[8, :40, 64] = False
    found = _cortex(bone, voxel_size=(2.0, 1.0, 1.0))
    _check_tube(found)
    assert found.curves["slices"]["slice"] == list(range(12))
    assert [z for z in range(12) if np.isnan(found.curves["slices"]["Ct.Po"][z])] == [8]
    (remark,) = (r for r in found.remarks if "left out" in r)
    assert remark.startswith("1 of 12 slices")


def test_the_values_of_every_slice_are_kept_with_their_units(tmp_path: Path) -> None:
    """In the JSON file, in cortical.csv and in the plots of the report."""
    bone = _tube(12)
    bone[:8, 63:66, 20:23] = bone[9:, 63:66, 20:23] = False  # a pore of 9 pixels
    bone[8, :40, 64] = False
    bone[5, RADIUS >= 48] = False
    options = {"voxel_size": (4.0, 2.0, 2.0), "unit": "µm"}
    report = measured(~bone, "cortical", **options)
    found = report.morphometry["cortical"]
    stored = found.to_json_dict()["curves"]["slices"]
    assert stored["distance"] == [4.0 * z for z in range(12)]
    assert stored["units"]["Tt.Ar"] == stored["units"]["Ma.Ar"] == "µm²"
    assert stored["units"]["Ct.Th"] == stored["units"]["Ct.Po.Dm"] == stored["unit"]
    table = found.tables["cortical"]
    head = ["slice", "distance (µm)", "Tt.Ar (µm²)", "Ct.Ar (µm²)", "Ct.Ar/Tt.Ar"]
    head += ["Ma.Ar (µm²)", "Ct.Th (µm)", "Ct.Po", "Po.N", "Ct.Po.Dm (µm)"]
    assert list(table) == head
    for quantity in found.quantities:
        unit = quantity.unit_in("µm")
        title = f"{quantity.name} ({unit})" if unit else quantity.name
        column = table[title]
        np.testing.assert_array_equal(column, np.array(stored[quantity.name]))
        assert np.flatnonzero(np.isnan(column)).tolist() == [8]
        assert np.nanmean(column) == pytest.approx(found.values[quantity.name])
    assert table["Tt.Ar (µm²)"][0] == pytest.approx(4 * math.pi * 50**2, rel=0.002)
    assert table["Tt.Ar (µm²)"][5] == pytest.approx(4 * math.pi * 48**2, rel=0.01)
    assert table["Ct.Po.Dm (µm)"][0] == pytest.approx(2 * math.sqrt(4 * 9 / math.pi))
    captions = " ".join(curve_pictures({"bone": report}))
    for name in ("Tt.Ar", "Ct.Ar", "Ct.Th", "Ct.Po.Dm", "(Ct.Po)", "Po.N"):
        assert name in captions
    path = write_columns(tmp_path / "cortical.csv", table)
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].split(",") == head
    assert lines[9] == "8,32.0,,,,,,,,"
