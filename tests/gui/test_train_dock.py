"""The Train dock starts real trainings in processes of their own, in real napari."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from train_helpers import TRAIN, noisy_scans, opened, preview_layer, set_small

from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


def test_from_layers_to_a_restored_scan(viewer, qtbot, tmp_path):
    first, second = noisy_scans(viewer)
    viewer.dims.set_point(0, 10.0 + 2 * 5)
    dock = opened(viewer, TRAIN)
    assert [row.layer() for row in dock._rows.values()] == [first, second]
    set_small(dock, steps=40, folder=tmp_path)
    dock.start_button.click()
    view = dock.view
    qtbot.waitUntil(lambda: view.job is not None, timeout=20_000)
    assert view.job.parent == tmp_path
    qtbot.waitUntil(lambda: view.state == "done", timeout=60_000)
    assert set(view.plot.names()) == {"training", "validation"}
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)
    preview = preview_layer(viewer)
    np.testing.assert_allclose(preview.scale, first.scale)
    np.testing.assert_allclose(preview.translate, (20.0, 20.0, 30.0))
    assert preview.units == first.units
    assert preview.colormap.name == "viridis"
    assert "PSNR" in view.figures.text()
    view.use_button.click()
    names = viewer.window.dock_widgets
    qtbot.waitUntil(lambda: any("Restore" in n for n in names), timeout=10_000)
    restore = next(w for n, w in names.items() if "Restore" in n)
    qtbot.waitUntil(lambda: "mine" in restore.model_box.model(), timeout=10_000)
    assert "chosen in the Restore dock" in view.message.text
    with qtbot.waitSignal(restore._restoring.ready, timeout=60_000):
        restore.layer_combo.set_layer(first)
    with qtbot.waitSignal(restore._restoring.finished, timeout=60_000):
        restore.run_button.click()
    assert any("first · mine" in layer.name for layer in viewer.layers)
