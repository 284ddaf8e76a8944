"""Voxels that must not determine a threshold: padding, hot voxels, pure noise."""

from __future__ import annotations

import numpy as np
import pytest
from pore_shapes import measure

from napari_geosr import measure_porosity
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import StageStarted
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.segment import threshold_value


def porous(rng: np.random.Generator, noise: float = 15.0) -> np.ndarray:
    """A block of 48³ voxels (180) with two pores of 12³ voxels (50)."""
    grey = np.full((48, 48, 48), 180.0)
    grey[6:18, 18:30, 18:30] = grey[28:40, 18:30, 18:30] = 50.0
    return grey + rng.normal(0, noise, grey.shape)


def cylinder() -> np.ndarray:
    y, x = np.ogrid[-24:24, -24:24]
    return np.broadcast_to(y * y + x * x < 23**2, (48, 48, 48))


@pytest.mark.parametrize("padding", [-1000.0, 0.0, 4000.0])
def test_a_mask_keeps_padding_out_of_the_threshold(rng, padding) -> None:
    data = porous(rng)
    inside = cylinder()
    clean = data.copy()
    clean[~inside] = np.nan
    expected = measure(clean.astype("float32"))
    data[~inside] = padding
    found = measure(data.astype("float32"), mask=inside)
    assert found.threshold == expected.threshold
    assert found.porosity == expected.porosity == pytest.approx(0.043, abs=0.01)


def test_the_automatic_mask_does_so_too(rng) -> None:
    data = porous(rng)
    data[~cylinder()] = -1000.0
    report = measure(data.astype("float32"), sample_mask="auto")
    assert 80 < report.threshold < 140
    assert report.porosity == pytest.approx(0.043, abs=0.01)


def test_a_dense_body_in_air_has_no_pores(rng) -> None:
    data = np.full((48, 48, 48), 180.0)
    data[~cylinder()] = 50.0
    data += rng.normal(0, 20, data.shape)
    report = measure(data.astype("float32"), sample_mask="auto")
    assert report.porosity < 0.005


@pytest.mark.parametrize(
    ("dtype", "hot"), [("uint16", 65535), ("float32", 1e6), ("float64", -1e30)]
)
def test_hot_voxels_do_not_draw_the_threshold(rng, dtype, hot) -> None:
    data = porous(rng, 5.0).astype(dtype)
    expected = measure(data)
    data[3, 3, 3:8] = hot
    found = measure(data)
    assert found.threshold == pytest.approx(expected.threshold, abs=2)
    assert found.pore_voxels == pytest.approx(expected.pore_voxels, abs=5)
    (said,) = (w for w in found.warnings if "are outliers" in w)
    assert said.startswith("5 voxels")
    value = threshold_value(data, PorosityConfig())
    assert value == found.threshold
    given = measure(data, threshold=100.0)
    assert not any("outliers" in w for w in given.warnings)


def test_a_rare_phase_of_its_own_is_no_outlier() -> None:
    data = np.ones((40, 40, 40), np.uint8)
    data[20, 20, 20:22] = 0
    report = measure(data, min_voxels=1)
    assert report.pore_voxels == 2
    assert measure(data.astype("float32"), min_voxels=1).pore_voxels == 2


def test_a_phase_of_a_few_odd_voxels_is_called_so(rng) -> None:
    data = rng.normal(100, 2, (16, 16, 16))
    data[8, 8, 8] = 1e6
    report = measure(data.astype("float32"))
    assert any("Only 1 of 4096 voxels" in w for w in report.warnings)


def test_noise_alone_is_called_so(rng) -> None:
    report = measure(rng.normal(100, 20, (30, 30, 30)).astype("float32"))
    assert any("not bimodal" in w for w in report.warnings)
    assert not measure(porous(rng).astype("float32")).warnings


@pytest.mark.parametrize(
    ("value", "phase", "what"),
    [
        (-5.0, "dark", "solid"),
        (999.0, "dark", "pore"),
        (999.0, "bright", "solid"),
    ],
)
def test_a_threshold_outside_the_grey_values_is_told(rng, value, phase, what) -> None:
    report = measure(porous(rng), threshold=value, phase=phase)
    assert report.porosity == (what == "pore")
    assert any(f"all of it is {what}" in w for w in report.warnings)


def test_an_empty_mask_is_named(rng) -> None:
    with pytest.raises(VolumeError, match="sample mask .* is empty"):
        measure(porous(rng), mask=np.zeros((48, 48, 48), bool))


def test_finding_the_sample_is_said_once(rng) -> None:
    volume = Volume(porous(rng), "ZYX")
    steps = porosity_steps(volume, PorosityConfig(sample_mask="auto"))
    stages = [step.message for step in steps if isinstance(step, StageStarted)]
    assert stages.count("Finding the sample") == 1


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_cannot_be_told_apart_are_refused(dtype: type) -> None:
    data = np.full((8, 8, 8), 2**53 + 100, dtype)
    data[2:5, 2:5, 2:5] = 2**53 + 1
    with pytest.raises(VolumeError, match="beyond 2⁵³"):
        measure_porosity(Volume(data, "ZYX"))
    fine = measure_porosity(Volume(data - dtype(2**53), "ZYX"))
    assert fine.porosity == 27 / 512
    data[2:5, 2:5, 2:5], data[data > 2**53 + 50] = 10, 200
    data[0, 0, 0] = 2**60  # a single outlier is excluded as before
    many = np.tile(data, (3, 3, 3))
    many[many == 2**60] = 200
    many[0, 0, 0] = 2**60
    assert measure_porosity(Volume(many, "ZYX")).porosity == pytest.approx(27 / 512)


