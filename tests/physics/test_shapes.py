"""Simulated shapes: the same at any resolution, and with the requested defects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_geosr.physics.shapes import (
    DEFECTS,
    SOLIDS,
    coarsened,
    defect,
    sampled,
    skull,
    vault_direction,
)


@pytest.mark.parametrize("kind", SOLIDS)
def test_a_solid_is_the_same_at_another_resolution(kind: str) -> None:
    fine = sampled(SOLIDS[kind](np.random.default_rng(4)), (96, 96, 96))
    coarse = sampled(SOLIDS[kind](np.random.default_rng(4)), (48, 48, 48))
    assert 0.005 < fine.mean() < 0.95
    both = (coarsened(fine, 2) & coarse).sum()
    assert 2 * both / (coarsened(fine, 2).sum() + coarse.sum()) > 0.9


def test_slabs_are_parts_of_the_whole(monkeypatch) -> None:
    solid = skull(np.random.default_rng(0))
    whole = sampled(solid, (24, 32, 28))
    monkeypatch.setattr("napari_geosr.physics.shapes._AT_ONCE", 5 * 32 * 28)
    np.testing.assert_array_equal(sampled(solid, (24, 32, 28)), whole)


def test_a_skull_is_one_closed_vault() -> None:
    inside = sampled(skull(np.random.default_rng(1)), (96, 96, 96))
    _, n = ndi.label(inside)
    assert n <= 3
    assert 0.02 < inside.mean() < 0.1  # a shell
    # From the centre, every upward ray hits bone.
    for direction in np.random.default_rng(0).normal(size=(50, 3)):
        direction[0] = abs(direction[0]) + 0.5
        steps = np.outer(np.arange(48), direction / np.linalg.norm(direction))
        places = np.clip((47.5 + steps).astype(int), 0, 95)
        assert inside[tuple(places.T)].any()
    assert not inside[48, 48, 48]


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_removes_a_part_of_the_vault(kind: str) -> None:
    rng = np.random.default_rng(2)
    inside = sampled(skull(rng), (64, 64, 64))
    at = 0.7 * vault_direction(rng)
    hole = sampled(defect(rng, kind, at, 0.3), (64, 64, 64))
    removed = (inside & hole).sum() / inside.sum()
    assert 0.003 < removed < 0.35
    if kind == "bilateral":
        np.testing.assert_array_equal(hole, hole[:, :, ::-1])


def test_coarse_voxels_are_decided_by_their_volume() -> None:
    inside = np.zeros((4, 4, 5), bool)
    inside[0, :2, :2] = True  # 4 of 8
    inside[2, 2, 2] = True  # 1 of 8
    coarse = coarsened(inside, 2)
    assert coarse.shape == (2, 2, 2)
    assert coarse.sum() == 1
    assert coarse[0, 0, 0]
    assert coarsened(inside, 2, threshold=0.1).sum() == 2
    rng = np.random.default_rng(0)
    assert coarsened(inside, 2, rng, noise=3.0).sum() > 1
