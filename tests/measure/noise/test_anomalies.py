"""Tests of noisy slices, single outlying voxels, and regions with and without noise."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.physics.specimens.textiles import weave

Array = npt.NDArray[np.float64]
SHAPE = (48, 64, 64)
POSITION = "depends on the position"
SLICES = "along Z (counted from 0)"
OUTLIERS = "differ strongly from all of their neighbours"


@cache
def foam(seed: int = 0) -> Array:
    """Pores of grey value 0 in a solid of 100, with soft borders."""
    pores = sphere_foam(SHAPE, porosity=0.3, radius=(5, 9), gap=2.0, seed=seed)
    return 100.0 * (1 - pores.fraction)


def noise_in(scan: Array) -> Noise:
    return estimate_noise(Volume(scan.astype(np.float32), "ZYX"))


def unit_noise(blur: float = 0.0, seed: int = 1) -> Array:
    values = ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=SHAPE), blur
    )
    return np.asarray(values / values.std())


def said(noise: Noise, words: str) -> list[str]:
    return [sentence for sentence in noise.doubts if words in sentence]


@pytest.mark.parametrize("blur", [0.0, 0.7])
@pytest.mark.parametrize(
    ("bad", "named"),
    [([20], "Slice 20 "), ([0, 1], "0 to 1 "), ([9, 30, 31], "9 and 30")],
)
def test_noisy_slices_are_named(bad: list[int], named: str, blur: float) -> None:
    levels = np.full((SHAPE[0], 1, 1), 5.0)
    levels[bad] = 30.0
    noise = noise_in(foam() + levels * unit_noise(blur))
    assert noise.level == pytest.approx(5, rel=0.2)
    (sentence,) = said(noise, SLICES)
    assert named in sentence


def test_noise_that_increases_along_z_is_no_noisy_slice() -> None:
    levels = np.linspace(3, 20, SHAPE[0])[:, None, None]
    assert not said(noise_in(foam() + levels * unit_noise()), SLICES)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (slice(24, None), "From about slice 24 "),
        (slice(None, 24), "Up to about slice 23 "),
    ],
)
def test_a_step_in_the_noise_is_no_run_of_noisy_slices(part: slice, named: str) -> None:
    """All slices beyond the step are noisy, although only the first stand out."""
    levels = np.full((SHAPE[0], 1, 1), 5.0)
    levels[part] = 30.0
    noise = noise_in(foam() + levels * unit_noise())
    assert not said(noise, "than the adjacent slices")
    for sentence in said(noise, SLICES):
        assert sentence.startswith(named)
        assert "times as strong" in sentence
    assert said(noise, POSITION)


def test_a_step_between_windows_of_a_large_scan_is_described_as_a_step() -> None:
    """The slices read after the step begin beyond the slices that are compared."""
    shape = (96, 128, 128)
    rng = np.random.default_rng(5)
    scan = ndimage.gaussian_filter(rng.normal(size=shape), 4)
    scan = np.where(scan > 0, 100.0, 0.0)
    scan[:48] += rng.normal(0, 5, scan[:48].shape)
    scan[48:] += rng.normal(0, 30, scan[48:].shape)
    (sentence,) = said(noise_in(scan), SLICES)
    assert sentence.startswith("From about slice 48 ")


def test_a_bad_slice_in_the_noisy_half_of_a_scan_is_named() -> None:
    levels = np.full((SHAPE[0], 1, 1), 5.0)
    levels[24:] = 12.0
    levels[36] = 60.0
    noise = noise_in(foam() + levels * unit_noise())
    (sentence,) = said(noise, "than the adjacent slices")
    assert sentence.startswith("Slice 36 ")


def test_detail_that_increases_gradually_is_no_noisy_slice() -> None:
    """It is a layer of fine structure, with slices of intermediate detail around it."""
    levels = 4 + 12 * np.exp(-0.5 * ((np.arange(SHAPE[0]) - 24) / 2.0) ** 2)
    noise = noise_in(foam() + levels[:, None, None] * unit_noise())
    assert not said(noise, SLICES)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_structure_of_a_weave_is_no_noisy_slice(seed: int) -> None:
    """Its noise cannot be measured, because no region is uniform."""
    yarns = 1 - weave((32, 96, 96), spacing=12, radius=3, seed=seed).fraction
    rng = np.random.default_rng(0)
    scan = ndimage.gaussian_filter(yarns, 0.5) + rng.normal(0, 0.0013, yarns.shape)
    noise = noise_in(100 * scan)
    assert noise.level == 0
    assert not noise.is_measured
    assert not said(noise, SLICES)
    (note,) = [note for note in noise.notes if SLICES in note]
    assert "noise or structure" in note


def test_noisy_slices_of_a_large_scan_are_named() -> None:
    """Only windows of it are read."""
    shape = (80, 176, 176)
    rng = np.random.default_rng(5)
    scan = rng.normal(0, 5, shape).astype(np.float32)
    scan[:, 40:100, 40:100] += 100
    scan[41] += rng.normal(0, 40, shape[1:])
    (sentence,) = said(noise_in(scan), SLICES)
    assert sentence.startswith("Slice 41 ")
    assert "of the 80 slices were examined" in sentence


def test_noisy_slices_are_told_by_two_scans() -> None:
    levels = np.full((SHAPE[0], 1, 1), 5.0)
    levels[20] = 30.0
    first, second = (
        Volume((foam() + levels * unit_noise(seed=seed)).astype(np.float32), "ZYX")
        for seed in (1, 2)
    )
    assert said(estimate_noise(first, second=second), SLICES)


def test_marks_of_missing_voxels_in_the_second_scan_are_excluded() -> None:
    first, second = (foam() + 5 * unit_noise(seed=seed) for seed in (1, 2))
    second[np.random.default_rng(3).random(SHAPE) < 1e-3] = 1e9
    noise = estimate_noise(Volume(first, "ZYX"), second=Volume(second, "ZYX"))
    assert noise.level == pytest.approx(5, rel=0.1)


def test_noisy_slices_of_a_scan_without_noise_are_told() -> None:
    scan = foam().copy()
    scan[20] += 20 * unit_noise()[20]
    noise = noise_in(scan)
    assert noise.level == 0
    assert said(noise, SLICES)


def test_the_noisiest_region_is_stated() -> None:
    levels = np.zeros(SHAPE)
    levels[:, :, 32:48], levels[:, :, 48:] = 4.0, 20.0
    noise = noise_in(foam() + levels * unit_noise())
    assert said(noise, POSITION)
    assert noise.interval[1] > 15


@pytest.mark.parametrize("share", [0.0005, 0.003])
@pytest.mark.parametrize("size", [400, 5000])
def test_zingers_are_neither_noise_nor_contrast(share: float, size: float) -> None:
    scan = foam() + 5 * unit_noise()
    hits = np.random.default_rng(3).random(SHAPE) < share
    noise = noise_in(np.where(hits, size * (1 + unit_noise(seed=7) ** 2), scan))
    assert noise.level == pytest.approx(5, rel=0.1)
    assert noise.contrast == pytest.approx(100, rel=0.15)
    assert len(said(noise, OUTLIERS)) == 1


def test_zingers_are_said_to_remain() -> None:
    scan = foam() + 5 * unit_noise()
    hits = np.random.default_rng(3).random(SHAPE) < 0.002
    (sentence,) = said(noise_in(np.where(hits, 600, scan)), OUTLIERS)
    (share,) = re.findall(r"\(([\d.]+) % of", sentence)
    assert float(share) == pytest.approx(0.2, abs=0.03)


def test_bright_spots_of_a_microscope_are_no_outliers() -> None:
    rng = np.random.default_rng(4)
    spots = np.zeros(SHAPE)
    spots[tuple(rng.integers(4, n - 4, 400) for n in SHAPE)] = 1000.0
    scan = ndimage.gaussian_filter(spots, 0.7) + unit_noise()
    assert (scan > 100).mean() > 1e-3
    assert not said(noise_in(scan), OUTLIERS)


@pytest.mark.parametrize("blur", [0.0, 0.7])
@pytest.mark.parametrize("axis", [0, 2])
def test_noise_in_one_half_only_is_told(axis: int, blur: float) -> None:
    half = np.indices(SHAPE)[axis] >= SHAPE[axis] // 2
    noise = noise_in(foam() + 10 * half * unit_noise(blur))
    assert said(noise, POSITION)
    assert noise.interval[1] > 8


@settings(max_examples=8, deadline=None)
@given(
    level=st.sampled_from([0.0, 0.4, 2.0, 10.0]),
    blur=st.sampled_from([0.0, 0.5, 0.8]),
    seed=st.integers(0, 10_000),
)
def test_equal_noise_has_no_exceptions(level: float, blur: float, seed: int) -> None:
    noise = noise_in(foam(seed % 3) + level * unit_noise(blur, seed + 1))
    assert not said(noise, SLICES)
    assert not said(noise, OUTLIERS)
    assert not said(noise, POSITION)


@pytest.mark.parametrize(
    ("share", "low"), [(0.0025, 0), (0.005, 0), (0.02, 0), (0.02, 255)]
)
def test_dead_and_hot_voxels_at_the_ends_of_the_grey_scale_are_told(
    share: float, low: int
) -> None:
    scan = 60 + foam() + 8 * unit_noise()
    known = noise_in(scan)
    places = np.random.default_rng(2).random(SHAPE)
    scan[places < share / 2], scan[places > 1 - share / 2] = low, 255
    noise = estimate_noise(Volume(scan.clip(0, 255).astype(np.uint8), "ZYX"))
    assert said(noise, OUTLIERS)
    assert not any("clipped" in note for note in noise.notes)
    assert noise.level == pytest.approx(known.level, rel=0.15)
    if low == 0:  # with 2 % at one end, they are within the percentiles
        assert noise.contrast == pytest.approx(known.contrast, rel=0.1)


def test_noise_and_structure_at_the_ends_of_the_grey_scale_are_no_dead_voxels() -> None:
    noisy = 60 + foam() + 25 * unit_noise()
    specks = np.zeros(SHAPE)
    specks[4::9, 4::9, 4::9] = 1
    beads = 900 * ndimage.gaussian_filter(specks, 0.8) + 10 + 3 * unit_noise()
    steps = 50 + np.rint(0.1 * foam() + 0.25 * unit_noise())
    mask = (foam() > 50) ^ (np.random.default_rng(1).random(SHAPE) < 1e-3)
    for scan in (noisy.clip(40, 170), beads.clip(0, 130), steps, mask):
        assert not said(noise_in(np.rint(scan)), OUTLIERS)
