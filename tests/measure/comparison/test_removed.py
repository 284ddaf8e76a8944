"""The removed part is compared with the noise of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.measure.comparison.removed import ScanBlock, describe, smoothed_spread
from napari_geosr.physics.correlated_noise import noise_of_scan
from napari_geosr.physics.noise import reconstruction_noise

SHAPE = (12, 64, 64)


def scene(seed: int = 0) -> np.ndarray:
    """Dark spheres with soft edges in a bright solid, contrast 100."""
    rng = np.random.default_rng(seed)
    grid = np.indices(SHAPE)
    data = np.full(SHAPE, 100.0)
    for _ in range(12):
        centre = rng.uniform((0, 0, 0), SHAPE)[:, None, None, None]
        data[np.square(grid - centre).sum(axis=0) < rng.uniform(3, 8) ** 2] = 0
    return ndimage.gaussian_filter(data, 0.8)


def noise_of(level: float, rho: float = 0.0) -> Noise:
    return Noise(
        level,
        100.0,
        correlation={"z": rho, "y": rho, "x": rho},
        interval=(0.9 * level, 1.1 * level),
    )


def piece(scan: np.ndarray, result: np.ndarray) -> ScanBlock:
    return ScanBlock(scan, result, np.ones(scan.shape, bool))


@given(st.floats(1.0, 60.0), st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_noise_that_was_removed_alone_is_taken_for_noise(level, seed):
    truth = scene()
    rng = np.random.default_rng(seed)
    scan = truth + rng.normal(0, level, SHAPE)
    found = describe([piece(scan, truth)], noise_of(level))
    assert found.level == pytest.approx(1, abs=0.03)
    assert found.change == pytest.approx(level / 100, rel=0.03)
    assert abs(found.coarser) < 0.05
    assert abs(found.follows) < 0.05
    assert not found.has_places


def noises() -> st.SearchStrategy[Noise]:
    """Any measurable noise: white, correlated, of a reconstruction, or mixed; constant
    or increasing with the grey value.
    """

    def made(level, dark, white, rest, cutoff):
        return Noise(
            level,
            100.0,
            greys=(0.0, 100.0),
            levels=(dark * level, level),
            correlation={
                axis: (1 - white) * rho for axis, rho in zip("zyx", rest, strict=True)
            },
            white=white,
            cutoff=cutoff,
            interval=(0.9 * level, 1.1 * level),
        )

    rhos = st.tuples(*[st.floats(0.0, 0.8)] * 3)
    return st.builds(
        made,
        level=st.floats(1.0, 60.0),
        dark=st.sampled_from([0.1, 0.3, 1.0]),
        white=st.floats(0.0, 1.0),
        rest=rhos,
        cutoff=st.none() | st.floats(0.4, 2.4),
    )


@given(noises(), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_noise_of_any_spectrum_is_no_structure(noise, seed):
    """Fewer than one in a hundred draws of pure noise exceeds the limit."""
    truth = scene()
    rng = np.random.default_rng(seed)
    scan = truth + noise.at(truth) * noise_of_scan(noise, SHAPE, rng)
    found = describe([piece(scan, truth)], noise)
    assert found.level == pytest.approx(1, abs=0.25)
    assert not found.has_places


@given(st.floats(0.1, 0.7), st.floats(0.0, 1.0), st.integers(0, 20))
@settings(max_examples=12, deadline=None)
def test_partly_correlated_noise_is_no_structure(rho, white, seed):
    """White noise after a Gaussian of width s has a correlation of exp(-1 / 4 s²)."""
    width = np.sqrt(-1 / (4 * np.log(rho)))
    rng = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(rng.standard_normal(SHAPE), width)
    noise = np.sqrt(1 - white) * blurred / blurred.std()
    noise += np.sqrt(white) * rng.standard_normal(SHAPE)
    truth = scene()
    known = replace(noise_of(20.0, (1 - white) * rho), white=white)
    found = describe([piece(truth + 20 * noise, truth)], known)
    assert abs(found.coarser) < 0.15
    assert not found.has_places


@pytest.mark.parametrize("level", [2.0, 10.0, 20.0])
def test_a_pore_that_was_removed_with_the_noise_stands_out(level):
    truth = scene()
    rng = np.random.default_rng(1)
    grid = np.indices(SHAPE)
    centre = np.array((6, 32, 32))[:, None, None, None]
    with_pore = np.where(np.square(grid - centre).sum(axis=0) <= 6, 0, truth)
    scan = with_pore + rng.normal(0, level, SHAPE)
    found = describe([piece(scan, truth)], noise_of(level))
    assert found.has_places
    assert not describe([piece(scan, with_pore)], noise_of(level)).has_places


def test_edges_that_were_smoothed_show():
    truth = scene()
    rng = np.random.default_rng(2)
    scan = truth + rng.normal(0, 5, SHAPE)
    found = describe([piece(scan, ndimage.gaussian_filter(truth, 2))], noise_of(5.0))
    assert found.level > 1.5
    assert found.coarser > 0.3
    assert found.follows > 0.2


def test_where_there_is_no_noise_every_change_counts():
    truth = scene()
    none = Noise(0.0, 100.0, interval=(0.0, 0.5))
    same = describe([piece(truth, truth)], none)
    assert (same.change, same.level, same.strongest) == (0, 0, 0)
    changed = describe([piece(truth, ndimage.gaussian_filter(truth, 1))], none)
    assert changed.change > 0.02
    assert changed.level > 2


def test_voxels_that_do_not_count_change_nothing():
    truth = scene()
    scan = truth + np.random.default_rng(3).normal(0, 10, SHAPE)
    valid = np.ones(SHAPE, bool)
    valid[:, :8] = False
    spoilt = np.where(valid, scan, 1e4)
    found = describe([ScanBlock(spoilt, truth, valid)], noise_of(10.0))
    assert found.level == pytest.approx(1, abs=0.03)


def smoothed_and_known(unit: np.ndarray, noise: Noise) -> tuple[float, float]:
    measured = ndimage.gaussian_filter(unit / unit.std(), 1.2, truncate=3.0)
    return float(measured[4:-4, 4:-4, 4:-4].std()), smoothed_spread(noise, 3)


@pytest.mark.parametrize("white", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("width", [0.0, 0.5, 0.7, 1.0])
def test_the_spread_of_smoothed_noise_is_known(width, white):
    rng = np.random.default_rng(4)
    rest = rng.standard_normal((40, 96, 96))
    rest = ndimage.gaussian_filter(rest, width) if width else rest
    rest *= np.sqrt(1 - white) / rest.std()
    rho = float((rest[1:] * rest[:-1]).mean())
    unit = rest + np.sqrt(white) * rng.standard_normal(rest.shape)
    noise = replace(noise_of(1.0, rho), white=white)
    measured, known = smoothed_and_known(unit, noise)
    assert known == pytest.approx(measured, rel=0.04)


@pytest.mark.parametrize("cutoff", [0.65, 1.0, 1.6])
def test_the_spread_of_smoothed_noise_of_a_reconstruction_is_known(cutoff):
    rng = np.random.default_rng(5)
    unit = reconstruction_noise((48, 128, 128), 1.0, rng, cutoff=cutoff)
    noise = replace(noise_of(1.0), cutoff=cutoff)
    measured, known = smoothed_and_known(unit, noise)
    assert known == pytest.approx(measured, rel=0.03)


def test_images_are_judged_as_volumes_are():
    truth = scene()[6]
    scan = truth + np.random.default_rng(5).normal(0, 10, truth.shape)
    found = describe([piece(scan, truth)], noise_of(10.0))
    assert set(found.correlation) == {"y", "x"}
    assert found.level == pytest.approx(1, abs=0.06)
    assert not found.has_places
