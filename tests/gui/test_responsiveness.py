"""The window stays responsive while the Restore dock prepares, previews and runs."""

from __future__ import annotations

import numpy as np
import pytest
from event_loop import Turns
from opening import opened


@pytest.fixture
def viewer(make_napari_viewer, rng):
    viewer = make_napari_viewer(show=True)
    plane = rng.normal(100, 20, (8, 512, 512)).astype(np.float32)
    viewer.add_image(np.tile(plane, (8, 1, 1)), name="scan", units="um")
    return viewer


def test_the_window_goes_on(viewer, qtbot):
    dock = opened(viewer)
    restoring = dock.activity
    with Turns() as preparing, qtbot.waitSignal(restoring.ready, timeout=120_000):
        pass
    assert preparing.count > 10
    with Turns() as preview, qtbot.waitSignal(restoring.previewed, timeout=60_000):
        dock.preview_button.click()
    assert preview.count > 10
    dock.run_button.click()
    qtbot.waitUntil(lambda: restoring.target() is not None, timeout=60_000)
    with Turns() as running:
        qtbot.waitUntil(lambda: running.count > 10, timeout=120_000)
        assert restoring.busy == "run"
        layer = restoring.target()
        qtbot.waitUntil(lambda: bool(np.isfinite(layer.data).any()), timeout=60_000)
    with qtbot.waitSignal(restoring.finished, timeout=60_000) as stopped:
        dock.cancel_button.click()
    layer, restored, _ = stopped.args
    assert not restored.complete
    assert np.isfinite(layer.data).any()
