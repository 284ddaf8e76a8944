"""Expected fractions of misclassified voxels compared with the actual ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import norm

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.reliability.misclassification import (
    Misclassification,
    misclassification,
)
from napari_geosr.measure.reliability.noise_check import NoiseCheck, noise_remarks
from napari_geosr.measure.remarks import speck_remarks
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.specimens.textiles import several_phases

SHAPE = (40, 64, 64)


def expected(data, threshold, noise, phase="dark") -> Misclassification:
    histogram = run_to_end(histogram_steps(data, thickness=data.shape[0]))
    return misclassification(histogram, threshold, noise, phase)


def counted(clean, data, threshold, phase="dark") -> tuple[float, float]:
    """Actual fractions of solid classified as pore, and of pore classified as solid."""
    pore, seen = clean <= threshold, data <= threshold
    if phase == "bright":
        pore, seen = ~pore, ~seen
    return float((seen & ~pore).mean()), float((~seen & pore).mean())


@pytest.mark.parametrize("level", [10.0, 30.0, 60.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("scene", ["foam", "phases"])
def test_shares_are_those_that_noise_makes(rng, level, dtype, scene):
    if scene == "foam":
        clean = 1 - sphere_foam(SHAPE, porosity=0.25, radius=(2, 6)).fraction
    else:
        clean = several_phases(SHAPE).grey
    clean = 40 + 150 * ndimage.gaussian_filter(clean, 0.7)
    data = clean + level * rng.standard_normal(SHAPE)
    if dtype != np.float32:
        data = np.clip(data.round(), 0, np.iinfo(dtype).max)
    threshold = 40 + 150 * 0.25
    found = expected(data.astype(dtype), threshold, Noise(level=level, contrast=150.0))
    to_pore, to_solid = counted(clean, data, threshold)
    assert found.to_pore == pytest.approx(to_pore, rel=0.4, abs=0.012)
    assert found.to_solid == pytest.approx(to_solid, rel=0.4, abs=0.012)
    assert found.share == pytest.approx(to_pore + to_solid, rel=0.15, abs=0.005)


@settings(max_examples=15, deadline=None)
@given(
    porosity=st.floats(0.1, 0.9),
    level=st.floats(0.08, 0.5),
    shift=st.floats(0.35, 0.65),
)
def test_two_phases_have_the_textbook_share(porosity, level, shift):
    rng = np.random.default_rng(0)
    pore = rng.random(100_000) < porosity
    data = (~pore + level * rng.standard_normal(pore.size)).astype(np.float32)
    found = expected(data[:, None, None], shift, Noise(level=level, contrast=1.0))
    to_pore = (1 - porosity) * norm.cdf(-(1 - shift) / level)
    to_solid = porosity * norm.cdf(-shift / level)
    assert found.share == pytest.approx(to_pore + to_solid, rel=0.2, abs=0.012)


def test_bright_pores_are_the_other_way_round(rng):
    clean = np.where(rng.random(SHAPE) < 0.2, 100.0, 200.0)
    data = (clean + 30 * rng.standard_normal(SHAPE)).astype(np.float32)
    noise = Noise(level=30.0, contrast=100.0)
    dark, bright = (expected(data, 150.0, noise, p) for p in ("dark", "bright"))
    assert (dark.to_pore, dark.to_solid) == (bright.to_solid, bright.to_pore)
    to_pore, to_solid = counted(clean, data, 150.0, "bright")
    assert bright.to_pore == pytest.approx(to_pore, rel=0.3)
    assert bright.to_solid == pytest.approx(to_solid, rel=0.3)


def test_noise_that_grows_with_the_grey_value(rng):
    clean = np.where(rng.random(SHAPE) < 0.3, 100.0, 200.0)
    level = np.where(clean == 100.0, 10.0, 50.0)
    data = (clean + level * rng.standard_normal(SHAPE)).astype(np.float32)
    noise = Noise(level=42.0, contrast=100.0, greys=(100.0, 200.0), levels=(10.0, 50.0))
    found = expected(data, 150.0, noise)
    to_pore, to_solid = counted(clean, data, 150.0)
    assert to_solid < 1e-5 < 0.1 < to_pore
    assert found.share == pytest.approx(to_pore, rel=0.1)


@pytest.mark.parametrize("padding", [0.2, 0.6])
def test_padding_has_no_noise(rng, padding):
    clean = np.where(rng.random(SHAPE) < 0.3, 100.0, 200.0)
    data = clean + 40 * rng.standard_normal(SHAPE)
    constant = rng.random(SHAPE) < padding
    data[constant] = clean[constant] = data.min()
    found = expected(data.astype(np.float32), 150.0, Noise(level=40.0, contrast=100.0))
    to_pore, to_solid = counted(clean, data, 150.0)
    assert found.share == pytest.approx(to_pore + to_solid, rel=0.15)


def test_clipped_noise_is_noise(rng):
    clean = np.where(rng.random(SHAPE) < 0.7, 40.0, 200.0)
    data = np.clip(clean + 70 * rng.standard_normal(SHAPE), 0, 255).astype(np.uint8)
    assert (data == 0).mean() > 0.1
    found = expected(data, 110.0, Noise(level=70.0, contrast=160.0))
    assert found.share == pytest.approx(sum(counted(clean, data, 110.0)), rel=0.2)


def test_without_noise_nothing_is_said(rng):
    clean = several_phases(SHAPE).grey
    noise = Noise(level=0.002, contrast=1.0)
    found = expected(clean, 0.3, noise)
    assert found == Misclassification(0.0, 0.0)
    assert list(noise_remarks(NoiseCheck(noise, found), 0.15, "scan")) == []


@pytest.mark.parametrize(
    ("to_pore", "to_solid", "porosity", "what"),
    [
        (0.13, 0.01, 0.36, "porosity and pore counts"),
        (0.012, 0.001, 0.02, "porosity and pore counts"),
        (0.015, 0.015, 0.3, "pore counts and sizes"),
        (0.008, 0.007, 0.3, None),
        (0.002, 0.001, 0.005, None),
    ],
)
def test_what_is_unreliable_is_named(to_pore, to_solid, porosity, what):
    noise = Noise(level=35.0, contrast=100.0)
    found = Misclassification(to_pore, to_solid)
    said = list(noise_remarks(NoiseCheck(noise, found), porosity, "scan"))
    assert len(said) == (what is not None)
    if what:
        assert f"{what} are unreliable. Measure a scan with less noise" in said[0]
        assert said[0].endswith("verdict says that its pores cannot be counted.")
        assert "35 % of the contrast" in said[0]
    if to_pore == 0.13:
        assert said[0].startswith("About 14 % of the voxels of 'scan' are expected")


def test_specks_are_said_where_they_are_most_of_many():
    single, large = np.ones(3000, int), np.full(400, 50)
    (said,) = speck_remarks(np.concatenate([single, large]), 10**6, 8, "scan")
    assert "3 000 of the 3 400 objects" in said.replace("\u202f", " ")
    assert "not counted as pores (minimum pore size: 8 voxels)" in said
    (said,) = speck_remarks(single, 10**6, 1, "scan")
    assert "they are counted as pores" in said
    assert not list(speck_remarks(np.full(3000, 9), 10**6, 8, "scan"))
    assert not list(speck_remarks(single[:400], 10**5, 8, "scan"))
    assert not list(speck_remarks(single, 10**8, 8, "scan"))
    assert not list(
        speck_remarks(np.concatenate([single, np.full(4000, 50)]), 10**6, 8, "scan")
    )
