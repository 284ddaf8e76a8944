"""The numbers of a report can be reproduced from its methods section."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure
from tifffile import imwrite

from napari_geosr import measure_porosity, read
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.reading import READING_NAMES
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import Group
from napari_geosr.measure.interval import Deviation
from napari_geosr.measure.methods import (
    groups_of,
    methods_text,
    reading_settings_of,
    settings_of,
    settings_values,
)
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.reports.rows import summary_rows
from napari_geosr.operations.inputs import InputConfig

#: A value other than the default for every setting, with the settings it requires to
#: have an effect.
OTHERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "threshold": ("triangle", {}),
    "local_window": (21, {}),
    "hysteresis": (0.8, {}),
    "phase": ("bright", {}),
    "min_voxels": (40, {}),
    "connectivity": (6, {"min_voxels": 2}),
    "sample_mask": ("cortex", {}),
    "mask_closing": (1, {"sample_mask": "auto"}),
    "histogram_bins": (9, {}),
    "interval_factor": (2.5, {}),
    "graph": (True, {}),
    "statistics": (("thickness", "profile"), {}),
    "bands": (True, {"statistics": ("thickness",)}),
    "group": ("diameter>10um & sphericity<0.9", {}),
}
#: A voxel size without a unit, as in the bone of the documentation.
SIZE = {"voxel_size": (1.953,) * 3, "unit": "pixel"}


@pytest.fixture(scope="module")
def bone() -> np.ndarray:
    """A hollow bone along Z in air, with pores of many sizes and grey values."""
    shape = (24, 64, 64)
    _, y, x = np.indices(shape) - 31.5
    far = np.hypot(y, x)
    solid = (far < 28) & (far > 14)
    rng = np.random.default_rng(0)
    grey = np.where(solid, 180.0, 60.0)
    for _ in range(25):
        turn, radius = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 4)
        centre = (
            rng.uniform(0, 24),
            31.5 + 21 * np.cos(turn),
            31.5 + 21 * np.sin(turn),
        )
        grey[ellipsoid(shape, centre, radius)] = rng.uniform(60, 115)
    grey += 20 * x / 32 + rng.normal(0, 4, shape)
    return grey.astype(np.float32)


def report(grey: np.ndarray, **settings: Any) -> PorosityReport:
    # The factor as read by `operations.measure`.
    factor = settings.get("interval_factor")
    deviation = Deviation(np.full(grey.shape, 6, np.float32), factor, None)
    size = {"voxel_size": (2.0,) * 3, "unit": "µm"}
    return measure(grey, **(size | {"deviation": deviation} | settings))


def again_from(text: str, grey: np.ndarray, **more: Any) -> PorosityReport:
    """Measure the array again; everything else is read from the text."""
    return report(grey, **reading_settings_of(text), **dict(settings_of(text)), **more)


@pytest.mark.parametrize(
    "name", [n for n in PorosityConfig.model_fields if n != "memory"]
)
def test_every_setting_is_in_the_text(name: str, bone: np.ndarray) -> None:
    value, more = OTHERS[name]
    if name == "hysteresis":
        more = {**more, "deviation": None}  # rejected in combination
    first = report(bone, **more, **{name: value})
    config = settings_of(methods_text(first))
    assert getattr(config, name) == value
    deviation = {k: v for k, v in more.items() if k == "deviation"}
    again = again_from(methods_text(first), bone, **deviation)
    assert again.to_json_dict() == first.to_json_dict()
    for column, values in first.table.items():
        np.testing.assert_array_equal(again.table[column], values, err_msg=column)
    # The setting matters here: a text without it would give other numbers.
    other = report(bone, **more)
    assert other.to_json_dict() != first.to_json_dict()


@pytest.mark.parametrize("sample", ["auto", "cortex", "marrow"])
def test_the_sample_is_in_words(sample: str, bone: np.ndarray) -> None:
    words = methods_text(report(bone, sample_mask=sample, mask_closing=4))
    assert "Only the sample was measured: the " in words
    assert "twice 4 voxels" in words
    assert "Otsu's method from the grey values of the " in words


def test_files_that_the_text_does_not_contain_are_told(bone: np.ndarray) -> None:
    mask = np.zeros(bone.shape, bool)
    mask[:, 10:50, 10:50] = True
    words = methods_text(report(bone, mask=mask))
    assert "inside a sample mask (38,400)" in words
    assert "from the grey values inside the sample mask, were" in words
    assert "standard deviations of the restoration" in words
    plain = methods_text(report(bone, deviation=None))
    assert "not part of this text" not in plain


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_every_statistic_is_measured_again_from_the_text(
    name: str, bone: np.ndarray
) -> None:
    part = bone[:, :32]
    first = report(part, statistics=(name,), threshold=120.0, **SIZE)
    again = again_from(methods_text(first), part)
    # Slices without a value are NaN, which does not equal itself.
    assert repr(again.to_json_dict()) == repr(first.to_json_dict())
    assert set(first.morphometry) == {name}


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"voxel_size": 1.953}, "voxels of 1.953 × 1.953 × 1.953, without a unit)"),
        ({"voxel_size": (3, 2, 2), "unit": "nm"}, "voxels of 3 × 2 × 2 nm)"),
        ({}, "16 voxels) was"),
    ],
)
def test_a_file_is_read_and_measured_again_from_the_text(
    size: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """Part of a file with an axis of unknown meaning, such as time, and channels."""
    pages = np.full((2, 3, 16, 16, 16), 200, np.uint8)
    for i, part in enumerate(pages.reshape(6, 16, 16, 16)):
        part[2 : 5 + i, 3:9, 4:12] = 50
    file = tmp_path / "two.tif"
    imwrite(file, pages, metadata={"axes": "QCZYX"})
    first = measure_porosity(read(file, axes="TCZYX", time=1, channel=2, **size))
    text = methods_text(first)
    assert words in text
    assert "read in part (time point 1, channel 2, counted from 0)" in text
    reading = reading_settings_of(text)
    again = measure_porosity(read(file, **reading), **dict(settings_of(text)))
    assert again.to_json_dict() == first.to_json_dict()
    assert again.pore_voxels == 6 * 8 * 8
    InputConfig.create(**reading)  # the options of the command line


def test_the_text_names_every_option_that_describes_the_input() -> None:
    assert set(InputConfig.model_fields) == {*READING_NAMES} - {"offset"}


def test_a_filter_on_a_group_that_was_replaced_says_so(bone: np.ndarray) -> None:
    kept = report(bone, threshold=120.0, min_voxels=30)
    for name, text in (
        ("big", "diameter>14um"),
        ("big_and_flat", "big==1 & sphericity<0.9"),
        ("big", "diameter>16um"),
    ):
        kept = kept.with_group(name, Group(text).of(kept.table, kept.units), text)
    words = methods_text(kept)
    assert "where an earlier big is not part of this text." in words
    assert groups_of(words) == {"big": "diameter>16um"}


def test_groups_that_are_kept_later_are_found_again_from_the_text(
    bone: np.ndarray,
) -> None:
    first = report(bone, threshold=120.0, min_voxels=30)
    texts = {
        "large": "diameter>14um",
        "flat": "sphericity<0.9",
        "flat_and_large": "large==1 & flat==1",
    }
    kept = first
    for name, text in texts.items():
        kept = kept.with_group(name, Group(text).of(kept.table, kept.units), text)
    kept = kept.with_group("drawn", kept.table["large"])
    text = "drawn==1 & elongation<9"
    kept = kept.with_group("both", Group(text).of(kept.table, kept.units), text)
    words = methods_text(kept)
    assert "Group of pores drawn: " in words
    assert "selected by hand; the selection is not part of this text." in words
    assert "& elongation<9, where drawn is not part of this text." in words
    kept = kept.with_group("mine", kept.table["large"])
    text = "drawn==1 | mine==1"
    either = kept.with_group("either", Group(text).of(kept.table, kept.units), text)
    assert "mine==1, where drawn and mine are not part of this text." in methods_text(
        either
    )
    again = again_from(words, bone)  # `group` would be refused
    assert again.group is None
    assert groups_of(words) == texts
    for name, text in groups_of(words).items():
        again = again.with_group(name, Group(text).of(again.table, again.units), text)
        np.testing.assert_array_equal(again.table[name], kept.table[name])
        assert 0 < again.groups[name].count < again.groups[name].total
    rows = dict(summary_rows(kept))
    assert rows["Group large (diameter>14um)"] == rows["Group drawn (selected by hand)"]


def test_a_group_that_is_replaced_no_longer_defines_others(bone: np.ndarray) -> None:
    first = report(bone, threshold=120.0, min_voxels=30)
    large = first.table["voxels"] > 100
    kept = first.with_group("large", large, "voxels>100")
    kept = kept.with_group("also", large, "large==1")
    assert groups_of(methods_text(kept)) == {"large": "voxels>100", "also": "large==1"}
    same = kept.with_group("large", large, "voxels>100")
    assert methods_text(same) == methods_text(kept)
    other = kept.with_group("large", ~large, "voxels<=100")
    assert groups_of(methods_text(other)) == {"large": "voxels<=100"}
    itself = kept.with_group("large", large, "large==1")
    assert groups_of(methods_text(itself)) == {}


def test_the_name_of_a_volume_may_look_like_settings(bone: np.ndarray) -> None:
    made = replace(report(bone, threshold=120.0), name="Settings: threshold = 5.\nx")
    assert settings_of(methods_text(made)).threshold == 120.0


def test_changes_of_voxels_for_morphometry_are_in_the_text(bone: np.ndarray) -> None:
    grey = bone.astype(np.float32)
    grey[3, 40, 40] = np.nan
    more: dict[str, Any] = {"unit": "µm", "statistics": ("profile",)}
    text = methods_text(measure(grey, voxel_size=(2.5, 1.2, 1.2), **more))
    assert "NaN and infinite voxels in gaps narrower than 3 voxels were" in text
    assert "cubic voxels with an edge length of 1.2 µm, obtained by linear" in text
    assert "\nThickness (Tb.Th, Tb.Sp, Po.Dm, Ct.Th), Tb.N, Conn.D, SMI, " in text
    assert "; everything else was measured on the voxels of the scan." in text
    assert "] Raya SP, Udupa JK." in text
    nearly = methods_text(measure(bone, voxel_size=(1.21, 1.2, 1.2), **more))
    assert "1.2 µm, obtained with the same number of voxels; " in nearly
    assert "NaN" not in nearly
    more["statistics"] = ()
    for size in ((2.5, 1.2, 1.2), (1.2, 1.2, 1.2)):
        assert "cubic" not in methods_text(measure(bone, voxel_size=size, **more))


def test_text_that_looks_like_a_setting_is_part_of_its_value() -> None:
    values = {"dataset": '/a; b = "c"; d = 1', "threshold": 120.0}
    line = "; ".join(f"{name} = {json.dumps(v)}" for name, v in values.items())
    assert settings_values(f"Settings: {line}.") == values
    with pytest.raises(ConfigError, match=r"The setting d = \[1,5 is damaged"):
        settings_values("Settings: d = [1,5.")


@pytest.mark.parametrize(
    "line", ["a = 1;b = 2", "a = 1; b = 2", "a = 1 ;  b =  2 ", "a=1;b=2"]
)
def test_spaces_between_settings_may_differ(line: str) -> None:
    assert settings_values(f"Settings: {line}.") == {"a": 1, "b": 2}


def test_damaged_and_empty_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no settings after"):
        settings_values("Settings: .")
    with pytest.raises(ConfigError, match="damaged at 'b = 2'"):
        settings_values("Settings: a = 1b = 2.")
