"""The interval of a porosity matches the definition, calculated by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure import budget, porosity
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.interval import Deviation, needed_factor
from napari_geosr.measure.reports.html import page
from napari_geosr.measure.reports.rows import summary_rows, table_rows

SHAPE = (6, 20, 22)


@pytest.fixture
def mean(rng) -> np.ndarray:
    from scipy import ndimage

    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5)
    return (field / field.std()).astype(np.float32)


@pytest.fixture
def spread(rng) -> np.ndarray:
    return rng.uniform(0.05, 0.4, SHAPE).astype(np.float32)


def measured(mean, spread, factor=None, nominal=None, mask=None, **settings):
    volume = Volume(mean, "ZYX"[-mean.ndim :], (2.0,) * mean.ndim, "µm", name="v")
    config = PorosityConfig(**({"threshold": 0.1, "min_voxels": 2} | settings))
    deviation = Deviation(spread, factor, nominal)
    return run_to_end(
        porosity.porosity_steps(volume, config, mask=mask, deviation=deviation)
    )


@pytest.mark.parametrize("phase", ["dark", "bright"])
def test_the_interval_is_the_porosity_of_moved_voxels(mean, spread, phase):
    report = measured(mean, spread, 1.7, 0.9, phase=phase)

    def share(move: float) -> float:
        pores = mean + np.float32(move) * spread <= 0.1
        return float((pores if phase == "dark" else ~pores).mean())

    assert report.interval.porosity == pytest.approx(sorted((share(-1.7), share(1.7))))
    assert report.interval.porosity[0] < report.porosity < report.interval.porosity[1]
    assert report.interval.spread == pytest.approx(abs(share(-1) - share(1)) / 2)
    counts = []
    for move in (-1.7, 0.0, 1.7):
        moved = measured(mean + np.float32(move) * spread, spread, phase=phase)
        counts.append(moved.pore_count)
    assert report.interval.pore_count == (min(counts), max(counts))
    per_pore = 1 / (mean.size * (2e-3) ** 3)
    assert report.density_interval == pytest.approx(
        (min(counts) * per_pore, max(counts) * per_pore)
    )


def test_slabs_and_masks_do_not_change_it(mean, spread, monkeypatch):
    mask = np.zeros(SHAPE, bool)
    mask[:, 3:, :15] = True
    mean[2, 5, 5] = np.nan
    spread[2, 5, 5] = np.nan
    whole = measured(mean, spread, 2.0, mask=mask)
    monkeypatch.setattr(budget, "slab_thickness", lambda *_: 1)
    slabs = measured(mean, spread, 2.0, mask=mask)
    assert whole.interval == slabs.interval
    inside = mask & np.isfinite(mean)
    low = (mean + 2 * spread <= 0.1)[inside].mean()
    assert whole.interval.porosity[0] == pytest.approx(low)
    assert whole.interval.missing_voxels == 0


def test_images_and_integers_have_an_interval(mean, spread):
    flat = measured(mean[0], spread[0], 1.0)
    assert flat.interval.porosity[0] < flat.porosity < flat.interval.porosity[1]
    assert flat.to_json_dict()["pores_per_mm2_interval"] is not None
    grey = np.clip(100 + 40 * mean, 0, 255).astype(np.uint8)
    report = measured(grey, 40 * spread, 1.0, threshold=104)
    low = (grey + 40 * spread <= 104).mean()
    assert report.interval.porosity[0] == pytest.approx(low)


def test_voxels_without_a_deviation_are_said(mean, spread):
    spread[1, :2, :3] = np.nan
    report = measured(mean, spread, 1.0)
    assert report.interval.missing_voxels == 6
    assert any(
        "6 voxels of 'v' have no standard deviation" in w for w in report.warnings
    )
    inside = np.ones(SHAPE, bool)
    inside[1, :2, 1:] = False  # two of the six remain in the sample
    assert measured(mean, spread, 1.0, mask=inside).interval.missing_voxels == 2


def test_what_is_no_deviation_is_refused(mean, spread):
    with pytest.raises(VolumeError, match="negative values"):
        measured(mean, spread - 1)
    with pytest.raises(VolumeError, match="deviation .* has shape"):
        measured(mean, spread[1:])
    with pytest.raises(ConfigError, match="interval factor"):
        PorosityConfig.create(interval_factor=0)


def test_settings_files_may_use_the_earlier_name(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("band_factor: 2.5\n", encoding="utf-8")
    assert PorosityConfig.from_yaml(path).interval_factor == 2.5
    with pytest.raises(ConfigError, match="'band_factor' is the earlier name of"):
        PorosityConfig.create(band_factor=1.0, interval_factor=2.0)


@pytest.mark.parametrize("phase", ["dark", "bright"])
@pytest.mark.parametrize("move", [-1.3, -0.2, 0.6, 2.0])
def test_the_factor_that_a_truth_needs(mean, spread, phase, move):
    """The interval covers the true porosity of a volume shifted by known deviations
    from this factor on.
    """
    pores = mean + np.float32(move) * spread <= 0.1
    truth = float((pores if phase == "dark" else ~pores).mean())
    found = needed_factor(mean, spread, 0.1, phase, truth)
    expected = move if phase == "dark" else -move
    assert found == pytest.approx(expected, abs=0.02)
    for factor, holds in ((abs(move) * 1.02, True), (abs(move) * 0.9, False)):
        low, high = measured(mean, spread, factor, phase=phase).interval.porosity
        assert (low <= truth <= high) is holds


def test_people_see_the_interval(mean, spread):
    calibrated = measured(mean, spread, 1.2, 0.9)
    chosen = measured(mean, spread, 2.0)
    plain = measured(mean, spread)
    rows = dict(summary_rows(calibrated))
    low, high = (100 * end for end in calibrated.interval.porosity)
    assert rows["Porosity interval (90 %)"] == f"{low:.0f} to {high:.0f} %"
    assert "Pores per mm³ in the interval" in rows
    assert "Porosity interval (±2 std)" in dict(summary_rows(chosen))
    assert "Porosity spread (±1 std)" in dict(summary_rows(plain))
    assert "Pores per mm³ in the interval" not in dict(summary_rows(plain))
    none = run_to_end(
        porosity.porosity_steps(
            Volume(mean, "ZYX", (2.0,) * 3, "µm"), PorosityConfig(threshold=0.1)
        )
    )
    assert none.interval is None
    both = {label: texts for label, texts, _ in table_rows([none, calibrated])}
    assert both["Porosity interval (90 %)"][0] == "–"
    text = page(
        {"v": calibrated},
        title="t",
        pictures={},
        histogram={"light": b"", "dark": b""},
        records=[],
    )
    assert "Porosity interval (90 %)" in text
    assert "shifted together by 1.20 standard deviations" in text
    assert "does not include errors that all members" in text


def test_json_says_what_there_is(mean, spread):
    said = json.loads(json.dumps(measured(mean, spread, 1.2, 0.9).to_json_dict()))
    assert (
        said["porosity_interval"][0] < said["porosity"] < said["porosity_interval"][1]
    )
    assert said["porosity_interval_nominal"] == 0.9
    assert said["porosity_interval_factor"] == 1.2
    assert said["porosity_spread"] > 0
    assert len(said["pores_per_mm3_interval"]) == 2
    plain = measured(mean, spread).to_json_dict()
    assert plain["porosity_interval"] is None
    assert plain["porosity_spread"] == said["porosity_spread"]
