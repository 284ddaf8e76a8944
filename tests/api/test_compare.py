"""Comparing volumes in a script: grey values, pores, and the earlier interface."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import napari_geosr as geosr
from napari_geosr.core.errors import ConfigError, GeoSRWarning, VolumeError
from napari_geosr.core.volume import Volume

UM = ((2.0, 2.0, 2.0), "µm")


@pytest.fixture
def true() -> np.ndarray:
    data = np.full((16, 24, 24), 200.0)
    data[3:9, 4:12, 4:12] = data[3:9, 14:20, 14:20] = 100
    return data


@pytest.fixture
def noisy(true, rng) -> np.ndarray:
    return true + rng.normal(0, 8, true.shape)


def test_figures_agree_with_scikit_image(noisy, true):
    found = geosr.compare(noisy, true)
    assert found.data_range == 100
    assert found.psnr == pytest.approx(
        peak_signal_noise_ratio(true, noisy, data_range=100)
    )
    assert found.ssim == pytest.approx(
        structural_similarity(
            true,
            noisy,
            data_range=100,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        ),
        abs=1e-6,
    )


def test_pores_of_both_are_measured(noisy, true):
    found = geosr.compare(Volume(noisy, "ZYX", *UM), true, min_voxels=300)
    assert found.reference.unit == "µm"  # the array has the position of the volume
    assert found.reference.pore_count == 1
    assert found.reference.small_pore_count == 1
    assert found.reference.porosity == pytest.approx((true == 100).mean())
    assert found.volume.porosity == geosr.measure_porosity(noisy).porosity
    table = found.to_dataframe()
    assert list(table.index) == ["before", "after"]
    assert table.loc["after", "pore_count"] == 1
    assert table.loc["after", "psnr"] == found.psnr
    assert np.isnan(table.loc["before", "psnr"])
    assert {"porosity", "pores_per_mm3", "mean_volume"} <= set(table.columns)
    assert "min_voxels" not in table.columns
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.base = "after"


def test_a_reference_is_what_both_are_compared_with(true, rng):
    before, after = (true + rng.normal(0, s, true.shape) for s in (12, 4))
    found = geosr.compare(before, after, true)
    assert found.base == "reference"
    assert found.compared == ("before", "after")
    better = found.figures["after"].psnr - found.figures["before"].psnr
    assert better == pytest.approx(20 * math.log10(3), abs=0.3)
    assert found.psnr == found.figures["after"].psnr
    assert found.volume is found.porosity["after"]
    assert found.reference is found.porosity["reference"]
    text = repr(found)
    assert len(text) < 300
    assert "PSNR" in text
    assert "PSNR" in found._repr_html_()


def test_equal_volumes_are_said_to_be_equal(true):
    with pytest.warns(GeoSRWarning, match="contain the same grey values"):
        found = geosr.compare(true, true)
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["psnr"] is None
    assert values["volume"]["porosity"] == values["reference"]["porosity"]


def test_where_the_window_does_not_fit_there_is_no_ssim(noisy, true):
    few = geosr.compare(noisy[:10], true[:10])
    assert few.ssim is not None
    assert few.ssim_window.endswith("in each slice")
    assert geosr.compare(noisy[:10], true[:10], ssim="volume").ssim is None
    assert geosr.compare(noisy[:, :10], true[:, :10]).ssim is None
    assert geosr.compare(noisy[5], true[5]).ssim is not None


def test_the_range_may_be_told(noisy, true):
    half = geosr.compare(noisy, true, data_range=50).psnr
    assert geosr.compare(noisy, true).psnr - half == pytest.approx(20 * math.log10(2))
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="data range"):
            geosr.compare(noisy, true, data_range=wrong)


def test_what_cannot_be_compared_is_refused(noisy, true):
    with pytest.raises(VolumeError, match="same shape"):
        geosr.compare(noisy[:8], true)
    with pytest.raises(VolumeError, match="no voxel in common"):
        geosr.compare(
            Volume(noisy, "ZYX", *UM),
            Volume(true, "ZYX", *UM, origin=(500.0, 0.0, 0.0)),
        )
    same = Volume(true, "ZYX", (0.002, 0.002, 0.002), "mm")
    assert geosr.compare(Volume(noisy, "ZYX", *UM), same).psnr > 20
    with pytest.raises(VolumeError, match="range"):
        geosr.compare(np.full_like(true, 3), np.full_like(true, 3))


def test_unknown_voxels_do_not_count(noisy, true):
    noisy[:, :3] = np.nan
    found = geosr.compare(noisy, true)
    assert found.voxels == 16 * 21 * 24
    assert found.psnr == pytest.approx(
        peak_signal_noise_ratio(true[:, 3:], noisy[:, 3:], data_range=100)
    )
    assert np.isnan(np.asarray(found.differences["after"])[:, :3]).all()


def test_without_pores_there_are_none(noisy, true):
    found = geosr.compare(noisy, true, pores=False, difference=False)
    assert not found.porosity
    assert not found.pores
    assert not found.differences
    assert "porosity" not in found.to_dataframe().columns
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("n", [1, 3])
def test_halves_are_two(n):
    voxels = np.zeros((4, 20, 20), np.float32)
    with pytest.raises(ConfigError, match="exactly two"):
        geosr.compare(voxels, voxels, halves=(voxels,) * n)
