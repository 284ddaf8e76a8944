"""Verdicts on scans with rare, small pores, padding, cracks and inclusions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.restore.verdict.known_blocks import (
    draw_known_sample,
    known_blocks_of,
    run_known_blocks,
)
from napari_geosr.operations.restore.verdict.phase_levels import phase_levels
from napari_geosr.operations.restore.verdict.sample_blocks import restored
from napari_geosr.operations.restore.verdict.steps import verdict_steps

SHAPE = (48, 96, 96)
SOLID, PORE = 20000.0, 8000.0


def spheres(n: int, radii: tuple[float, float], seed: int) -> np.ndarray:
    """Mask of spheres that do not touch."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE)
    mask, placed = np.zeros(SHAPE, bool), 0
    while placed < n:
        radius = rng.uniform(*radii)
        centre = [rng.uniform(radius + 1, length - radius - 1) for length in SHAPE]
        square = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        if not mask[square < (radius + 2) ** 2].any():
            mask |= square <= radius**2
            placed += 1
    return mask


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """A solid with 150 pores of 7 to 74 voxels, 1 % of the volume."""
    pores = spheres(150, (1.2, 2.6), 1)
    return ndimage.gaussian_filter(np.where(pores, PORE, SOLID), 0.6)


def noisy(truth: np.ndarray, level: float, blur: float, seed: int = 3) -> np.ndarray:
    unit = np.random.default_rng(seed).standard_normal(truth.shape)
    unit = ndimage.gaussian_filter(unit, blur) if blur else unit
    return (truth + level * (SOLID - PORE) * unit / unit.std()).astype(np.float32)


def verdict_of(scan: np.ndarray, model: str):
    config = RestoreConfig(model=model, device="cpu", threads=1)
    ready = run_to_end(prepare_steps(Volume(scan, "ZYX", name="scan"), config))
    return run_to_end(verdict_steps(ready))


def test_small_pores_are_as_dark_as_they_are(truth):
    scan = noisy(truth, 0.1, 0.7)
    noise = estimate_noise(Volume(scan, "ZYX"))
    sample = draw_known_sample(Volume(scan, "ZYX"), noise)
    _, insides = known_blocks_of(sample)
    phases = phase_levels(sample, noise, insides)
    own = truth[truth < 14000]
    assert phases.bright == pytest.approx(SOLID, rel=0.02)
    assert phases.dark == pytest.approx(np.median(own), abs=2000)
    assert phases.dark_share == pytest.approx(0.011, rel=0.5)
    assert not phases.is_mostly_dark


@pytest.mark.parametrize(("level", "blur"), [(0.2, 0.7), (0.3, 0.0)])
def test_the_contrast_includes_rare_pores_in_strong_noise(truth, level, blur):
    found = estimate_noise(Volume(noisy(truth, level, blur), "ZYX"))
    assert found.relative == pytest.approx(level, rel=0.25)


@pytest.mark.parametrize("model", ["nlm", "tv"])
def test_a_filter_that_leaves_no_pores_to_separate_earns_no_tick(truth, model):
    verdict = verdict_of(noisy(truth, 0.3, 0.7), model)
    assert not verdict.earns_tick
    assert "only noise" not in verdict.words


def test_specks_of_a_smoothed_scan_are_no_reason_to_call_a_result_harmful(truth):
    verdict = verdict_of(noisy(truth, 0.2, 0.7), "ct-denoise")
    assert not verdict.is_harmful


@pytest.mark.parametrize("blur", [0.5, 0.7])
def test_padding_around_the_sample_changes_no_count(truth, blur):
    scan = noisy(truth, 0.1, blur, seed=8)
    _, y, x = np.indices(SHAPE)
    scan[(y - 48) ** 2 + (x - 48) ** 2 > 44**2] = 0
    volume = Volume(scan, "ZYX", name="scan")
    noise = estimate_noise(volume)
    config = RestoreConfig(model="ct-denoise", device="cpu", threads=1)
    ready = run_to_end(prepare_steps(volume, config))
    test = run_known_blocks(
        lambda window, core: restored(ready, window, core, never_stop),
        draw_known_sample(volume, noise),
        noise,
    )
    counts = test.counts[0]
    assert counts.smoothed > 20  # not a few that specks of noise connect
    assert not counts.is_off(2.0)
    assert not verdict_of(scan, "ct-denoise").is_harmful


def test_bright_inclusions_are_named_and_not_the_texture_around_them():
    rng = np.random.default_rng(2)
    inclusions = spheres(120, (1.0, 1.8), 5)
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 3)
    truth = ndimage.gaussian_filter(np.where(inclusions, 26000.0, 15000.0), 0.5)
    truth += 600 * texture / texture.std()
    verdict = verdict_of(noisy(truth, 0.1, 0.7), "ct-denoise")
    assert "bright spots" in verdict.words
    assert "Pores of up to" not in verdict.words


@pytest.mark.parametrize("greys", [(60, 150), (60, 105, 150), (60, 90, 111, 150)])
def test_the_phases_are_counted(greys: tuple[int, ...]) -> None:
    """Grains whose grey values overlap because of the noise."""
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.standard_normal((48, 96, 96)), 4)
    edges = np.quantile(smooth, np.linspace(0, 1, len(greys) + 1)[1:-1])
    clean = np.array(greys, float)[np.digitize(smooth, edges)]
    scan = (clean + rng.normal(0, 9, clean.shape)).astype(np.float32)
    volume = Volume(scan, "ZYX", name="grains")
    noise = estimate_noise(volume)
    sample = draw_known_sample(volume, noise)
    insides = [np.ones(block.window.shape, bool) for block in sample.blocks]
    levels = phase_levels(sample, noise, insides)
    assert levels is not None
    assert levels.number == len(greys)
