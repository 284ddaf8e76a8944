"""Small pores that super-resolution loses are stated before a run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig, prepare_steps
from napari_geosr.operations.restore.verdict.finer_pores import (
    draw_finer_sample,
    lost_finer_pores,
)
from napari_geosr.operations.restore.verdict.known_block_test import (
    count_limits,
    lost_pores,
)
from napari_geosr.operations.restore.verdict.pore_findings import lost_small_pores
from napari_geosr.operations.restore.verdict.steps import verdict_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam

SHAPE = (24, 72, 72)
FACTORS = (2, 2, 2)


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    """Large pores of 0 in a solid of 100, with noise of 10."""
    pores = sphere_foam(SHAPE, porosity=0.15, radius=(6, 9), gap=4.0, seed=2)
    blurred = ndimage.gaussian_filter(100.0 * (1 - pores.fraction), 0.7)
    return blurred + np.random.default_rng(1).normal(0, 10, SHAPE)


def repeated(values: np.ndarray) -> np.ndarray:
    for axis in range(3):
        values = values.repeat(2, axis)
    return values


@pytest.mark.parametrize(("width", "is_lost"), [(0.0, False), (2.0, True)])
def test_a_model_that_smooths_too_much_loses_small_pores(
    scan: np.ndarray, width: float, is_lost: bool
) -> None:
    noise = Noise(level=10.0, contrast=100.0, white=1.0)
    sample = draw_finer_sample(Volume(scan, "ZYX"), noise, FACTORS)

    def restore(window: np.ndarray, core: tuple[slice, ...]) -> np.ndarray:
        smooth = ndimage.gaussian_filter(window, width) if width else window
        return repeated(smooth[core])

    test = lost_finer_pores(restore, sample, noise, FACTORS)
    assert (test.limit is not None) == is_lost
    limits, words = count_limits(test, 8), lost_pores(test, 8)
    if not is_lost:
        assert (limits, words) == ((), "")
        return
    assert limits[0].voxels == 8 * test.limit
    assert f"{test.limit} voxels of the scan ({8 * test.limit} of the result)" in words


def test_the_limit_is_stated_before_the_run(scan: np.ndarray) -> None:
    noisy = scan + np.random.default_rng(2).normal(0, 45, SHAPE)
    volume = Volume(noisy.astype(np.float32), "ZYX", name="scan")
    ready = run_to_end(prepare_steps(volume, RestoreConfig(model="foam-sr-x2")))
    verdict = run_to_end(verdict_steps(ready, noise=Noise(level=46.0, contrast=100.0)))
    assert "voxels of the scan" in verdict.words
    assert verdict.limits
    assert verdict.hides_pores
    assert not verdict.earns_tick


@pytest.mark.parametrize(("width", "fades"), [(0.0, False), (2.5, True)])
def test_small_objects_of_the_scan_that_fade_are_told(
    width: float, fades: bool
) -> None:
    """Whatever other phases there are: here a few bright grains."""
    data = np.full((24, 96, 96), 100.0)
    rng = np.random.default_rng(4)
    z, y, x = np.meshgrid(*(np.arange(n) for n in data.shape), indexing="ij")
    places = [(12, v, u) for v in range(12, 96, 16) for u in range(12, 96, 16)]
    for n, (k, j, i) in enumerate(places):
        ball = (z - k) ** 2 + (y - j) ** 2 + (x - i) ** 2 <= 2.0**2
        data[ball] = 300 if n % 9 == 0 else 60
    noise = Noise(level=6.0, contrast=100.0, white=1.0)
    scan = ndimage.gaussian_filter(data, 0.5) + rng.normal(0, 6, data.shape)
    sample = draw_finer_sample(Volume(scan, "ZYX"), noise, FACTORS)

    def restore(window: np.ndarray, core: tuple[slice, ...]) -> np.ndarray:
        smooth = ndimage.gaussian_filter(window, width) if width else window
        return repeated(smooth[core])

    test = lost_finer_pores(restore, sample, noise, FACTORS)
    (dark,) = (one for one in test.both if not one.are_bright)
    assert sum(each.seen for each in dark.objects_by_size) >= 10
    sentences = list(lost_small_pores("sr", test))
    assert bool(sentences) == fades
    assert all("that this scan shows would fade" in text for text in sentences)


def test_a_block_is_smaller_for_a_larger_factor() -> None:
    volume = Volume(np.random.default_rng(0).random((20, 120, 120)), "ZYX")
    noise = Noise(level=0.1, contrast=1.0)
    shapes = [
        draw_finer_sample(volume, noise, (n,) * 3).blocks[0].valid.shape
        for n in (2, 4, 8)
    ]
    assert shapes == [(16, 96, 96), (16, 69, 69), (16, 32, 32)]


def test_a_small_sample_in_padding_is_no_error() -> None:
    """Blocks for larger factors are smaller, and may contain too little of it."""
    rng = np.random.default_rng(5)
    data = np.zeros((64, 300, 300), np.float32)
    data[20:37, 100:168, 140:172] = 100 + rng.normal(0, 10, (17, 68, 32))
    volume = Volume(data, "ZYX", name="scan")
    ready = run_to_end(prepare_steps(volume, RestoreConfig(model="cubic-x8")))
    verdict = run_to_end(verdict_steps(ready, noise=Noise(level=10.0, contrast=100.0)))
    assert all(limit.objects == "pores" for limit in verdict.limits)
