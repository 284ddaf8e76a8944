"""Missing chunks are reported when a file is opened and in the docks that use it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.utils.notifications import notification_manager
from porosity_helpers import open_dock

from napari_geosr.gui.layers.questions.notes import NotesRow
from napari_geosr.gui.restore import RestoreDock


@pytest.fixture
def holey(tmp_path):
    data = np.random.default_rng(0).integers(9, 99, (8, 24, 24)).astype(np.uint8)
    path = tmp_path / "scan.zarr"
    zarr.create_array(path, data=data, chunks=(4, 24, 24))
    (path / "c" / "1" / "0" / "0").unlink()
    return path


def test_it_is_said_on_opening_and_in_docks(make_napari_viewer, qtbot, holey):
    viewer = make_napari_viewer(show=True)
    before = len(notification_manager.records)
    (layer,) = viewer.open(holey, plugin="napari-geosr")
    (said,) = [n.message for n in notification_manager.records[before:]]
    assert said.startswith("scan.zarr: 1 of 2 chunks are not in the file")
    restore = RestoreDock(viewer)
    qtbot.addWidget(restore)
    for dock in (open_dock(viewer, qtbot), restore):
        label = dock.findChild(NotesRow)
        qtbot.waitUntil(lambda label=label: "1 of 2 chunks" in label.text)
        assert label.text.startswith("Caution: scan: ")
        assert not label.isHidden()
    label.set_layer(None)
    assert label.isHidden()
    label.set_layer(viewer.add_image(np.zeros((8, 8))))
    assert label.isHidden()
    assert layer in viewer.layers
