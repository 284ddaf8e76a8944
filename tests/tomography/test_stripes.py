"""Simulated stripes, whose truth is known, and those of a real neutron scan."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.errors import ConfigError
from napari_geosr.io.projections import read_projections
from napari_geosr.tomography.preprocess import prepare_rows
from napari_geosr.tomography.stripes import (
    STRIPE_METHODS,
    StripeSettings,
    find_outlying_columns,
    interpolate_columns,
    remove_stripes,
)


@pytest.fixture(scope="module")
def truth():
    """A cylinder with many spheres in it, without stripes: (1, 200, 320)."""
    return make_truth()


def make_truth():
    rng = np.random.default_rng(5)
    angles = np.deg2rad(np.arange(200) * 0.9)[:, None]
    columns = np.arange(320)[None]
    sinogram = 0.01 * np.sqrt(np.maximum(140.0**2 - (columns - 159.5) ** 2, 0))
    sinogram = np.repeat(sinogram, 200, axis=0)
    for _ in range(80):
        radius = rng.uniform(5, 25)
        far, phase = 110 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        middle = 159.5 + far * np.cos(angles - phase)
        chord = np.sqrt(np.maximum(radius**2 - (columns - middle) ** 2, 0))
        sinogram -= 0.004 * chord
    noise = 0.01 * rng.standard_normal(sinogram.shape)
    return (sinogram + noise).astype(np.float32)[None]


def error(found, truth, columns=slice(None)):
    """Errors of whole columns, which become rings."""
    return float((found - truth).mean(axis=1)[:, columns].std())


def with_gains(truth, sd=0.05):
    gains = np.random.default_rng(6).normal(0, sd, (1, 1, truth.shape[2]))
    return (truth + gains).astype(np.float32)


def narrow(found, truth):
    """Errors of columns relative to their neighbours, which become sharp rings."""
    return float(np.diff((found - truth).mean(axis=1)).std())


@pytest.mark.parametrize("method", ["sorting", "filtering", "all"])
def test_gains_of_columns_are_taken_out(truth, method):
    striped = with_gains(truth)
    cleaned = remove_stripes(striped, method)
    assert narrow(cleaned, truth) < narrow(striped, truth) / 4
    assert error(cleaned, truth) < error(striped, truth) / 2


@pytest.mark.parametrize(
    ("method", "low", "high"), [("filtering", 0.9, 1.1), ("sorting", 0.0, 0.4)]
)
def test_filtering_keeps_details_that_are_smaller_than_a_stripe(method, low, high):
    plain = np.tile(np.linspace(0, 1, 200, dtype=np.float32)[None, :, None], (1, 1, 90))
    spotted = plain.copy()
    spotted[:, 98:102, 44] += 2  # brighter than everything else in its column
    found = (remove_stripes(spotted, method) - plain)[0, 98:102, 44].mean() / 2
    assert low < found < high


@pytest.mark.parametrize("method", ["large", "all"])
def test_wide_and_strong_stripes_are_taken_out(truth, method):
    striped = truth.copy()
    striped[:, :, 40:48] += 0.6
    striped[:, :, 90:93] -= 0.4
    cleaned = remove_stripes(striped, method)
    assert error(cleaned, truth) < error(striped, truth) / 5


@pytest.mark.parametrize("method", ["dead", "all"])
def test_dead_columns_are_replaced(truth, method):
    striped = truth.copy()
    striped[:, :, 50:52] = 9.2
    striped[:, :, 80] = np.random.default_rng(7).uniform(0, 3, (1, 200))
    cleaned = remove_stripes(striped, method)
    assert error(cleaned, truth) < error(striped, truth) / 20
    assert np.abs(cleaned - truth)[:, :, [50, 51, 80]].max() < 0.4


@pytest.mark.parametrize("method", list(STRIPE_METHODS))
def test_what_has_no_stripes_is_left_nearly_alone(truth, method):
    before = truth.copy()
    cleaned = remove_stripes(truth, method)
    np.testing.assert_array_equal(truth, before)
    assert cleaned.dtype == np.float32
    assert cleaned.shape == truth.shape
    assert (cleaned - truth).std() < 0.1 * truth.std()
    assert error(cleaned, truth) < 0.06 * truth.std()


@pytest.mark.parametrize("method", list(STRIPE_METHODS))
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 5, 4), (1, 30, 9)])
def test_odd_shapes_pass_through(method, shape):
    sinogram = np.random.default_rng(0).random(shape).astype(np.float32)
    cleaned = remove_stripes(sinogram, method, StripeSettings(size=21, large_size=61))
    assert cleaned.shape == shape
    assert np.isfinite(cleaned).all()
    flat = remove_stripes(np.zeros(shape, np.float32), method)
    assert not flat.any()


def test_an_unknown_method_is_refused(truth):
    with pytest.raises(ConfigError, match="no method 'wipe'.*none, sorting, filtering"):
        remove_stripes(truth, "wipe")


def test_columns_that_stand_out_are_found():
    values = np.random.default_rng(0).normal(1, 0.01, 200)
    values[[20, 21]] += 1
    values[100] -= 1
    assert np.flatnonzero(find_outlying_columns(values, 3)).tolist() == [20, 21, 100]
    assert not find_outlying_columns(np.ones(200), 3).any()
    assert not find_outlying_columns(np.ones(2), 3).any()


def test_missing_columns_are_interpolated_and_rims_repeated():
    sinogram = np.tile(np.arange(8, dtype=np.float32), (3, 1))
    bad = np.zeros(8, bool)
    bad[[0, 3, 4, 7]] = True
    changed = sinogram.copy()
    changed[:, bad] = -1
    interpolate_columns(changed, bad)
    np.testing.assert_allclose(changed[0], [1, 1, 2, 3, 4, 5, 6, 6], atol=1e-6)
    untouched = changed.copy()
    interpolate_columns(changed, np.ones(8, bool))
    np.testing.assert_array_equal(changed, untouched)


def test_stripes_of_a_real_neutron_scan_go(shared_data):
    path = shared_data / "projections" / "sinogram_360_neutron_image.tif"
    scan = read_projections(path, angle_range=(0, 360), endpoint=True)
    sinogram, report = prepare_rows(scan, 0, 1)
    assert report.n_clipped == 214

    def level(rows):
        mean = rows.mean(axis=1)
        return float((mean - ndimage.median_filter(mean, (1, 11))).std())

    before = level(sinogram)
    assert level(remove_stripes(sinogram, "sorting")) < before / 50
    cleaned = remove_stripes(sinogram, "all")
    assert level(cleaned) < before / 150
    # Structure that moves with the angle is preserved.
    moving = sinogram - np.median(sinogram, axis=1, keepdims=True)
    kept = cleaned - np.median(cleaned, axis=1, keepdims=True)
    good = np.abs(moving).max(axis=(0, 1)) < 2
    share = np.corrcoef(moving[..., good].ravel(), kept[..., good].ravel())[0, 1]
    assert share > 0.97
