"""Compares two arrays in the same way as a comparison."""

from __future__ import annotations

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.frame import on_common_frame
from napari_geosr.measure.comparison.sweep import FrameVolumes, grey_steps


def compared(image, truth, mask=None, **settings):
    axes = "ZYX"[-truth.ndim :]
    given = {"base": Volume(truth, axes), "other": Volume(image, axes)}
    placed = on_common_frame(given)
    sample = None
    if mask is not None:
        sample = on_common_frame({**given, "mask": Volume(mask, axes)})["mask"].array
    options = {
        "data_range": 1.0,
        "of_base": True,
        "affine": False,
        "slicewise": None,
        "budget": 10**9,
        "should_stop": lambda: False,
        **settings,
    }
    return run_to_end(grey_steps(FrameVolumes(placed, "base", sample), **options))
