"""The choice in the Restore dock of where the noise is measured, in real napari."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from qtpy.QtGui import QGuiApplication

from napari_geosr.core.noise import known_noise
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.questions.noise import known_noise_of
from napari_geosr.jobs.handover import StoppedRestoration

SHAPE = (16, 48, 48)
PLACE = {"scale": (2.0, 2.0, 2.0), "units": "um"}


@pytest.fixture
def scan(viewer, rng):
    data = np.full(SHAPE, 20.0, np.float32)
    data[:, 12:36, 12:36] = 120
    return viewer.add_image(data + rng.normal(0, 10, SHAPE), name="scan", **PLACE)


@pytest.fixture
def air(viewer, scan):
    mask = np.ones(SHAPE, np.uint8)
    mask[:, 10:38, 10:38] = 0
    return viewer.add_labels(mask, name="air", **PLACE)


@pytest.fixture
def dock(viewer, scan, air, qtbot):
    found = opening.opened(viewer)
    found.layer_combo.set_layer(scan)
    found.settings.set_open(True)
    qtbot.waitUntil(lambda: found.activity.is_ready, timeout=60_000)
    return found


def listed(box) -> list[str]:
    return [box.layer_combo.itemText(i) for i in range(box.layer_combo.count())][1:]


def choose(dock, kind: str, layer, qtbot) -> None:
    box = dock.noise_box
    box.combo.setCurrentIndex(box.combo.findData(kind))
    box.layer_combo.set_layer(layer)
    qtbot.waitUntil(lambda: not box.activity.is_measuring, timeout=60_000)
    qtbot.waitUntil(lambda: dock.activity.is_ready, timeout=60_000)


def prepared_noise(dock):
    return dock.activity._ready.prepared.noise


def test_the_noise_of_a_region_is_used_for_the_run(dock, scan, air, viewer, qtbot):
    assert prepared_noise(dock).source == "scan"
    choose(dock, "region", air, qtbot)
    assert "measured where there is no structure" in dock.noise_box.state.text()
    noise = prepared_noise(dock)
    assert noise.source == "uniform"
    assert noise.level == pytest.approx(10, rel=0.06)
    # Other docks that use the layer know it, too; so do a job and a copied command.
    assert known_noise(volume_from_layer(scan, viewer).metadata).noise == noise
    run = dock._run_elsewhere()
    assert isinstance(run, StoppedRestoration)
    assert known_noise(run.input.volume.metadata).noise == noise
    dock.copy_command.click()
    assert "--noise-region NOISE-REGION.ome.tif" in QGuiApplication.clipboard().text()
    dock.copy_python.click()
    assert "noise_region=noise_region" in QGuiApplication.clipboard().text()
    # Back to the scan itself.
    box = dock.noise_box
    box.combo.setCurrentIndex(0)
    assert known_noise_of(scan) is None
    qtbot.waitUntil(lambda: dock.activity.is_ready, timeout=60_000)
    assert prepared_noise(dock).source == "scan"
    assert not box.state.text()


def is_measured_again(dock, scan, before, qtbot) -> None:
    def done() -> bool:
        return known_noise_of(scan) not in (None, before)

    qtbot.waitUntil(done, timeout=60_000)
    noise = known_noise_of(scan).noise
    assert f"{noise.level:.3g}" in dock.noise_box.state.text()


def paint(air) -> None:
    air.data_setitem(np.nonzero(np.asarray(air.data)[:, :, :6]), 0)
    air.events.paint(value=[])


def undo(air) -> None:
    paint(air)
    air.undo()


def replace_data(air) -> None:
    mask = np.asarray(air.data).copy()
    mask[:, :8] = 0
    air.data = mask


@pytest.mark.parametrize("edit", [paint, undo, replace_data])
def test_it_is_measured_again_after_an_edit_of_the_region(dock, scan, air, qtbot, edit):
    choose(dock, "region", air, qtbot)
    before = known_noise_of(scan)
    edit(air)
    is_measured_again(dock, scan, before, qtbot)
    assert known_noise_of(scan).noise.level == pytest.approx(10, rel=0.06)
    assert dock.noise_box.layer_combo.layer() is air


@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_measured_again_after_an_edit_of_the_scan(
    dock, scan, air, qtbot, in_place
):
    choose(dock, "region", air, qtbot)
    before = known_noise_of(scan)
    if in_place:
        scan.data[:] = 3 * scan.data
        scan.refresh()
    else:
        scan.data = 3 * np.asarray(scan.data)
    assert known_noise_of(scan) is None
    is_measured_again(dock, scan, before, qtbot)
    assert known_noise_of(scan).noise.level == pytest.approx(30, rel=0.06)


def test_an_edit_while_another_scan_is_chosen_is_noticed(
    dock, scan, air, viewer, qtbot, rng
):
    choose(dock, "region", air, qtbot)
    before = known_noise_of(scan)
    other = viewer.add_image(rng.normal(size=SHAPE), name="other", **PLACE)
    dock.layer_combo.set_layer(other)
    replace_data(air)
    dock.layer_combo.set_layer(scan)
    is_measured_again(dock, scan, before, qtbot)


def test_renamed_layers_stay_chosen(dock, scan, air, viewer, qtbot, rng):
    choose(dock, "region", air, qtbot)
    known = known_noise_of(scan)
    air.name = "surroundings"
    other = viewer.add_image(rng.normal(size=SHAPE), name="other", **PLACE)
    dock.layer_combo.set_layer(other)
    dock.layer_combo.set_layer(scan)
    assert dock.noise_box.layer_combo.layer() is air
    assert known_noise_of(scan) is known
    assert dock.noise_box.state.text()


def test_a_removed_region_is_forgotten(dock, scan, air, viewer, qtbot):
    choose(dock, "region", air, qtbot)
    viewer.layers.remove(air)
    qtbot.waitUntil(lambda: known_noise_of(scan) is None, timeout=10_000)
    assert not dock.noise_box.state.text()


def test_only_suitable_layers_are_listed(dock, scan, air, viewer, rng):
    viewer.add_image(rng.normal(size=SHAPE), name="second", **PLACE)
    viewer.add_image(rng.normal(size=(4, 8, 8)), name="small", **PLACE)
    viewer.add_labels(np.ones((4, 8, 8), np.uint8), name="part", **PLACE)
    box = dock.noise_box
    for kind, names in (
        ("second", ["second"]),
        ("region", ["air"]),
        ("blank", ["second", "small"]),
    ):
        box.combo.setCurrentIndex(box.combo.findData(kind))
        assert listed(box) == names
        assert box.layer_combo.layer() is None  # the user chooses


def test_a_failed_measurement_leaves_the_scan_as_it_was(dock, scan, viewer, qtbot):
    empty = viewer.add_labels(np.zeros(SHAPE, np.uint8), name="empty", **PLACE)
    choose(dock, "region", empty, qtbot)
    assert "only 0 blocks" in dock.message.text
    assert known_noise_of(scan) is None
    assert prepared_noise(dock).source == "scan"
    assert "measured in the scan itself" in dock.noise_box.state.text()
    empty.data = np.ones(SHAPE, np.uint8)  # as after painting
    qtbot.waitUntil(lambda: known_noise_of(scan) is not None, timeout=60_000)


def test_a_layer_with_channels_measures_its_own_noise(dock, viewer, rng, qtbot):
    channels = viewer.add_image(
        rng.normal(size=(2, *SHAPE)),
        name="channels",
        axis_labels=("c", "z", "y", "x"),
        units=("pixel", "um", "um", "um"),
    )
    dock.layer_combo.set_layer(channels)
    assert not dock.noise_box.isEnabled()
    dock.layer_combo.set_layer(viewer.layers["scan"])
    qtbot.waitUntil(lambda: dock.noise_box.isEnabled(), timeout=10_000)


def test_each_scan_has_its_own(dock, scan, air, viewer, qtbot, rng):
    choose(dock, "region", air, qtbot)
    other = viewer.add_image(
        np.asarray(scan.data) + rng.normal(0, 5, SHAPE), name="other", **PLACE
    )
    dock.layer_combo.set_layer(other)
    assert dock.noise_box.combo.currentData() == ""
    dock.layer_combo.set_layer(scan)
    assert dock.noise_box.combo.currentData() == "region"
    assert dock.noise_box.layer_combo.layer() is air
    assert dock.noise_box.state.text()
