"""The numbers of a report can be reproduced from its methods section."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pore_shapes import ellipsoid, measure

from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.interval import Deviation
from napari_geosr.measure.methods import methods_text, settings_of
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.reports.report import PorosityReport

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
    "group": ("diameter>10um & sphericity<0.9", {}),
}
SIZE = {"voxel_size": (2.0,) * 3, "unit": "µm"}


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
    return measure(grey, **SIZE, **({"deviation": deviation} | settings))


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
    again = report(
        bone, **{k: v for k, v in more.items() if k == "deviation"}, **dict(config)
    )
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


def test_files_that_the_text_does_not_contain_are_told(bone: np.ndarray) -> None:
    mask = np.zeros(bone.shape, bool)
    mask[:, 10:50, 10:50] = True
    words = methods_text(report(bone, mask=mask))
    assert "inside a sample mask (38,400)" in words
    assert "standard deviations of the restoration" in words
    plain = methods_text(report(bone, deviation=None))
    assert "not part of this text" not in plain


@pytest.mark.parametrize("name", MORPHOMETRY.names())
def test_every_statistic_is_measured_again_from_the_text(
    name: str, bone: np.ndarray
) -> None:
    part = bone[:, :32]
    first = report(part, statistics=(name,), threshold=120.0)
    again = report(part, **dict(settings_of(methods_text(first))))
    assert again.to_json_dict() == first.to_json_dict()
    assert set(first.morphometry) == {name}
