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
    measure_several_steps,
    measure_steps,
)
from napari_geosr.operations.measure.grey_levels import histogram_steps, threshold_steps
from napari_geosr.operations.measure.planning import PlanConfig, plan_steps

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


def measured(volume, mask):
    return run_to_end(measure_steps(volume, MeasureConfig(threshold=100.0), mask))


def test_a_mask_with_other_voxels_is_mentioned(rng):
    volume, mask = padded(rng)
    assert not any("placed by position" in w for w in measured(volume, mask).warnings)
    in_mm = mask.replace(voxel_size=(0.004, 0.002, 0.002), unit="mm")
    assert not any("placed by position" in w for w in measured(volume, in_mm).warnings)
    coarse = mask.replace(
        data=np.ones(SHAPE, np.uint8),
        voxel_size=(8.0, 8.0, 8.0),
        origin=(2.0, 3.0, 3.0),
    )
    (told,) = [
        w for w in measured(volume, coarse).warnings if "placed by position" in w
    ]
    assert "(8 instead of 4 × 2 × 2 µm)" in told
    assert "covers 3.12 % of it" in told
    config = PlanConfig(spot=16.0, precision=0.9, threshold=100.0)
    large = Volume(np.tile(volume.data, (1, 2, 2)), "ZYX", (2.0,) * 3, "µm")
    mask = Volume(np.ones(large.shape, "u1"), "ZYX", (3.0,) * 3, "µm", name="sample")
    said: list[str] = []
    steps = plan_steps(large, config, mask)
    run_to_end(steps, lambda s: said.append(getattr(s, "message", "")))
    assert any("It was placed by position" in text for text in said)


def test_samples_without_nan_voxels_differ_from_those_with(rng):
    volume, _ = padded(rng)
    cut = volume.data.copy()
    cut[:3] = np.nan
    volumes = {"cut": volume.replace(data=cut, name="cut"), "scan": volume}
    config = MeasureConfig(threshold=100.0)
    reports = run_to_end(measure_several_steps(volumes, config))
    for report in reports.values():
        assert any(
            "9.4 % of the voxels of 'cut', but 0 % of those of 'scan'," in w
            for w in report.warnings
        )
    twice = {"cut": volumes["cut"], "again": volumes["cut"].replace(name="again")}
    for report in run_to_end(measure_several_steps(twice, config)).values():
        assert not any("samples differ" in w for w in report.warnings)
