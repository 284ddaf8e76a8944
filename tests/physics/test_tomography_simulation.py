"""Simulated scans contain exactly what was put in, including artefacts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import BlockDone, run_to_end
from napari_geosr.physics import tomography_simulation
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import random_blobs, sphere_foam
from napari_geosr.physics.tomography_simulation import (
    cylinder_sample,
    scan_steps,
    simulate_scan,
)


@pytest.fixture(scope="module")
def disc():
    """A centred disc of radius 20, for which every line integral is known."""
    axis = np.arange(48) - 23.5
    distance = np.hypot(axis[:, None], axis[None, :])
    return np.clip(20.5 - distance, 0, 1)[None].repeat(2, 0).astype(np.float32)


def scan(volume, **settings):
    config = {"projections": 24, "noise": False, "gain": 0.0} | settings
    return simulate_scan(volume, ScanConfig(**config))


def lines(projections):
    flat = np.asarray(projections.flats, np.float64).mean(0)
    dark = np.asarray(projections.darks, np.float64).mean(0)
    return -np.log((np.asarray(projections.data) - dark) / (flat - dark))


def test_a_sample_has_its_exact_porosity():
    phantom = random_blobs((6, 64, 64), porosity=0.3, radius=3, seed=2)
    sample = cylinder_sample(phantom)
    of_pores = phantom.fraction[sample.inside]
    assert sample.porosity == pytest.approx(of_pores.mean(), abs=1e-6)
    assert sample.porosity == pytest.approx(
        1 - sample.attenuation[sample.inside].mean(dtype=float), abs=1e-6
    )
    assert sample.porosity_at_half == sample.pores.sum() / sample.inside.sum()
    assert sample.porosity == pytest.approx(0.3, abs=0.04)
    assert not sample.attenuation[:, 0].any()
    solid = sample.inside & (phantom.fraction == 0)
    np.testing.assert_array_equal(sample.attenuation[solid], 1)
    assert not sample.attenuation[sample.inside & (phantom.fraction == 1)].any()


def test_a_sample_needs_square_slices():
    with pytest.raises(ConfigError, match="square slices of at least 8 voxels"):
        cylinder_sample(sphere_foam((4, 16, 20), radius=(2, 4)))
    with pytest.raises(ConfigError, match=r"square slices \(Z, N, N\), not"):
        simulate_scan(np.ones((4, 5)))
    with pytest.raises(ConfigError, match="does not attenuate"):
        simulate_scan(np.zeros((2, 16, 16)))


@pytest.mark.parametrize("offset", [0.0, 4.25])
def test_a_disc_has_the_line_integrals_of_a_disc(disc, offset):
    projections = scan(disc, centre_offset=offset, absorption=2.0)
    assert projections.n_rows == 2
    found = lines(projections)
    centre = projections.provenance[0]["truth"]["centre"]
    assert centre == (projections.n_columns - 1) / 2 + offset
    t = np.arange(projections.n_columns) - centre
    chord = 2 * np.sqrt(np.maximum(20.0**2 - t**2, 0)) / 40 * 2.0
    inner = np.abs(t) < 18
    known = np.broadcast_to(chord[inner], found[:, :, inner].shape)
    np.testing.assert_allclose(found[:, :, inner], known, rtol=0.03)
    np.testing.assert_allclose(found[:, :, np.abs(t) > 22], 0, atol=1e-4)
    assert projections.angles.tolist() == [7.5 * i for i in range(24)]


def test_photons_are_poisson_distributed(disc):
    projections = scan(
        disc, noise=True, photons=400, projections=400, read_noise=0, dark=50, flats=200
    )
    assert projections.data.dtype == np.uint16
    counts = np.asarray(projections.data, np.float64) - 50
    # The disc looks the same under all angles.
    mean, variance = counts.mean(axis=0), counts.var(axis=0)
    assert variance.mean() == pytest.approx(mean.mean(), rel=0.05)
    assert np.asarray(projections.flats).mean() == pytest.approx(450, rel=0.005)
    assert (np.asarray(projections.darks) == 50).all()
    assert scan(disc, noise=True, photons=1e5).data.dtype == np.uint32


def test_the_same_seed_gives_the_same_scan_in_blocks_of_any_size(disc, monkeypatch):
    settings = {"noise": True, "zingers": 0.01, "rings": 0.02, "sub_angles": 2}
    whole = scan(disc, **settings)
    other = scan(disc, **settings, seed=1)
    monkeypatch.setattr(tomography_simulation, "_BLOCK_BYTES", 1)
    blocks = scan(disc, **settings)
    np.testing.assert_array_equal(whole.data, blocks.data)
    np.testing.assert_array_equal(whole.flats, blocks.flats)
    assert (whole.data != other.data).mean() > 0.5


def test_rings_stay_in_their_column_and_flats_do_not_know_them(disc):
    clean = lines(scan(disc))
    found = lines(scan(disc, rings=0.02)) - clean
    np.testing.assert_allclose(found, found[:1].repeat(24, 0), atol=1e-5)
    assert found[0].std() == pytest.approx(0.02, rel=0.3)
    corrected = lines(scan(disc, gain=0.05))
    np.testing.assert_allclose(corrected, clean, atol=1e-4)


def test_dead_columns_and_zingers(disc):
    dead = scan(disc, dead_columns=0.1, dark=7)
    columns = (np.asarray(dead.data) == 7).all(axis=(0, 1))
    assert 1 <= columns.sum() <= 15
    quiet = scan(disc, noise=True, photons=1000)
    flashes = scan(disc, noise=True, photons=1000, zingers=0.01)
    hit = np.asarray(flashes.data, int) - np.asarray(quiet.data, int) > 1000
    assert hit.mean() == pytest.approx(0.01, rel=0.3)
    np.testing.assert_array_equal(flashes.flats, quiet.flats)


def test_continuous_rotation_blurs_what_is_far_from_the_axis():
    volume = np.zeros((1, 48, 48), np.float32)
    volume[0, 23:25, 23:25] = 1
    volume[0, 23:25, 43:45] = 1
    still = lines(scan(volume, projections=12, absorption=0.1))[3]
    moving = lines(scan(volume, projections=12, absorption=0.1, sub_angles=9))[3]
    assert moving.sum() == pytest.approx(still.sum(), rel=0.05)
    centre = (still.shape[-1] - 1) / 2
    near = np.abs(np.arange(still.shape[-1]) - centre) < 3
    assert moving[:, near].max() > 0.9 * moving.max()

    def spread(row):
        t = np.arange(len(row))
        mean = (row * t).sum() / row.sum()
        return np.sqrt((row * (t - mean) ** 2).sum() / row.sum())

    one = np.zeros_like(volume)
    one[0, 43:45, 23:25] = 1
    # At 45 degrees and 20 voxels from the axis, 15 degrees are 5 voxels.
    still = lines(scan(one, projections=12, absorption=0.1))[3, 0]
    moving = lines(scan(one, projections=12, absorption=0.1, sub_angles=9))[3, 0]
    assert spread(moving) > spread(still) + 0.4


def test_blur_keeps_the_light(disc):
    sharp, soft = scan(disc, dark=0), scan(disc, dark=0, blur=1.5)
    assert np.asarray(soft.data).sum() == pytest.approx(
        np.asarray(sharp.data).sum(), rel=1e-3
    )
    steps = [np.abs(np.diff(np.asarray(s.data), axis=2)).max() for s in (sharp, soft)]
    assert steps[1] < 0.7 * steps[0]


def test_a_scan_can_be_stopped_and_reports_its_blocks(disc, monkeypatch):
    monkeypatch.setattr(tomography_simulation, "_BLOCK_BYTES", 6 * 2 * 56 * 4)
    config = ScanConfig(projections=24)
    steps = []
    made = run_to_end(scan_steps(disc, config), steps.append)
    assert [s.done for s in steps if isinstance(s, BlockDone)] == [6, 12, 18, 24]
    assert made.n_angles == 24
    with pytest.raises(Cancelled):
        list(scan_steps(disc, config, should_stop=lambda: True))


def test_the_truth_is_kept(disc):
    projections = simulate_scan(disc, ScanConfig(seed=4), truth={"porosity": 0.25})
    record = projections.provenance[0]
    assert record["operation"] == "simulate"
    assert record["settings"]["seed"] == 4
    assert record["truth"]["porosity"] == 0.25
    assert record["truth"]["attenuation_scale"] > 0
