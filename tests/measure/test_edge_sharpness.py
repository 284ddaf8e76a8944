"""The sharpness of a scan does not depend on its noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from test_morphometry import field

from napari_geosr.core.noise import Noise
from napari_geosr.measure.resolution.edge_sharpness import edge_sharpness
from napari_geosr.physics.correlated_noise import noise_of_scan


@pytest.fixture(scope="module")
def phases() -> np.ndarray:
    return (field((40, 44, 48), 4.0) > 0).astype(np.float32)


def test_blur_makes_it_smaller(phases):
    found = [
        edge_sharpness([ndimage.gaussian_filter(phases, s) if s else phases])
        for s in (0, 0.5, 1, 2)
    ]
    assert found == sorted(found, reverse=True)
    assert 0.45 < found[0] < 0.56
    assert 0.25 < found[-1] < 0.3


@pytest.mark.parametrize(
    "noise",
    [
        Noise(0.06, 1.0),
        Noise(0.06, 1.0, correlation={"z": 0.5, "y": 0.3, "x": 0.1}),
        Noise(0.06, 1.0, correlation={"z": 0.3, "y": 0.42, "x": 0.42}, cutoff=1.0),
        Noise(0.06, 1.0, greys=(0.0, 1.0), levels=(0.03, 0.08)),
    ],
    ids=["white", "blurred", "reconstructed", "by grey value"],
)
def test_noise_is_subtracted(phases, noise):
    scan = ndimage.gaussian_filter(phases, 0.8)
    drawn = noise_of_scan(noise, scan.shape, np.random.default_rng(0))
    noisy = scan + (noise.at(scan) * drawn).astype(np.float32)
    clean = edge_sharpness([scan])
    assert edge_sharpness([noisy], noise) == pytest.approx(clean, abs=0.03)
    assert abs(edge_sharpness([noisy]) - clean) > 0.03


def test_only_noise_has_no_sharpness():
    noise = np.random.default_rng(0).normal(0, 1, (24, 24, 24)).astype(np.float32)
    assert edge_sharpness([noise], Noise(1.0, 1.0)) is None
    assert edge_sharpness([], Noise(1.0, 1.0)) is None


def test_parts_and_slices(phases):
    scan = ndimage.gaussian_filter(phases, 0.7)
    whole = edge_sharpness([scan])
    parts = edge_sharpness([scan[:20], scan[20:]])
    assert parts == pytest.approx(whole, abs=0.01)
    assert edge_sharpness(list(scan)) == pytest.approx(whole, abs=0.02)
    assert edge_sharpness([scan[:1]]) == pytest.approx(whole, abs=0.05)