def test_the_largest_integers_are_refused_in_a_sentence() -> None:
    data = np.full((8, 8, 8), 2**64 - 1, np.uint64)
    data[2:5, 2:5, 2:5] = 2**64 - 1000
    with pytest.raises(VolumeError, match=r"up to 1\.84e\+19; beyond 2⁵³"):
        measure_porosity(Volume(data, "ZYX"))


def test_the_smallest_integers_are_not_called_equal() -> None:
    data = np.full((8, 8, 8), -(2**63) + 90, np.int64)
    data[2:5, 2:5, 2:5] = -(2**63) + 10
    with pytest.raises(VolumeError, match=r"up to 9\.22e\+18; beyond 2⁵³"):
        measure_porosity(Volume(data, "ZYX"))


def test_extended_floats_are_refused_in_a_sentence(rng: np.random.Generator) -> None:
    wide = porous(rng).astype(np.longdouble)
    if wide.dtype.itemsize <= 8:
        pytest.skip("no extended precision on this computer")
    with pytest.raises(VolumeError, match="Convert it to float64"):
        measure_porosity(Volume(wide, "ZYX"))


@pytest.mark.parametrize("rule", ["otsu", "li", "triangle", "multi-otsu"])
@pytest.mark.parametrize("offset", [1e12, -1e12, 1e7])
def test_an_offset_does_not_change_the_porosity(rng, rule, offset) -> None:
    """The contrast of 1 is some thousand steps of float64 above 1e12."""
    data = porous(rng) / 180
    expected = measure(data, threshold=rule)
    found = measure(data + offset, threshold=rule)
    # The noise in single bins slightly shifts the threshold of the triangle rule.
    near = 0.03 if rule == "triangle" else 0.005
    assert found.threshold - offset == pytest.approx(expected.threshold, abs=near)
    assert found.porosity == pytest.approx(expected.porosity, abs=near / 5)
    if rule != "triangle":
        assert found.warnings == expected.warnings


def test_an_offset_of_integers_does_not_change_the_porosity(rng) -> None:
    data = porous(rng).astype("int64")
    found = measure(data + 2**52)
    assert found.threshold == measure(data).threshold + 2**52
    assert found.porosity == measure(data).porosity


@pytest.mark.parametrize("rule", ["otsu", "li", "triangle", "multi-otsu"])
@pytest.mark.parametrize("factor", [1e-47, 2.0**-200, 2.0**200])
def test_a_factor_does_not_change_the_porosity(rng, rule, factor) -> None:
    data = porous(rng)
    expected = measure(data, threshold=rule)
    found = measure(data * factor, threshold=rule)
    assert found.threshold == pytest.approx(expected.threshold * factor, rel=1e-3)
    assert found.porosity == pytest.approx(expected.porosity, abs=1e-4)
    assert found.warnings == expected.warnings


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (1e300, "Divide all of them"),
        (-1e305, "Divide all of them"),
        (1e-310, "Multiply all of them"),
    ],
)
def test_values_that_cannot_be_computed_with_are_refused(rng, factor, message) -> None:
    with pytest.raises(VolumeError, match=message):
        measure(porous(rng) * factor)


def test_the_largest_number_as_a_mark_of_missing_voxels_is_refused(rng) -> None:
    data = porous(rng)
    data[:, :20] = -np.finfo(np.float64).max
    data[:, -2:] = np.finfo(np.float64).max
    with pytest.raises(VolumeError, match="mark missing voxels with NaN"):
        measure(data)
    data[np.abs(data) > 1e300] = np.nan
    assert measure(data).porosity > 0.01


@pytest.mark.parametrize("value", [-3.4028235e38, 1e30])
@pytest.mark.parametrize("planes", [1, 12])
def test_planes_that_mark_missing_voxels_are_refused(rng, value, planes) -> None:
    data = porous(rng).astype("f4")
    whole = measure(data)
    data[:planes] = value
    with pytest.raises(
        VolumeError, match=r"mark missing voxels\. Replace them with NaN"
    ):
        measure(data)
    data[:planes] = np.nan
    assert measure(data).porosity == pytest.approx(whole.porosity, abs=0.05)


def test_nan_in_a_mask_is_outside_the_sample(rng) -> None:
    data = rng.normal(180, 10, (16, 24, 24)).astype("f4")
    data[5:9, 6:12, 6:12] = 20
    inside = np.ones(data.shape, "f4")
    inside[:4] = 0
    scan = Volume(data, "ZYX")
    expected = measure_porosity(scan, mask=Volume(inside, "ZYX"))
    inside[:4] = np.nan
    found = measure_porosity(scan, mask=Volume(inside, "ZYX"))
    assert found.sample_voxels == expected.sample_voxels == 12 * 24 * 24
    assert found.porosity == expected.porosity
