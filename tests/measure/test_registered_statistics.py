"""Requirements of every registered statistic: closed form, invariance, slabs, docs.

Invariance, slabs and documentation of the statistics in `MORPHOMETRY` are tested in
`test_morphometry`, for every name in the registry. The known values of the others are
tested in `test_closed_forms`, likewise for every name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_morphometry
import test_partial_volume
from pore_shapes import measure
from test_graph import grid

from napari_geosr.measure import blocks
from napari_geosr.measure.graph import network_graph
from napari_geosr.measure.interval import Deviation
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.statistics import pore_statistics, volume_statistics

DOCS = Path(__file__).parents[2] / "docs"

#: Tests with known values, by statistic.
CLOSED_FORMS: dict[str, tuple[Callable[..., None], ...]] = {
    "additive": (test_morphometry.test_depth_below_the_free_surface,),
    "anisotropy": (test_morphometry.test_anisotropy_as_ordered,),
    "cortical": (test_morphometry.test_a_ring_of_cortex,),
    "lacunae": (test_morphometry.test_a_lacuna,),
    "network": (test_morphometry.test_a_lattice_of_pores,),
    "partial_volume": (
        test_partial_volume.test_rare_pores_are_exact_where_a_threshold_is_not,
    ),
    "profile": (test_morphometry.test_the_porosity_of_every_slice,),
    "structure_model": (
        test_morphometry.test_structure_model_of_balls_rods_and_plates,
    ),
    "subvolumes": (test_morphometry.test_sub_volumes_of_independent_voxels,),
    "thickness": (test_morphometry.test_plates,),
    "trabecular": (
        test_morphometry.test_plates,
        test_morphometry.test_connectivity_of_a_ring_and_of_a_ring_with_a_cavity_and_a_speck,
    ),
    "transport": (
        test_morphometry.test_straight_tubes_have_no_tortuosity,
        test_morphometry.test_a_tube_in_series_with_a_narrower_one,
    ),
    "two_point": (
        test_morphometry.test_plates,
        test_morphometry.test_specific_surface_of_a_random_field,
    ),
}
#: Tests that are run for every name in the registry.
FOR_EVERY_NAME = (
    test_morphometry.test_rotated_by_a_right_angle,
    test_morphometry.test_lengths_grow_with_the_voxel_size,
    test_morphometry.test_streamed_is_whole,
    test_morphometry.test_every_statistic_is_cited_and_documented,
)


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_every_statistic_of_both_phases_has_its_tests(name: str) -> None:
    for test in CLOSED_FORMS[name]:
        text = inspect.getsource(test)
        assert f'"{name}"' in text
        assert "assert" in text
        assert not [m for m in _marks(test) if m.name in ("skip", "xfail")]
    for test in FOR_EVERY_NAME:
        (mark,) = (m for m in _marks(test) if m.name == "parametrize")
        assert name in mark.args[1]


def _marks(test: Callable[..., None]) -> list[pytest.Mark]:
    return list(getattr(test, "pytestmark", []))


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    """Grey values of pores of many sizes, some cut by the border (threshold 0)."""
    smooth = test_morphometry.field((26, 30, 34), (2, 2.5, 3))
    return (40 * (smooth + 0.7)).astype(np.float32)


def _report(grey: np.ndarray, size: float = 1.0) -> PorosityReport:
    """All measured values, with an interval and a graph."""
    options = {"threshold": 0.0, "unit": "µm", "min_voxels": 4, "graph": True}
    options["deviation"] = Deviation(np.full(grey.shape, 8, np.float32), 1.5, 0.9)
    options["voxel_size"] = (size,) * grey.ndim
    return measure(np.ascontiguousarray(grey), "ZYX"[-grey.ndim :], **options)


@pytest.mark.parametrize("ndim", [3, 2])
def test_figures_do_not_change_when_a_volume_is_turned(
    foam: np.ndarray, ndim: int
) -> None:
    grey = foam if ndim == 3 else foam[10]
    one, other = _report(grey), _report(np.rot90(grey, axes=(0, ndim - 1)))
    for statistic in volume_statistics(flat=ndim == 2):
        if statistic.name.startswith("graph"):
            continue  # see `test_a_graph_hardly_changes_when_it_is_turned`
        found, expected = (r.figures[statistic.name] for r in (other, one))
        assert _numbers(found) == pytest.approx(_numbers(expected), rel=1e-9), (
            statistic.name
        )
    for statistic in pore_statistics(flat=ndim == 2):
        if statistic.name.startswith(("label", "centroid", "bbox")):
            continue  # they change with the axes
        columns = [np.sort(r.table[statistic.name].astype(float)) for r in (one, other)]
        np.testing.assert_allclose(*columns, rtol=1e-9, err_msg=statistic.name)


@pytest.mark.parametrize("ndim", [3, 2])
def test_figures_grow_with_the_voxel_size(foam: np.ndarray, ndim: int) -> None:
    grey = foam if ndim == 3 else foam[10]
    one, other = _report(grey), _report(grey, 2.0)
    for statistic in volume_statistics(flat=ndim == 2):
        power = statistic.power
        if statistic.name == "graph":
            continue  # the following figures, in one mapping
        if statistic.name.startswith("pores_per_mm"):
            power = -ndim
        if statistic.name == "graph_tubules_per_mm2":
            power = -2
        factor = 2.0**power
        expected = [factor * v for v in _numbers(one.figures[statistic.name])]
        found = _numbers(other.figures[statistic.name])
        assert found == pytest.approx(expected, rel=1e-9), statistic.name
    for statistic in pore_statistics(flat=ndim == 2):
        expected = one.table[statistic.name] * 2.0**statistic.power
        found = other.table[statistic.name]
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=statistic.name)


def test_figures_do_not_depend_on_slabs(
    foam: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _report(foam)
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 30 * 34 * 4)
    parts = _report(foam)
    assert parts.figures == whole.figures
    for name, values in whole.table.items():
        np.testing.assert_array_equal(parts.table[name], values, err_msg=name)


def test_a_graph_hardly_changes_when_it_is_turned() -> None:
    """Thinning removes voxels in a fixed order, so lengths differ a little."""
    pores = grid()
    one, other = (
        network_graph(np.rot90(pores, k, axes=(0, 1)), (0.5,) * 3, unit="µm")
        for k in (0, 1)
    )
    for name in ("junctions", "free_ends", "loops", "components", "mean_degree"):
        assert getattr(one, name) == getattr(other, name), name
    assert len(one.paths) == len(other.paths)
    assert one.length == pytest.approx(other.length, rel=0.02)
    assert one.crossing(0) == other.crossing(1)
    assert one.crossing(1) == other.crossing(0)


def _numbers(value: object) -> list[float]:
    """All numbers of a figure: the figure itself, or its items; None is omitted."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [n for one in value.values() for n in _numbers(one)]
    if isinstance(value, list | tuple):
        return [n for one in value for n in _numbers(one)]
    if isinstance(value, int | float) and math.isfinite(value):
        return [float(value)]
    return []


@pytest.mark.parametrize("flat", [False, True])
def test_every_row_and_column_is_documented(flat: bool) -> None:
    pages = ("porosity.md", "morphometry.md", "tubules.md", "glossary.md")
    text = "".join((DOCS / p).read_text(encoding="utf-8") for p in pages).lower()
    text = text.replace("_", " ")
    for statistic in pore_statistics(flat=flat):
        assert statistic.name.replace("_", " ") in text, statistic.name
    for statistic in volume_statistics(flat=flat):
        name = statistic.name.removeprefix("graph_").replace("_", " ")
        as_volume = name.replace("area", "volume").replace("mm2", "mm3")
        as_volume = as_volume.replace("perimeter", "surface area")
        said = {name, as_volume, as_volume.replace("surface volume", "surface area")}
        row = statistic.row
        if row is not None and isinstance(row.title, str):
            said.add(row.title.lower())
        assert any(words in text for words in said), statistic.name
