"""Evaluation of models that make voxels finer along some axes only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.scans import Scan

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
IN_PLANE = (1, 2, 2)


@pytest.fixture(scope="module", autouse=True)
def _scripts_can_be_imported() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield


def spot(shape: tuple[int, int, int], place: tuple[float, float, float]) -> np.ndarray:
    """A blurred point; `place` is in voxels."""
    grid = np.mgrid[tuple(slice(0, n) for n in shape)]
    far = sum((g - p) ** 2 for g, p in zip(grid, place, strict=True))
    return np.exp(-far / (2 * 1.5**2)).astype(np.float32)


def test_enlarging_in_the_plane_keeps_places_and_slices() -> None:
    from pretraining.baselines import enlarge

    place = (3.0, 9.3, 11.6)
    coarse = spot((7, 20, 24), place)
    fine = enlarge(coarse, IN_PLANE)
    assert fine.shape == (7, 40, 48)
    # Outer edges are kept: a centre at p is at 2 (p + 1/2) - 1/2 on the fine grid.
    expected = [f * (p + 0.5) - 0.5 for f, p in zip(IN_PLANE, place, strict=True)]
    assert ndimage.center_of_mass(fine) == pytest.approx(expected, abs=0.02)
    for z, plane in enumerate(coarse):
        alone = enlarge(plane[None], IN_PLANE)
        np.testing.assert_allclose(alone[0], fine[z], atol=1e-5)


def test_equal_factors_are_as_one_number() -> None:
    from pretraining.baselines import enlarge

    coarse = spot((6, 7, 8), (2.0, 3.0, 4.0))
    once = ndimage.zoom(coarse, 2, order=3, mode="nearest", grid_mode=True)
    np.testing.assert_array_equal(enlarge(coarse, (2, 2, 2)), once)
    assert enlarge(coarse, (1, 1, 1)) is coarse


def test_the_part_for_tuning_is_the_same_in_scan_and_truth() -> None:
    from pretraining.judging import _middle

    fine = np.random.default_rng(0).random((30, 180, 200), dtype=np.float32)
    coarse = fine.reshape(30, 90, 2, 100, 2).mean((2, 4))
    part, truth = _middle(coarse.shape, IN_PLANE)
    assert coarse[part].shape == (24, 80, 80)
    means = fine[truth].reshape(24, 80, 2, 80, 2).mean((2, 4))
    np.testing.assert_allclose(means, coarse[part], atol=1e-6)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("stabilised", [False, True])
def test_methods_give_the_grid_of_the_truth(planes: bool, stabilised: bool) -> None:
    """Position and intensity of light are preserved, with or without Anscombe's
    transform.
    """
    from pretraining.baselines import DENOISERS, enlarge
    from pretraining.judging import _filter
    from pretraining.testsets import SETS

    test = replace(SETS["fluo-sr-x2"][0], offset=1.0)
    light = 100 + 100 * gaussian_blur(spot((5, 16, 16), (2, 8, 8)), 1.0)
    found = _filter(test, DENOISERS[0], 0.5, planes, stabilised)(light)
    assert found.shape == (5, 32, 32)
    np.testing.assert_allclose(found, enlarge(light, IN_PLANE), rtol=0.05)


def test_pores_are_as_large_in_either_grid() -> None:
    """A scan with voxels that are wider only in the plane shows the true pores."""
    from pretraining.judging import figures
    from pretraining.testsets import TestSet

    fine = np.ones((12, 32, 32), np.float32)
    fine[2:8, 6:14, 10:18] = 0
    coarse = fine.reshape(12, 16, 2, 16, 2).mean((2, 4))
    scan = Scan(noisy=coarse, clean=fine, mask=fine < 0.5, contrast=1.0)
    test = TestSet("a block", lambda seed: scan, 0.1, factors=IN_PLANE)
    found = figures(scan.noisy, scan, test)
    assert found.pop("psnr") is None
    assert found.pop("dice") == 1
    assert set(found.values()) == {0.0}


def test_the_sets_for_fluorescence_are_twice_as_fine_in_the_plane() -> None:
    from pretraining.testsets import SETS, TUNING_SEED

    for test in SETS["fluo-sr-x2"]:
        assert test.factors == IN_PLANE
    *_, spots, _, single = SETS["fluo-sr-x2"]
    for test, depth in ((spots, 24), (single, 1)):
        made = test.scan(TUNING_SEED)
        assert made.noisy.shape == (depth, 64, 64)
        assert made.clean.shape == (depth, 128, 128)
        means = made.clean.reshape(depth, 64, 2, 64, 2).mean((2, 4))
        assert made.noisy.mean() == pytest.approx(means.mean(), rel=0.02)
