"""Texture that was mistaken for noise is not removed by super-resolution."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.operations.restore.upscaling.doubtful_noise import undoubted_noise


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_independent_part_is_close_to_the_noise_that_was_added(shared_data, level):
    """Cement has texture throughout."""
    path = shared_data / "ct_volumes" / "cement_128x128x128.tif"
    cement = tifffile.imread(path).astype(np.float32)
    low, high = np.percentile(cement, (2, 98))
    coarse = ((cement - low) / (high - low)).reshape(32, 4, 32, 4, 32, 4)
    scan = coarse.mean((1, 3, 5))
    scan += level * np.random.default_rng(0).standard_normal(scan.shape)
    measured = estimate_noise(Volume(scan.astype(np.float32), "ZYX"))
    assert measured.interval[0] == 0
    assert max(measured.correlation.values()) > 0.1
    found = undoubted_noise(measured)
    assert found.level == pytest.approx(level, rel=0.2)
    assert measured.level > 1.3 * level
    assert found.doubts == measured.doubts
    assert undoubted_noise(found) == found


def test_noise_that_is_certain_or_independent_stays_as_it_is():
    for noise in (
        Noise(0.2, 1.0, correlation={"x": 0.5}, interval=(0.1, 0.3)),
        Noise(0.2, 1.0, correlation={"x": 0.5}),
        Noise(0.2, 1.0, correlation={"y": 0.4, "x": 0.02}, interval=(0.0, 0.3)),
        Noise(0.0, 1.0),
    ):
        assert undoubted_noise(noise) is noise
