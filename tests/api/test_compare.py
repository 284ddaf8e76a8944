"""Two volumes compared: grey values and pores."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import napari_geosr as geosr
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure.comparison import compare_steps

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
        )
    )


def test_pores_of_both_are_measured(noisy, true):
    found = geosr.compare(Volume(noisy, "ZYX", *UM), true, min_voxels=300)
    assert found.reference.unit == "µm"  # the array lies where the volume does
    assert found.reference.pore_count == 1
    assert found.reference.small_pore_count == 1
    assert found.reference.porosity == pytest.approx((true == 100).mean())
    assert found.volume.porosity == geosr.measure_porosity(noisy).porosity
    table = found.to_dataframe()
    assert list(table.index) == ["volume", "reference"]
    assert table.loc["reference", "pore_count"] == 1
    assert table.loc["volume", "psnr"] == found.psnr
    assert np.isnan(table.loc["reference", "psnr"])
    assert {"porosity", "pores_per_mm3", "mean_volume"} <= set(table.columns)
    assert "min_voxels" not in table.columns
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.psnr = 0


def test_equal_volumes(true):
    found = geosr.compare(true, true)
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["psnr"] is None
    assert values["volume"]["porosity"] == values["reference"]["porosity"]


def test_where_the_window_does_not_fit_there_is_no_ssim(noisy, true):
    assert geosr.compare(noisy[:10], true[:10]).ssim is None
    assert geosr.compare(noisy[:11], true[:11]).ssim is not None
    assert geosr.compare(noisy[5], true[5]).ssim is not None


def test_the_range_may_be_told(noisy, true):
    half = geosr.compare(noisy, true, data_range=50).psnr
    assert geosr.compare(noisy, true).psnr - half == pytest.approx(20 * math.log10(2))
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="data range"):
            geosr.compare(noisy, true, data_range=wrong)


def test_what_cannot_be_compared_is_refused(noisy, true):
    with pytest.raises(VolumeError, match="same voxels"):
        geosr.compare(noisy[:8], true)
    fine = Volume(true, "ZYX", (1.0, 1.0, 1.0), "µm")
    with pytest.raises(VolumeError, match="differ in size"):
        geosr.compare(Volume(noisy, "ZYX", *UM), fine)
    same = Volume(true, "ZYX", (0.002, 0.002, 0.002), "mm")
    assert geosr.compare(Volume(noisy, "ZYX", *UM), same).psnr > 20
    with pytest.raises(VolumeError, match="range"):
        geosr.compare(noisy, np.full_like(true, 3))
    noisy[0, 0, 0] = np.nan
    with pytest.raises(VolumeError, match="1 NaN"):
        geosr.compare(noisy, true)


def test_it_can_be_stopped(noisy, true):
    steps = compare_steps(
        Volume(noisy, "ZYX"), Volume(true, "ZYX"), should_stop=lambda: True
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
