"""Dentin: tubules with known paths, and their images in various instruments."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.measure.graph import network_graph
from napari_geosr.physics import fluorescence, scans
from napari_geosr.physics.fluorescence import Microscope
from napari_geosr.physics.sampling import (
    centre_samples,
    kept_samples,
    shift_half_voxel,
)
from napari_geosr.physics.specimens.dentin import AUTOFLUORESCENCE, CUFF_DENSITY, dentin

SHAPE = (80, 120, 120)


def test_tubules_fill_what_was_asked_for_and_run_through() -> None:
    made = dentin(SHAPE, porosity=0.12, seed=3, branching=0)
    assert made.branches == []
    assert made.phantom.porosity == pytest.approx(0.12, rel=0.25)
    assert made.radii.min() >= 2.5 * 0.8
    assert made.radii.max() <= 7.5
    graph = network_graph(made.phantom.mask, (0.2,) * 3, unit="µm")
    # Every tubule is a separate part that connects two faces.
    middle = [path[len(path) // 2, 1:] for path in made.tubules]
    inside = [((p > 6) & (p < np.array(SHAPE[1:]) - 6)).all() for p in middle]
    assert graph.crossing(0) >= sum(inside) > 8
    assert graph.loops == 0
    density = graph.tubules_per_mm2(0)
    assert density is not None
    assert 15_000 < density < 60_000


def test_branches_join_the_tubules_that_they_say() -> None:
    made = dentin((100, 120, 120), porosity=0.1, radius=(3.0, 4.0), seed=1)
    assert len(made.joins) == len(made.branches) > 20
    for path, (first, second) in zip(made.branches, made.joins, strict=True):
        for point, tubule in ((path[0], first), (path[-1], second)):
            if tubule < 0:
                continue
            line = made.tubules[tubule]
            at = [np.interp(point[0], line[:, 0], line[:, i]) for i in (1, 2)]
            assert math.dist(at, point[1:]) < 1e-6
    assert (made.joins[:, 1] < 0).any()
    assert made.branch_radii.max() < made.radii.min()


def test_blocks_are_parts_of_the_whole() -> None:
    made = dentin((40, 60, 60), seed=5)
    whole = made.block(0, 40)
    for start, stop in ((0, 7), (7, 23), (23, 40)):
        assert np.abs(made.block(start, stop) - whole[start:stop]).max() < 1e-5
        parts = made.density(start, stop), made.density(0, 40)[start:stop]
        assert np.abs(parts[0] - parts[1]).max() < 1e-5


def test_a_microscope_sees_bright_tubules_with_dark_cuffs() -> None:
    made = dentin(SHAPE, seed=0, branching=0)
    cuffs, light = made.cuffs(0, SHAPE[0]), made.light
    mask = made.phantom.mask
    assert light[made.block(0, SHAPE[0]) == 1].min() == 1
    assert light[cuffs == 1].max() == 0
    assert np.median(light[~mask & (cuffs == 0)]) == pytest.approx(AUTOFLUORESCENCE)
    assert 0.02 < cuffs.mean() < 0.4


def test_a_ct_sees_dark_tubules_with_bright_cuffs() -> None:
    made = dentin(SHAPE, seed=0, branching=0)
    imaging = scans.Imaging(noise=0.0, noise_kind="independent", blur=0.0)
    scan = scans.scan(made.phantom, imaging, solid=1.0, pore=0.0, texture=made.texture)
    cuffs = made.cuffs(0, SHAPE[0])
    assert scan.clean[cuffs == 1].mean() == pytest.approx(1 + CUFF_DENSITY)
    assert scan.clean[made.block(0, SHAPE[0]) == 1].max() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"porosity": 0.6}, "is at most 0.35"),
        ({"radius": (3.0, 2.0)}, "ascending order"),
    ],
)
def test_what_cannot_be_made_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dentin(SHAPE, seed=0, **settings)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_samples_are_taken_at_the_centres_of_blocks(factor: int) -> None:
    n = 12 * factor
    ramp = np.arange(n, dtype=np.float32)[:, None] * np.ones((1, n), np.float32)
    found = centre_samples(ramp, (factor, 1))
    expected = np.arange(12) * factor + (factor - 1) / 2
    assert np.allclose(found[1:-1, 0], expected[1:-1], atol=1e-4)
    assert found.shape == (12, n)
    assert kept_samples(ramp, (factor, 1))[0, 0] == factor // 2


def test_half_a_voxel_on_twice_is_one_voxel_on() -> None:
    rng = np.random.default_rng(0)
    at = np.linspace(0, 4 * np.pi, 64, dtype=np.float32)
    wave = np.sin(at) + np.float32(0.01 * rng.random())
    again = shift_half_voxel(shift_half_voxel(wave, (0,)), (0,))
    assert np.abs(again[2:-4] - wave[3:-3]).max() < 2e-3


def test_a_coarse_scan_has_the_blur_and_the_photons_of_a_fine_one() -> None:
    """Fewer positions with the same dwell time: the noise is that of a fine voxel."""
    light = np.full((16, 64, 64), 0.5, np.float32)
    light[8, 32, 32] = 0.6
    microscope = Microscope(blur=1.0, elongation=2.0, step=1.0, photons=50.0)
    rng = np.random.default_rng(0)
    coarse = fluorescence.scan_coarsely(light, microscope, rng, (2, 2, 2))
    fine = fluorescence.expose(light, microscope, rng).noisy
    assert coarse.shape == (8, 32, 32)
    assert coarse.mean() == pytest.approx(fine.mean(), rel=0.01)
    assert coarse.std() == pytest.approx(fine.std(), rel=0.05)
