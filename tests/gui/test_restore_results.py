"""What becomes of a restored layer: saved, measured, or not wished for any more."""

from __future__ import annotations

import numpy as np
import pytest

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture
def scan(rng) -> np.ndarray:
    return rng.normal(100, 10, (6, 24, 30)).astype(np.float32)


def opened(viewer):
    _, dock = viewer.window.add_plugin_dock_widget(
        "napari-geosr", "Restore (denoise, super-resolve)"
    )
    return dock


def test_a_run_wished_for_goes_with_its_layer(viewer, qtbot, scan):
    dock = opened(viewer)
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock.run_button.click()
    viewer.layers.remove(source)
    other = viewer.add_image(scan, name="other", **PLACE)
    with qtbot.waitSignal(dock._restoring.ready, timeout=60_000):
        pass
    qtbot.wait(300)
    assert dock._restoring.busy == ""
    assert list(viewer.layers) == [other]
