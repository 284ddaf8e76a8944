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
from napari_geosr.gui.layers import contents
from napari_geosr.gui.layers.contents import checksum_of
from napari_geosr.gui.porosity.choices import AUTOMATIC, WHOLE
from napari_geosr.gui.porosity.pore_layers import pore_text
from napari_geosr.measure.methods import methods_text
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


def test_pores_of_another_image_of_the_same_name_stay(viewer, qtbot):
    first = add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    pores = viewer.layers["scan · pores"]
    labels = pores.data.copy()
    viewer.layers.remove(first)
    other = physical()
    other.data[:] = other.data[::-1].copy()
    dock.settings.image.set_layer(add(viewer, other))
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    np.testing.assert_array_equal(pores.data, labels)
    assert dock.pores.layer() is not pores
    np.testing.assert_array_equal(dock.pores.layer().data > 0, labels[::-1] > 0)


def test_every_time_point_of_a_layer_has_its_own_pores(viewer, qtbot):
    volume = physical()
    viewer.add_image(
        np.stack([volume.data, volume.data[::-1]]),
        name="series",
        scale=(1, *SIZE),
        translate=(0, *ORIGIN),
        units=("pixel", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    viewer.dims.set_point(0, 0)
    dock = open_dock(viewer, qtbot)
    found = []
    for time in (0, 1, 0):
        viewer.dims.set_point(0, time)
        dock.levels.check_data()
        wait_for_levels(dock, qtbot)
        measure(dock, qtbot)
        found.append(dock.pores.layer())
        assert f"time = {time}" in methods_text(dock.result.report)
    assert found[2] is found[0]
    assert found[1] is not found[0]
    for layer, grey in zip(found, (volume.data, volume.data[::-1]), strict=False):
        np.testing.assert_array_equal(layer.data > 0, grey < 120)
    assert [layer.visible for layer in found[:2]] == [True, False]


def test_layers_of_a_measurement_are_shown_and_hidden_together(viewer, qtbot):
    """Pores, rose and outline of the sample, of the image chosen under “Pores of”."""
    add(viewer, physical())
    add(viewer, physical(name="other", seed=1))
    dock = open_dock(viewer, qtbot)
    dock.settings.image.set_layer(viewer.layers["scan"])
    dock.settings.other.set_layer(viewer.layers["other"])
    wait_for_levels(dock, qtbot)
    dock.settings.morphometry.boxes["anisotropy"].click()
    dock.settings.sample.setCurrentText(AUTOMATIC)
    measure(dock, qtbot)
    viewer.layers["scan · anisotropy"].visible = True  # hidden at first
    kinds = ("pores", "sample", "anisotropy")

    def are_shown(name: str) -> list[bool]:
        return [viewer.layers[f"{name} · {kind}"].visible for kind in kinds]

    assert are_shown("scan") == [True] * 3
    assert are_shown("other") == [False] * 3
    dock.result.which.setCurrentText("other")
    assert are_shown("scan") == [False] * 3
    assert are_shown("other") == [True] * 3

    # Without a mask, there is no outline; with one, the earlier layer is used again.
    dock.settings.other.set_layer(None)
    for sample, is_shown in ((WHOLE, False), (AUTOMATIC, True)):
        dock.settings.sample.setCurrentText(sample)
        measure(dock, qtbot)
        # The rose was hidden with the other layers of the scan.
        assert are_shown("scan") == [True, is_shown, False]
    dock.settings.sample.set_layer(viewer.layers["scan · sample"])
    measure(dock, qtbot)
    assert are_shown("scan") == [True, True, False]
    assert sum("· sample" in layer.name for layer in viewer.layers) == 2


def test_checksums_of_arrays_in_memory_and_on_disk(rng, monkeypatch):

    labels = rng.integers(0, 9, (7, 6, 5)).astype(np.uint32)
    expected = checksum_of(labels, never_stop)
    monkeypatch.setattr(contents, "_BLOCK_BYTES", 300)
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
    assert dock.bar.state.text() == "Ready: press Measure."
    measure(dock, qtbot)
    qtbot.waitUntil(lambda: not dock.is_running)
    said = dock.bar.state.text()
    assert said.startswith("Porosity ")
    assert said.endswith(" %, 3 pores in scan.")
