"""Grey values and thresholds inside a sample are shown as used in the measurement."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure import (
    MeasureConfig,
    grey_levels,
)
from napari_geosr.operations.measure.grey_levels import histogram_steps, threshold_steps

SHAPE = (32, 20, 24)


def padded(rng) -> tuple[Volume, Volume]:
    """A solid with square pores in dark padding, and a mask of the solid."""
    data = rng.normal(180, 8, SHAPE).astype(np.float32)
    data[:, 10:14, 4:9] -= 100
    inside = np.ones(SHAPE, np.uint8)
    inside[:, :6] = 0
    data[inside == 0] = -1000
    volume = Volume(data, "ZYX", (4.0, 2.0, 2.0), "µm", name="scan")
    return volume, volume.replace(data=inside, name="sample")


@pytest.mark.parametrize("rule", ["otsu", "multi-otsu", "li", "triangle", 100.0])
@pytest.mark.parametrize("kind", ["same", "fine", "image"])
def test_the_threshold_is_that_of_the_measurement(rng, kind, rule):
    volume, mask = padded(rng)
    if kind == "fine":
        voxel_size, origin = volume.upscaled_geometry((2, 2, 2))
        data = mask.data.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        mask = mask.replace(data=data, voxel_size=voxel_size, origin=origin)
    elif kind == "image":
        volume = Volume(volume.data[3], "YX", (2.0, 2.0), "µm", name="scan")
        mask = Volume(mask.data[3], "YX", (2.0, 2.0), "µm", name="sample")
    config = MeasureConfig(threshold=rule)
    used = measure_porosity(volume, mask, threshold=rule).threshold
    assert run_to_end(threshold_steps(volume, config, mask)) == used
    whole = run_to_end(threshold_steps(volume, config))
    assert (whole == used) == (rule == 100.0)


def test_of_a_huge_volume_planes_of_the_sample_are_read(rng, monkeypatch):
    volume, mask = padded(rng)
    thin = np.zeros(SHAPE, bool)
    thin[9::16] = True  # between the planes that would be chosen from all
    mask = mask.replace(data=thin)
    monkeypatch.setattr(grey_levels, "_MAX_COUNTED", volume.nbytes // 2)
    levels = run_to_end(histogram_steps(volume, mask))
    assert levels.sampled
    assert levels.histogram.n == thin.sum()
    with pytest.raises(Cancelled):
        run_to_end(histogram_steps(volume, mask, should_stop=lambda: True))
    with pytest.raises(VolumeError, match="mask of .* is empty"):
        run_to_end(histogram_steps(volume, mask.replace(data=thin & False)))


def test_a_mask_elsewhere_is_refused(rng):
    volume, mask = padded(rng)
    with pytest.raises(VolumeError, match="does not cover"):
        run_to_end(histogram_steps(volume, mask.replace(origin=(400.0, 0.0, 0.0))))
