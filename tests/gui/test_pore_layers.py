"""When pores are measured again, their layer is reused unless the user edited it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from porosity_helpers import (
    BALLS,
    ORIGIN,
    SIZE,
    add,
    measure,
    open_dock,
    physical,
    wait_for_levels,
)

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import never_stop
from napari_geosr.gui.porosity.pore_layers import checksum_of, pore_text
from napari_geosr.measure.number_text import number_text


@pytest.mark.every(2)
@pytest.mark.parametrize("how", ["painted", "in place", "replaced"])
def test_labels_changed_by_hand_are_kept(viewer, qtbot, how):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    by_hand = viewer.layers["scan · pores"]
    assert by_hand.data[8, 10, 10] != 3
    if how == "painted":
        by_hand.paint((8, 10, 10), 3)
    elif how == "in place":
        by_hand.data[8, 10, 10] = 3
    else:
        changed = by_hand.data.copy()
        changed[8, 10, 10] = 3
        by_hand.data = changed
    edited = by_hand.data.copy()
    for said in ("changed by hand are kept (scan · pores)", ""):
        # The second time, the layer from the first time is filled again.
        measure(dock, qtbot)
        assert said in dock.message.text
        np.testing.assert_array_equal(by_hand.data, edited)
        again = dock.pores.layer()
        assert again is not by_hand
        assert again.data[8, 10, 10] != 3
    assert sum("· pores" in layer.name for layer in viewer.layers) == 2


def test_checksums_of_arrays_in_memory_and_on_disk(rng, monkeypatch):
    from napari_geosr.gui.porosity import pore_layers as _pore_layers

    labels = rng.integers(0, 9, (7, 6, 5)).astype(np.uint32)
    expected = checksum_of(labels, never_stop)
    monkeypatch.setattr(_pore_layers, "_BLOCK_BYTES", 300)
    assert checksum_of(zarr.array(labels, chunks=(3, 4, 4)), never_stop) == expected
    assert checksum_of(np.asfortranarray(labels), never_stop) == expected
    labels[6, 5, 4] += 1
    assert checksum_of(labels, never_stop) != expected
    with pytest.raises(Cancelled):
        checksum_of(labels, lambda: True)


def test_the_status_bar_describes_the_pore_under_the_mouse(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    for _ in range(2):  # the second time, the layer is filled again
        measure(dock, qtbot)
        layer = viewer.layers["scan · pores"]
        centre, _ = BALLS[0]
        label = int(layer.data[centre])
        report = dock.result.report
        volume = report.table["volume"][label - 1]
        place = [o + c * v for o, c, v in zip(ORIGIN, centre, SIZE, strict=True)]
        viewer.dims.set_point(0, place[0])
        status = layer.get_status(place, world=True)
        text = f"pore {label}: volume {number_text(float(volume))} µm³, "
        assert status["value"].startswith(text)
        assert "equivalent diameter" in status["value"]
        assert "_" not in status["value"]
        assert status["value"] in status["coordinates"]
        outside = layer.get_status(ORIGIN, world=True)
        assert outside["value"] == "no pore"
        assert outside["coordinates"].endswith("no pore")
    assert pore_text(2, {"volume": (np.array([1.0, np.nan]), "µm³")}) == "pore 2"
    assert pore_text(7, {"volume": (np.array([1.0]), "µm³")}) == "pore 7"


def test_the_state_line_says_what_was_measured(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    assert dock.bar.state.text() == "Ready."
    measure(dock, qtbot)
    qtbot.waitUntil(lambda: not dock.is_running)
    said = dock.bar.state.text()
    assert said.startswith("Measured: porosity ")
    assert said.endswith(" %, 3 pores in scan.")
