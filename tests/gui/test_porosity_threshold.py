"""The threshold that is drawn is the one that is measured with."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import SHAPE, add, measure, open_dock, physical, wait_for_levels

from napari_geosr.gui._layers import geometry


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


def test_of_a_time_series_the_threshold_follows_the_slider(viewer, qtbot):
    volume = physical()
    series = np.stack([volume.data + 100 * t for t in range(3)])
    place = {"scale": (1, *volume.voxel_size), "translate": (0, *volume.origin)}
    units, labels = ("s", "um", "um", "um"), ("t", "z", "y", "x")
    viewer.add_image(series, name="series", units=units, axis_labels=labels, **place)
    viewer.dims.set_point(0, 0)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    first = dock.settings.threshold
    for t in (2, 0):
        viewer.dims.set_point(0, t)
        qtbot.waitUntil(
            lambda t=t: dock.settings.threshold == pytest.approx(first + 100 * t, abs=1)
        )
        assert dock.preview.layer.visible
        # Along the volume's own axes there is nothing to read.
        viewer.dims.set_point(1, 30 + t)
        qtbot.wait(300)
        assert dock.settings.threshold is not None
        drawn = dock.settings.threshold
        measure(dock, qtbot)
        assert dock.result.report.threshold == pytest.approx(drawn, rel=1e-6)
        dock.tabs.setCurrentIndex(0)


def test_the_threshold_inside_a_sample_is_drawn_once_it_is_known(viewer, qtbot):
    volume = physical()
    volume.data[:16] += 400
    add(viewer, volume)
    lower = np.zeros(SHAPE, np.uint8)
    lower[16:] = 1
    mask = viewer.add_labels(lower, name="sample", **geometry(volume))
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(mask)
    wait_for_levels(dock, qtbot)
    whole = dock.settings.threshold
    measure(dock, qtbot)
    used = dock.result.report.threshold
    assert used < whole - 100
    assert dock.settings.threshold == pytest.approx(used, rel=1e-6)
