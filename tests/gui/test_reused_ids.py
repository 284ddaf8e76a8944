"""Keys never match another object, even if it has the same id."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.reconstruct.activity import ReconstructActivity
from napari_geosr.gui.restore import activity
from napari_geosr.gui.restore.activity import RestoreActivity
from napari_geosr.gui.restore.preparation import RunPreparation
from napari_geosr.operations.reconstruct.config import ReconstructConfig


def test_a_slice_of_another_scan_has_another_key():
    scan = Projections(np.ones((2, 1, 4)), [0, 90])
    config = ReconstructConfig()

    def key_of(opened):
        dock = SimpleNamespace(_opened=opened, _config=config)
        return ReconstructActivity._volume_key(dock)

    keys = [key_of(OpenedScan(scan)) for _ in range(20)]  # each is deleted at once
    assert all(keys[i] not in keys[:i] for i in range(1, 20))
    opened = OpenedScan(scan)
    assert key_of(opened) == key_of(opened)


def test_a_preview_of_another_run_has_another_key(monkeypatch):
    monkeypatch.setattr(activity, "with_layer_name", lambda prepared, layer: prepared)
    keys = []
    dock = SimpleNamespace(
        _preview_key=None,
        _on_screen=lambda layer: ((), {}),
        _on_previewed=lambda volume, layer, key: keys.append(key),
        start=lambda what, steps, on_result: on_result(None),
    )
    for i in range(20):
        RestoreActivity._start_preview(dock, None, RunPreparation((i,), None, None))
    assert len(keys) == len(set(keys)) == 20
    dock._preview_key = keys[3]  # prepared again for the same key: nothing to do
    RestoreActivity._start_preview(dock, None, RunPreparation((3,), None, None))
    assert len(keys) == 20
