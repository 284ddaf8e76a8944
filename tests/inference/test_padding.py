"""Constant padding around a sample is found and kept, and is not a pore."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr import restore_with_uncertainty
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import scan_steps
from napari_geosr.inference.padding import padded_voxels, padding_value
from napari_geosr.inference.risk.evaluation import draw_blocks
from napari_geosr.inference.runner import restore_region, restore_tiles

GB = 1 << 30


@pytest.fixture
def outside():
    y, x = np.indices((48, 52)) - np.array([23.5, 25.5])[:, None, None]
    return np.broadcast_to(y**2 + x**2 > 23**2, (8, 48, 52))


@pytest.fixture
def scan(rng, outside):
    voxels = rng.normal(2000, 100, outside.shape).astype("uint16")
    voxels[:, 20:30, 20:30] = 0  # a clipped pore
    voxels[outside] = 0
    return voxels


def with_padding(array):
    return replace(run_to_end(scan_steps(array)), padding=padding_value(array))


def test_it_is_found_by_the_corners(scan, outside, rng):
    assert padding_value(scan) == 0.0
    assert padding_value(scan[3]) == 0.0
    assert padding_value(rng.normal(0, 1, (8, 48, 52))) is None
    other = scan.copy()
    other[-1, -1, -1] = 1
    assert padding_value(other) is None
    floating = np.where(outside, np.nan, 1.0)
    assert padding_value(floating) is None
    assert padding_value(scan[:, :10]) is None


def test_a_phase_in_all_corners_is_no_padding(outside):
    """In a segmented volume, every surface must be interpolated."""
    segmented = np.where(outside, 0, 200).astype("uint8")
    segmented[:, 20:30, 20:30] = 0
    assert padding_value(segmented) is None
    assert padding_value(segmented[3]) is None


def test_a_voxel_is_padded_whatever_box_is_read(scan, outside):
    whole = padded_voxels(scan, [slice(0, n) for n in scan.shape], 0.0)
    assert whole is not None
    assert whole[:, :5, :5].all()
    assert (scan[whole] == 0).all()
    # Other voxels are in slivers where the circle touches the edge of the slice.
    assert (outside & ~whole).sum() < 0.03 * outside.sum()
    rng = np.random.default_rng(1)
    for _ in range(40):
        starts = [rng.integers(0, n - 1) for n in scan.shape]
        box = [
            slice(s, int(rng.integers(s + 1, n + 1)))
            for s, n in zip(starts, scan.shape, strict=True)
        ]
        part = padded_voxels(scan, box, 0.0)
        expected = whole[tuple(box)]
        if part is None:
            assert not expected.any()
        else:
            np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_it_keeps_its_value_in_every_tiling(scan, outside, make_network, ndim):
    network, scale = make_network("conv", ndim=ndim), with_padding(scan)
    results = []
    for tile in ((8, 48, 52), (4, 16, 16)):
        target = np.full(scan.shape, 7, "float32")
        steps = restore_tiles(
            network, scan, target, statistics=scale, budget=GB, tile=tile
        )
        run_to_end(steps)
        results.append(target)
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-2)
    padded = padded_voxels(scan, [slice(0, n) for n in scan.shape], 0.0)
    assert (results[0][padded] == 0).all()
    assert np.abs(results[0][scan > 0]).min() > 0
    box = (slice(2, 5), slice(0, 20), slice(5, 30))
    part = restore_region(network, scan, box, statistics=scale, budget=GB)
    np.testing.assert_allclose(part, results[0][box], rtol=1e-5, atol=1e-2)
    # Without a padding value, the network fills its edge.
    steps = restore_tiles(
        network,
        scan,
        target,
        statistics=replace(scale, padding=None),
        budget=GB,
    )
    run_to_end(steps)
    assert np.abs(target[padded]).max() > 1
    np.testing.assert_allclose(target[~padded], results[0][~padded], rtol=1e-5)


def test_an_ensemble_keeps_its_value(scan, outside):
    """This applies to the mean and to the deviations."""
    volume = Volume(scan.astype("float32"), "ZYX")
    mean, deviation = restore_with_uncertainty(
        volume,
        "ct-denoise",
        uncertainty="ensemble",
        ensemble_with=("foam-denoise",),
        threads=1,
    )
    padded = padded_voxels(scan, [slice(0, n) for n in scan.shape], 0.0)
    assert (np.asarray(mean.data)[padded] == 0).all()
    assert (np.asarray(deviation.data)[padded] == 0).all()
    assert np.asarray(deviation.data)[~padded].max() > 0


def test_finer_voxels_of_it_keep_its_value(scan, make_network):
    network = make_network("shuffle", ndim=3)
    target = np.ones([2 * n for n in scan.shape], "float32")
    steps = restore_tiles(
        network, scan, target, statistics=with_padding(scan), budget=GB
    )
    run_to_end(steps)
    padded = padded_voxels(scan, [slice(0, n) for n in scan.shape], 0.0)
    fine = np.kron(padded, np.ones((2, 2, 2), bool))
    assert (target[fine] == 0).all()


def test_blocks_for_estimates_leave_it_out(scan):
    for block in draw_blocks(scan, shape=(8, 40, 40)):
        assert block.padded is not None
        assert not block.valid[block.padded[block.core]].any()
