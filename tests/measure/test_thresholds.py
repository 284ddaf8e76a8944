"""Thresholds that depend on the neighbourhood: local mean and hysteresis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.filters import apply_hysteresis_threshold, threshold_local

from napari_geosr import measure_porosity
from napari_geosr.core.errors import ConfigError, GeoSRError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure import blocks
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.methods import methods_text, settings_of
from napari_geosr.measure.segment import shifted_thresholds
from napari_geosr.measure.thresholds.hysteresis import core_threshold
from napari_geosr.measure.thresholds.local_mean import LevelledArray

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def spheres(shape=(60, 64, 68), seed=0) -> np.ndarray:
    """Small pores at random positions, about 6 % of the volume."""
    rng = np.random.default_rng(seed)
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    pores = np.zeros(shape, bool)
    for _ in range(60):
        centre = rng.uniform(0, shape)
        squares = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        pores |= squares <= 4**2
    return pores


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    """Smooth random grey values from 0 to 255."""
    values = gaussian_filter(np.random.default_rng(3).normal(size=(30, 36, 40)), 1.5)
    values -= values.min()
    return (255 * values / values.max()).astype(np.uint8)


def measured(data, **settings):
    axes = "ZYX"[-data.ndim :]
    return measure_porosity(Volume(data, axes, name="scan"), min_voxels=1, **settings)


@pytest.mark.parametrize("phase", ["dark", "bright"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_local_threshold_is_that_of_scikit_image(foam, phase, ndim):
    data = foam if ndim == 3 else foam[15]
    window, threshold = 21, 110.0
    offset = float(data.mean()) - threshold
    local = threshold_local(data, window, method="gaussian", offset=offset)
    expected = data <= local if phase == "dark" else data > local
    found = measured(data, local_window=window, threshold=threshold, phase=phase)
    assert found.pore_voxels == expected.sum()
    assert np.array_equal(found.labels > 0, expected)


@pytest.mark.parametrize("kind", ["integers", "floats", "NaN", "mask"])
def test_levelled_slabs_are_the_whole(foam, kind):
    data, mask = foam, None
    if kind != "integers":
        data = foam.astype(np.float32)
    if kind == "NaN":
        data[3:9, 5:, :20] = np.nan
    if kind == "mask":
        mask = np.zeros(data.shape, bool)
        mask[2:-3, 4:30, 5:] = True
    array = LevelledArray(data, mask, 13, 100.0, flat=False)
    whole = array[0:30]
    parts = [array[z : z + 4] for z in range(0, 30, 4)]
    assert np.array_equal(np.concatenate(parts), whole, equal_nan=True)
    assert np.array_equal(array[7:9, 3, 4:6], whole[7:9, 3, 4:6], equal_nan=True)
    assert np.isnan(whole).sum() == np.isnan(data.astype(float)).sum()


def test_voxels_outside_of_the_sample_do_not_move_the_mean(foam):
    mask = np.zeros(foam.shape, bool)
    mask[:, 10:26, 10:30] = True
    changed = np.where(mask, foam, 0).astype(np.uint8)
    values = [
        LevelledArray(data, mask, 15, 0.0, flat=False)[0:30][mask]
        for data in (foam, changed)
    ]
    assert np.array_equal(*values)


@pytest.mark.parametrize("settings", [{"local_window": 15}, {"hysteresis": 0.6}])
def test_streamed_is_whole(foam, settings, monkeypatch):
    whole = measured(foam, **settings)
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 36 * 40 * 3)
    parts = measured(foam, **settings)
    assert parts.figures == whole.figures
    assert np.array_equal(parts.labels, whole.labels)


def test_uneven_brightness_does_not_change_the_porosity_with_a_local_threshold():
    pores = spheres()
    brightness = np.linspace(-90, 90, pores.shape[2])
    noise = np.random.default_rng(1).normal(0, 4, pores.shape)
    scan = (200 - 80.0 * pores + noise + brightness).astype(np.float32)
    truth = float(pores.mean())
    assert measured(scan).porosity > 3 * truth
    found = measured(scan, local_window=41)
    assert found.porosity == pytest.approx(truth, rel=0.02)
    assert np.mean((found.labels > 0) == pores) > 0.998


@pytest.mark.parametrize("phase", ["dark", "bright"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_hysteresis_is_that_of_scikit_image(foam, phase, ndim):
    data = foam if ndim == 3 else foam[15]
    value = 110.0 if phase == "dark" else 160.0
    found = measured(data, threshold=value, hysteresis=1.2, phase=phase, connectivity=6)
    pores = data <= value if phase == "dark" else data > value
    core = value + 1.2 * (data[pores].mean() - value)
    if phase == "dark":
        expected = apply_hysteresis_threshold(-data.astype(float), -110.5, -core - 1e-9)
    else:
        expected = apply_hysteresis_threshold(data.astype(float), value, core)
    assert 0 < expected.sum() < pores.sum()
    assert np.array_equal(found.labels > 0, expected)
    assert found.porosity == expected.mean()


def test_shifted_thresholds_have_cores_of_their_own(foam):
    found = measured(foam, threshold=110.0, hysteresis=1.2, connectivity=26)
    histogram = run_to_end(histogram_steps(foam, thickness=9, name="scan"))
    core = core_threshold(histogram, 110.0, 1.2, "dark")
    expected = []
    for value in shifted_thresholds(histogram, 110.0):
        one = measured(foam, threshold=value)
        kept = np.unique(one.labels[foam <= np.floor(core + value - 110)])
        expected.append(np.isin(one.labels, kept[kept > 0]).mean())
    assert [found.porosity_low, found.porosity_high] == pytest.approx(sorted(expected))


def test_dim_specks_are_left_out_and_pores_keep_their_outline():
    pores = spheres()
    scan = gaussian_filter(200 - 120.0 * pores, 0.8)
    scan += np.random.default_rng(2).normal(0, 6, scan.shape)
    rng = np.random.default_rng(5)
    specks = tuple(rng.integers(2, n - 2, 400) for n in scan.shape)
    scan[specks] = 130
    plain = measured(scan, threshold=140.0)
    found = measured(scan, threshold=140.0, hysteresis=0.8)
    assert plain.pore_count > 5 * found.pore_count
    without_noise = measured(gaussian_filter(200 - 120.0 * pores, 0.8), threshold=140.0)
    assert found.pore_count == without_noise.pore_count
    before, after, truth = (r.labels > 0 for r in (plain, found, without_noise))
    assert not after[~before].any()
    assert after[before & truth].mean() > 0.999  # the outlines do not change
    assert before[~truth].sum() > 3 * after[~truth].sum()


def test_a_hysteresis_that_keeps_nothing_is_told():
    scan = 200 - 120.0 * spheres() + np.random.default_rng(2).normal(0, 2, (1, 1, 1))
    kept = measured(scan, threshold=140.0, hysteresis=0.5)
    assert kept.porosity > 0
    assert not any("hysteresis" in warning for warning in kept.warnings)
    none = measured(scan, threshold=140.0, hysteresis=2.0)
    assert none.porosity == 0
    assert any("hysteresis of 2, so no pores are kept" in w for w in none.warnings)


def test_the_methods_section_reproduces_both(foam):
    settings = {"local_window": 21, "hysteresis": 0.5, "statistics": ("two_point",)}
    report = measured(foam, **settings)
    text = methods_text(report)
    assert "Gaussian window of 21 voxels" in text
    assert "Canny J." in text
    config = settings_of(text)
    assert (config.local_window, config.hysteresis) == (21, 0.5)
    again = measure_porosity(
        Volume(foam, "ZYX", name="scan"),
        **{
            name: getattr(config, name)
            for name in ("threshold", "local_window", "hysteresis", "statistics")
        },
        min_voxels=config.min_voxels,
    )
    assert again.figures == report.figures
    assert report.to_json_dict()["local_window"] == 21


def test_bad_settings_are_refused(foam):
    for settings in ({"local_window": 2}, {"hysteresis": 0.0}, {"hysteresis": "x"}):
        with pytest.raises(ConfigError):
            PorosityConfig.create(**settings)
    scan = np.random.default_rng(0).normal(size=(40, 300, 300))
    with pytest.raises(VolumeError, match="window of 1001 voxels needs"):
        measured(scan, local_window=1001, memory="120 MB")
    with pytest.raises(GeoSRError, match="cannot be measured with hysteresis"):
        measure_porosity(
            Volume(foam.astype(np.float32), "ZYX"),
            hysteresis=0.5,
            deviation=Volume(np.ones(foam.shape, np.float32), "ZYX"),
        )
