"""Cracks, walls and fibres of a scan that fade in a result are found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_geosr.inference.risk.probes import noise_like
from napari_geosr.operations.restore.verdict.compared_block import ComparedBlock
from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest
from napari_geosr.operations.restore.verdict.pore_findings import faded_structures
from napari_geosr.operations.restore.verdict.thin_structures import (
    ThinStructures,
    thin_structures,
)

SHAPES = {2: (112, 128), 3: (16, 60, 64)}


def crack(ndim, kept=1.0, seed=3):
    """A grey value of 1, with a slightly bent crack through the middle."""
    shape = SHAPES[ndim]
    rng = np.random.default_rng(seed)
    places = np.indices(shape).astype(float)
    normal = rng.normal(size=ndim)
    normal /= np.linalg.norm(normal)
    middle = np.array(shape).reshape(-1, *(1,) * ndim) / 2
    distance = np.tensordot(normal, places - middle, 1) + np.sin(places[-1] / 20)
    return 1 - kept * ndimage.gaussian_filter(1.0 * (np.abs(distance) < 0.8), 0.6)


def block(clean, result, level=0.25, correlation=None, seed=0):
    rng = np.random.default_rng(seed)
    unit, noise = (noise_like(clean.shape, correlation or {}, rng) for _ in range(2))
    return ComparedBlock(
        clean + level * noise,
        result,
        np.ones(clean.shape, bool),
        unit,
        np.full(clean.shape, level),
    )


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_the_contrast_of_a_crack_is_measured(ndim, seed, kept):
    pair = block(crack(ndim, seed=seed), crack(ndim, kept, seed))
    dark, bright = thin_structures([pair])
    assert dark.voxels > 100
    assert dark.kept == pytest.approx(kept, abs=0.08)
    assert bright == ThinStructures(0, pytest.approx(math.nan, nan_ok=True))


@pytest.mark.parametrize("ndim", [2, 3])
def test_walls_are_bright_cracks(ndim):
    dark, bright = thin_structures([block(-crack(ndim), -crack(ndim, 0.5))])
    assert dark.voxels == 0
    assert bright.kept == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_noise_and_edges_show_no_thin_structures(ndim, correlation):
    """Neither do pores wider than a plate is distant from its neighbours."""
    shape = SHAPES[ndim]
    clean = np.ones(shape)
    clean[..., :30] = 0
    centre = np.array([n // 2 for n in shape]).reshape(-1, *(1,) * ndim)
    clean[np.linalg.norm(np.indices(shape) - centre, axis=0) < 7] = 0
    clean = ndimage.gaussian_filter(clean, 0.7)
    own = dict.fromkeys("zyx"[-ndim:], correlation)
    for seed in range(3):
        pair = block(clean, clean, correlation=own, seed=seed)
        assert [each.voxels for each in thin_structures([pair])] == [0, 0]


@settings(max_examples=5, deadline=None)
@given(st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_units_of_grey_values_do_not_matter(unit, offset):
    pair = block(crack(2), crack(2, 0.5))
    other = replace(
        pair,
        scan=unit * pair.scan + unit * offset,
        result=unit * pair.result + unit * offset,
        level=unit * pair.level,
    )
    first, second = (thin_structures([each])[0] for each in (pair, other))
    assert second.voxels == pytest.approx(first.voxels, rel=0.02)
    assert second.kept == pytest.approx(first.kept, abs=0.02)


def test_only_the_sample_is_examined():
    """Padding next to a sample is no crack, whatever its grey value."""
    clean = np.ones(SHAPES[3])
    clean[:, 40:42] = 0
    pair = block(clean, np.ones_like(clean))
    inside = np.ones(clean.shape, bool)
    inside[:, 35:47] = False
    assert thin_structures([pair])[0].voxels
    assert thin_structures([replace(pair, inside=inside)])[0].voxels == 0


def test_a_slice_of_a_volume_is_an_image():
    flat = block(crack(2), crack(2, 0.5))
    names = ("scan", "result", "inside", "noise", "level")
    slices = ComparedBlock(**{name: getattr(flat, name)[None] for name in names})
    assert thin_structures([slices]) == thin_structures([flat])


def test_fading_is_reported_in_words():
    test = KnownBlockTest(0.0, (), (), thin=(ThinStructures(900, 0.444),))
    (sentence,) = faded_structures("nlm", test)
    assert "cracks" in sentence
    assert "44 %" in sentence
    clear = replace(test, thin=(ThinStructures(900, 0.7), ThinStructures(0, math.nan)))
    assert not list(faded_structures("nlm", clear))
