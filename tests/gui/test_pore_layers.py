"""When pores are measured again, their layer is reused unless the user edited it."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from porosity_helpers import add, measure, open_dock, physical, wait_for_levels

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import never_stop
from napari_geosr.gui.porosity.pore_layers import checksum_of


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
