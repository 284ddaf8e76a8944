"""Small objects of a scan that fade in a result are counted, whatever else it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.operations.restore.verdict.compared_block import ComparedBlock
from napari_geosr.operations.restore.verdict.known_block_test import (
    KnownBlockTest,
    count_limits,
)
from napari_geosr.operations.restore.verdict.pore_findings import (
    lost_small_pores,
    partly_faded,
)
from napari_geosr.operations.restore.verdict.small_objects import (
    SmallObjects,
    small_objects,
)
from napari_geosr.operations.restore.verdict.thin_structures import thin_structures

SHAPES = {2: (96, 112), 3: (16, 80, 80)}
#: Radius of the objects, in voxels, and their distance.
RADIUS, PITCH = 2.0, 16


def pores(ndim, depth=1.0):
    """A grid of balls that are `depth` darker than their surroundings."""
    shape = SHAPES[ndim]
    places = np.indices(shape) % PITCH - PITCH / 2 + 0.5
    if ndim == 3:
        places[0] = np.indices(shape)[0] - 8.5
    balls = np.linalg.norm(places, axis=0) <= RADIUS
    return -depth * ndimage.gaussian_filter(balls.astype(float), 0.6)


def block(clean, result, level=0.15, correlation=None, seed=0):
    rng = np.random.default_rng(seed)
    unit, noise = (noise_like(clean.shape, correlation or {}, rng) for _ in range(2))
    return ComparedBlock(
        clean + level * noise,
        result,
        np.ones(clean.shape, bool),
        unit,
        np.full(clean.shape, level),
    )


def totals(objects):
    return sum(one.seen for one in objects), sum(one.kept for one in objects)


@pytest.mark.parametrize("ndim", [2, 3])
def test_objects_are_counted_by_size_and_kept_or_not(ndim):
    clean = pores(ndim)
    number = ndimage.label(clean < -0.5)[1]
    assert number >= 16
    dark, bright = small_objects([block(clean, clean)])
    assert totals(dark) == (pytest.approx(number, abs=2), totals(dark)[0])
    assert totals(bright) == (0, 0)
    volume = 4 / 3 * np.pi * RADIUS**3 if ndim == 3 else np.pi * RADIUS**2
    commonest = max(dark, key=lambda one: one.seen)
    assert 0.45 * volume < commonest.voxels < 1.6 * volume
    faded, _ = small_objects([block(clean, pores(ndim, 0.4))])
    assert totals(faded) == (totals(dark)[0], 0)


@pytest.mark.parametrize("ndim", [2, 3])
def test_grains_are_bright_objects(ndim):
    dark, bright = small_objects([block(-pores(ndim), -pores(ndim))])
    assert totals(dark) == (0, 0)
    assert totals(bright)[1] >= 12


def test_metal_hides_no_pores():
    """A third phase that is ten times as far away changes nothing elsewhere."""
    clean = pores(3)
    clean[:, :24] = 10
    dark, _ = small_objects([block(clean, pores(3, 0.3))])
    assert totals(dark)[0] >= 10
    assert totals(dark)[1] == 0


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_noise_edges_cracks_and_fibres_are_no_objects(ndim, correlation):
    shape = SHAPES[ndim]
    clean = np.zeros(shape)
    clean[..., :20] = 1
    clean[..., 36:38] = -1
    fibre = (..., slice(58, 61)) if ndim == 2 else (slice(6, 9), ..., slice(58, 61))
    clean[fibre] = 1
    clean = ndimage.gaussian_filter(clean, 0.7)
    own = dict.fromkeys("zyx"[-ndim:], correlation)
    for seed in range(3):
        for kind in small_objects([block(clean, clean, 0.2, own, seed)]):
            assert totals(kind)[0] <= 1


def test_hot_voxels_are_no_objects():
    """A model that removes them loses no structure."""
    clean = np.zeros(SHAPES[3])
    pair = block(clean, clean)
    scan = pair.scan.copy()
    scan[np.random.default_rng(0).random(scan.shape) < 1e-3] = 10
    for kind in small_objects([replace(pair, scan=scan)]):
        assert totals(kind) == (0, 0)


@settings(max_examples=5, deadline=None)
@given(st.floats(1e-3, 1e4), st.floats(-1e3, 1e3))
def test_units_of_grey_values_do_not_matter(unit, offset):
    pair = block(pores(2), pores(2, 0.4))
    other = replace(
        pair,
        scan=unit * (pair.scan + offset),
        result=unit * (pair.result + offset),
        level=unit * pair.level,
    )
    first, second = (totals(small_objects([one])[0]) for one in (pair, other))
    assert second == pytest.approx(first, abs=1)


def test_only_the_sample_is_examined():
    pair = block(pores(3), pores(3))
    inside = np.ones(SHAPES[3], bool)
    inside[:, :, 32:] = False
    part, all_of_it = (
        totals(small_objects([one])[0])[0]
        for one in (replace(pair, inside=inside), pair)
    )
    assert 0 < part < all_of_it


def test_fading_is_reported_in_words_and_limits_counts():
    seen = (SmallObjects(17, 12, 1), SmallObjects(34, 5, 5), SmallObjects(65, 9, 9))
    dark = KnownBlockTest(0.0, (), (), objects_by_size=seen[:2])
    (sentence,) = lost_small_pores("nlm", dark)
    assert "of 17 in the examined part, 6 keep" in sentence
    assert dark.limit == 34
    assert dark.is_from_scan
    (limit,) = count_limits(dark)
    assert "pores of up to 34 voxels in the result" in limit.sentence
    clear = replace(dark, objects_by_size=seen)
    assert not list(lost_small_pores("nlm", clear))
    grains = KnownBlockTest(0.0, (), (), are_bright=True, objects_by_size=seen[:2])
    (sentence,) = lost_small_pores("nlm", KnownBlockTest(0.0, (), (), other=grains))
    assert "bright" in sentence


@pytest.mark.parametrize(
    ("kept", "says"), [((2, 14, 5), True), ((16, 26, 5), False), ((0, 0, 0), False)]
)
def test_objects_of_which_some_fade_are_reported_without_a_caution(kept, says):
    """If most fade (the last case), the caution says so."""
    sizes = zip((9, 17, 34), (17, 26, 5), kept, strict=True)
    seen = tuple(SmallObjects(*each, is_certain=each[0] > 9) for each in sizes)
    test = KnownBlockTest(0.0, (), (), objects_by_size=seen)
    sentence = partly_faded(test)
    assert bool(sentence) == says
    if says:
        assert "of 43 with about 9 to 17 voxels" in sentence
        assert "16 keep most of their contrast" in sentence
        assert not list(lost_small_pores("ct-denoise", test))


def test_the_smallest_objects_may_be_hot_voxels_and_cause_no_caution():
    smallest, next_one = (
        SmallObjects(9, 30, 0, is_certain=False),
        SmallObjects(17, 2, 2),
    )
    test = KnownBlockTest(0.0, (), (), objects_by_size=(smallest, next_one))
    assert not list(lost_small_pores("ct-denoise", test))
    assert test.limit is None
    assert partly_faded(test)


@pytest.mark.parametrize("compare", [small_objects, thin_structures])
def test_a_scan_without_noise_in_dark_regions_is_compared(compare):
    scan = 1000.0 * (1 + pores(2))
    noisy = block(scan, scan, level=30.0)
    partly = replace(noisy, level=np.where(scan > 500, 30.0, 0.0))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        compare([partly])
