"""Groups of pores, and methods sections that reproduce their numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure, scan

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import BlockDone, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import Group, GroupSummary, check_name
from napari_geosr.measure.groups.missing import (
    assumed_remarks,
    evaluated,
    missing_remarks,
    with_units,
)
from napari_geosr.measure.methods import methods_text, settings_of
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.reports.html import page
from napari_geosr.operations.explain.columns import _COLUMNS

TABLE = {
    "equivalent_diameter": np.array([5.0, 25.0, 40.0, 40.0]),
    "sphericity": np.array([0.9, 0.5, 0.8, np.nan]),
    "volume": np.array([65.0, 8000.0, 33000.0, 33000.0]),
    "touches_border": np.array([True, False, False, True]),
    "angle_to_z": np.array([10.0, 45.0, 46.0, 90.0]),
}
UNITS = {"equivalent_diameter": "µm", "volume": "µm³", "angle_to_z": "°"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("diameter>20um & sphericity<0.6", [0, 1, 0, 0]),
        ("ψ < .6 and d > 20 µm", [0, 1, 0, 0]),
        ("d > 0.02 mm", [0, 1, 1, 1]),
        ("not d ≤ 0.02mm and ψ ≥ 0.6", [0, 0, 1, 0]),
        ("volume >= 8e3 um^3", [0, 1, 1, 1]),
        ("volume < 1e-5mm³", [1, 1, 0, 0]),
        ("!(d<10) & (sphericity>0.7 | touches_border==1)", [0, 0, 1, 1]),
        ("not d<10 or sphericity>=0.9", [1, 1, 1, 1]),
        ("sphericity < 60 %", [0, 1, 0, 0]),
        ("sphericity != 2", [1, 1, 1, 0]),
        ("angle_to_z>45°", [0, 0, 1, 1]),
        ("angle_to_z <= 45 deg & d>20um", [0, 1, 0, 0]),
        ("!(sphericity > 0.85)", [0, 1, 1, 0]),
        ("touches_border", [1, 0, 0, 1]),
        ("not touches_border & d>20um", [0, 1, 1, 0]),
        ("!(sphericity > 0.85 & d > 20)", [1, 1, 1, 0]),
        ("!(sphericity > 0.85 | d > 20)", [0, 0, 0, 0]),
    ],
)
def test_expressions(text: str, expected: list[int]) -> None:
    assert Group(text).of(TABLE, UNITS).tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "d",
        "d >",
        "d > 20um &",
        "(d > 20",
        "d > 20) ",
        "d > x",
        "20 < d",
        "d > 20 > 10",
        "__import__('os').system('true')",
        "d.real > 1",
        "d > 1; d = 2",
        "(" * 400 + "d>1" + ")" * 400,
    ],
)
def test_what_is_no_expression_is_refused_before_measuring(text: str) -> None:
    with pytest.raises(ConfigError, match="does not define a group of pores"):
        PorosityConfig.create(group=text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sphericty<0.6", "no column 'sphericty'. Did you mean 'sphericity'"),
        ("d > 20um2", "is in µm, not um2"),
        ("sphericity > 1um", "is in no unit, not um"),
        ("sphericity > 1°", "is in no unit, not °"),
        ("angle_to_z > 1um", "is in °, not um"),
        ("d > 45 deg", "is in µm, not deg"),
        ("d > 45 degrees", "'degrees' is not a known unit; use nm, µm"),
        ("d > 20UM", "'UM' is not a known unit; use nm, µm"),
        ("d > 1e400um", "1e400 is too large a number"),
        ("d = 20um", "'=' could not be read; write == for equal values"),
        (
            "d > 1um & touches_border=0",
            "== for equal values, or touches_border or !touch",
        ),
        ("20um < d < 40um", "starts with a column; join two comparisons with &"),
        ("d > 20um < 40um", "'<' is unexpected; join two comparisons with &"),
    ],
)
def test_columns_and_units_must_fit(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Group(text).of(TABLE, UNITS)


@pytest.mark.parametrize("unit", ["voxel", "voxels", "pixels"])
def test_numbers_of_voxels_may_have_a_unit(unit: str) -> None:
    table = {"voxels": np.array([99, 101])}
    assert Group(f"voxels>100 {unit}").of(table, {"voxels": "voxel"}).tolist() == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "d>20um" + " & d>20um" * 400,
        "d>" + "9" * 990,
        "x" * 990 + ">1",
        "d>1" + "m" * 990,
        "d=" + "1" * 990,
    ],
)
def test_messages_do_not_repeat_long_texts(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        Group(text).of(TABLE, UNITS)
    assert len(str(error.value)) < 500
    assert ("may have up to 1000" in str(error.value)) is (len(text) > 1000)


@pytest.mark.parametrize("name", ["manual_cluster_id", "MANUAL_CLUSTER_ID"])
def test_columns_of_other_plugins_keep_their_names(name: str) -> None:
    with pytest.raises(ConfigError, match="is reserved"):
        check_name(name, ["volume"], [])


@pytest.mark.parametrize("column", ["voxels", "bbox_start_z"])
def test_a_count_is_not_a_fraction(column: str) -> None:
    with pytest.raises(ConfigError, match=f"{column}' is not a fraction"):
        Group(f"{column}>50%").check({column: ""})


@pytest.mark.parametrize("unit", ["%", "°"])
def test_a_voxel_size_does_not_help_where_no_length_is_given(unit: str) -> None:
    with pytest.raises(ConfigError, match=f"is in voxel, not {unit}"):
        Group(f"d > 3{unit}").of(TABLE, {"equivalent_diameter": "voxel"})


@pytest.mark.parametrize(
    ("size", "ndim", "text", "says"),
    [
        (1.0, 3, "d>20um & sphericity<0.6", "the scan has no voxel size"),
        (1.0, 3, "d>20um", "without a unit; it is then in voxels."),
        (1.0, 2, "d>20um", "without a unit; it is then in pixels."),
        (1.0, 3, "volume>20um3", "without a unit; it is then in voxel³."),
        (1.5, 3, "d>20um", "the voxel size of the scan has no unit of length"),
    ],
)
def test_lengths_need_a_voxel_size(
    size: float, ndim: int, text: str, says: str
) -> None:
    grey = scan(_spheres())
    with pytest.raises(ConfigError) as error:
        measure(
            grey if ndim == 3 else grey[20],
            "ZYX"[-ndim:],
            voxel_size=(size,) * ndim,
            group=text,
        )
    assert says in str(error.value)
    assert "Give the voxel size (--voxel-size, --unit)" in str(error.value)
    assert "Write comparisons such as" not in str(error.value)


def _until_refused(group: str, statistics: tuple[str, ...]) -> tuple[str, list[Step]]:
    """Message of the error, and the steps before it."""
    volume = Volume(scan(_spheres()), "ZYX", voxel_size=(2.0,) * 3, unit="µm")
    config = PorosityConfig.create(group=group, statistics=statistics)
    steps: list[Step] = []
    with pytest.raises(ConfigError) as error:
        steps.extend(porosity_steps(volume, config))
    return str(error.value), steps


@pytest.mark.parametrize(
    ("group", "statistics", "says"),
    [
        ("diam>3", ("trabecular",), "no column 'diam'"),
        ("depth>3um", ("trabecular",), "no column 'depth'"),
        ("depht>3um", ("additive",), "no column 'depht'. Did you mean 'depth'"),
        ("stretch>3um", ("lacunae",), "is in no unit, not um"),
        ("depth>3um2", ("additive",), "is in µm, not um2"),
    ],
)
def test_columns_are_checked_before_anything_is_measured(
    group: str, statistics: tuple[str, ...], says: str
) -> None:
    message, steps = _until_refused(group, statistics)
    assert says in message
    assert not steps


def test_columns_of_statistics_are_known_before_measuring() -> None:
    found = measure(
        scan(_spheres()),
        voxel_size=(2.0,) * 3,
        unit="µm",
        group="nearest_neighbour<0.1mm & stretch>=0",
        statistics=["additive", "lacunae"],
    )
    assert found.group is not None
    assert found.group.count == 2


def _spheres() -> np.ndarray:
    pores = ellipsoid((40, 40, 60), (20, 20, 15), 10)
    return pores | ellipsoid((40, 40, 60), (20, 20, 45), 5)


def test_a_group_is_in_the_table_and_in_the_report() -> None:
    settings = {"group": "diameter>30um", "statistics": ["lacunae"]}
    found = measure(scan(_spheres()), voxel_size=(2.0,) * 3, unit="µm", **settings)
    assert found.group is not None
    assert (found.group.count, found.group.total) == (1, 2)
    assert found.group.share_of_size == pytest.approx(8 / 9, rel=0.02)
    assert sorted(found.table["in_group"].tolist()) == [False, True]
    assert found.to_json_dict()["group"]["count"] == 1
    assert any(
        "Group (diameter>30um): 1 of 2" in line for line in found.summary_lines()
    )


def test_the_methods_section_reproduces_the_numbers() -> None:
    """A reader needs only the text of the page."""
    import html
    import re

    first = measure(
        scan(_spheres()),
        voxel_size=(2.0,) * 3,
        unit="µm",
        group="d>30um & !(sphericity<0.2)",
        statistics=["thickness", "lacunae"],
        connectivity=6,
        min_voxels=30,
        threshold=100.0,
    )
    text = page(
        {"scan": first},
        title="Pores",
        pictures={},
        histogram={"light": b"", "dark": b""},
        records=[],
    )
    words = html.unescape(re.sub(r"</p>|<br>", "\n", text))
    config = settings_of(re.sub(r"<[a-z/][^>]*>", "", words))
    assert config.statistics == ("thickness", "lacunae")
    again = measure(
        scan(_spheres()), voxel_size=(2.0,) * 3, unit="µm", **config.model_dump()
    )
    assert again.to_json_dict() == first.to_json_dict()
    assert "Hildebrand" in methods_text(first)
    assert "Mader" in methods_text(first)


def test_a_group_replaces_only_an_earlier_group() -> None:
    settings = {"group": "diameter>30um", "threshold": 100.0, "min_voxels": 30}
    first = measure(scan(_spheres()), voxel_size=(2.0,) * 3, unit="µm", **settings)
    for name in ("touches_border", "surface_reliable", "volume", "in_group"):
        with pytest.raises(ConfigError, match=f"already has a column '{name}'"):
            first.with_group(name, np.array([True, True]))
    plain = replace(
        first, table={k: v for k, v in first.table.items() if k[:2] != "in"}
    )
    explained = [name for columns in _COLUMNS.values() for name, _ in columns]
    for name in ("selected", "index", "in_group", *explained):
        with pytest.raises(ConfigError, match=f"'{name}' is reserved"):
            plain.with_group(name, np.array([True, True]))
    for name in ("d", "diameter", "psi", "or"):
        with pytest.raises(ConfigError, match="another meaning in filters"):
            plain.with_group(name, np.array([True, True]))
    with pytest.raises(ConfigError, match="has 41 characters"):
        plain.with_group("x" * 41, np.array([True, True]))
    kept = first.with_group("big", np.array([True, False]), "d>40um")
    again = kept.with_group("big", np.array([False, True]))
    assert again.table["big"].tolist() == [False, True]
    assert list(again.groups) == ["big"]
    # The column `in_group` still has the group that was measured.
    assert kept.group == again.group == first.group
    assert settings_of(methods_text(kept)).group == "diameter>30um"


@pytest.mark.parametrize("group", ["largeness > 3", "sphericity > 3um"])
def test_a_group_that_cannot_be_is_refused_before_measuring(group: str) -> None:
    seen: list[Step] = []
    steps = porosity_steps(
        Volume(scan(_spheres()), "ZYX", voxel_size=(2.0,) * 3, unit="µm"),
        PorosityConfig(threshold=120.0, group=group),
    )
    with pytest.raises(ConfigError, match="not define a group of pores"):
        run_to_end(steps, seen.append)
    assert not any(isinstance(step, BlockDone) for step in seen)


def test_a_group_may_use_columns_of_a_statistic() -> None:
    found = measure(
        scan(_spheres()), group="stretch<0.5", statistics=("lacunae",), threshold=120.0
    )
    assert found.group.count == found.group.total > 0


def test_text_without_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match="no settings"):
        settings_of("We measured the bone.")


def test_pores_without_a_value_are_in_neither_the_group_nor_its_opposite() -> None:
    """Two spheres inside, and one that is cut by the border."""
    pores = _spheres() | ellipsoid((40, 40, 60), (20, 0, 30), 6)
    found, opposite = (
        measure(scan(pores), voxel_size=(2.0,) * 3, unit="µm", group=text)
        for text in ("ψ<0.6", "!(ψ<0.6)")
    )
    assert found.group is not None
    assert opposite.group is not None
    assert (found.group.count, opposite.group.count) == (0, 2)
    share = 1 - opposite.group.share_of_size
    for report in (found, opposite):
        assert report.group.unknown == report.group.unknown_at_border == 1
        assert report.group.unknown_share == pytest.approx(share)
        (remark,) = (w for w in report.warnings if "opposite" in w)
        assert remark.startswith("1 of 3 pores (")
        assert (
            "% of the pore volume) has no sphericity: it touches the border" in remark
        )
        assert remark in methods_text(report)
        values = report.to_json_dict()["group"]
        assert GroupSummary.from_json_dict(values) == report.group
    assert settings_of(methods_text(found)).group == "ψ<0.6"


def test_filters_on_a_group_leave_out_pores_of_unknown_membership() -> None:
    """``flat==0`` is the opposite of ``flat==1``, as ``!(ψ<0.8)`` is of ``ψ<0.8``."""
    pores = _spheres() | ellipsoid((40, 40, 60), (20, 0, 30), 6)
    pores[4, 2:38, 2:5] = True  # a rod: small sphericity
    made = measure(scan(pores), voxel_size=(2.0,) * 3, unit="µm", group="ψ<0.6")
    column = made.table["in_group"]
    counts = [np.count_nonzero(column == v) for v in (1, 0)]
    assert counts == [1, 2]
    assert np.isnan(column).sum() == 1
    np.testing.assert_array_equal(np.isnan(column), made.table["touches_border"])
    flat = Group("ψ<0.6").of(made.table, made.units)
    kept = made.with_group("flat", flat, "ψ<0.6")
    np.testing.assert_array_equal(kept.table["flat"], column)
    opposite = Group("!(ψ<0.6)").of(made.table, made.units).tolist()
    assert opposite.count(True) == 2
    for text in ("in_group==0", "!(in_group==1)", "flat==0", "!(flat==1)"):
        inside = Group(text).of(kept.table, kept.units)
        assert inside.tolist() == opposite, text
        again = kept.with_group("round", inside, text)
        assert (again.groups["round"].count, again.groups["round"].unknown) == (2, 1)
        (remark,) = missing_remarks(again.groups["round"], flat=False)
        assert "has no sphericity: it touches the border" in remark
        assert remark in methods_text(again)
    assert np.isnan(again.table["round"]).sum() == 1
    # A group selected by hand has no pores of unknown membership.
    drawn = kept.with_group("drawn", flat)
    assert drawn.table["drawn"].tolist() == flat.tolist()


def test_a_value_that_does_not_matter_may_be_missing() -> None:
    table = {
        "volume": np.array([1.0, 2.0, 3.0]),
        "sphericity": np.array([0.5, np.nan, np.nan]),
        "stretch": np.array([np.nan, np.nan, 0.5]),
        "touches_border": np.array([False, True, False]),
    }
    units = {"volume": "µm³"}
    found = evaluated("sphericity<0.6 & volume<2.5", table, units, "volume")[1]
    assert (found.unknown, found.missing_columns) == (1, ("sphericity",))
    both = evaluated("sphericity<0.6 & stretch<0.6", table, units, "volume")[1]
    assert both.missing_columns == ("sphericity", "stretch")
    (remark,) = missing_remarks(both, flat=False)
    assert "have no sphericity or stretch; 1 of them touch" in remark
    known = evaluated("volume<2.5", table, units, "volume")[1]
    assert missing_remarks(known, flat=False) == []


def test_summaries_of_earlier_versions_are_read() -> None:
    """They have no numbers of pores without a value."""
    values = {"expression": "d>3", "count": 1, "total": 2, "share_of_size": None}
    found = GroupSummary.from_json_dict(values)
    assert (found.unknown, found.missing_columns) == (0, ())
    assert found.to_json_dict() == values


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("d>20", "d>20 µm"),
        ("d > 20 &volume<9000|d<=1e1", "d > 20 µm &volume<9000 µm³|d<=1e1 µm"),
        ("!(diameter>=20 and ψ<0.6)", "!(diameter>=20 µm and ψ<0.6)"),
        ("d>0.02mm & angle_to_z<45 & touches_border", None),
        ("voxels>100 & bbox_start_z>3", "voxels>100 & bbox_start_z>3 voxel"),
        ("area>2", None),  # this unit cannot be written in a filter
    ],
)
def test_the_unit_of_a_number_can_be_written(text: str, written: str | None) -> None:
    names = ("voxels", "bbox_start_z", "area")
    table = TABLE | dict.fromkeys(names, np.array([1.0, 2, 3, 400]))
    units = UNITS | dict(zip(names, ("voxel", "voxel", "Å²"), strict=True))
    assert with_units(text, units) == (written or text)
    for found in (text, with_units(text, units)):
        expected = Group(text).of(table, units)
        assert np.array_equal(Group(found).of(table, units), expected)
    assert with_units(with_units(text, units), units) == with_units(text, units)


def test_a_number_of_voxels_needs_no_unit() -> None:
    units = {"voxels": "voxel", "equivalent_diameter": "voxel"}
    assert assumed_remarks("voxels>100", units) == []
    (remark,) = assumed_remarks("d>3", units)
    assert remark.endswith("with a number without a unit: the number is in voxels.")
