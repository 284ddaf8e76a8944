"""Errors of a measurement are shown below the settings and layers they concern."""

from __future__ import annotations

import numpy as np
import pytest
from porosity_helpers import (
    SHAPE,
    add,
    geometry,
    measure,
    open_dock,
    physical,
    wait_for_levels,
)

from napari_geosr.gui.porosity.choices import AUTOMATIC, WHOLE


@pytest.fixture
def dock(viewer, qtbot):
    add(viewer, physical())
    made = open_dock(viewer, qtbot)
    wait_for_levels(made, qtbot)
    return made


def is_in_sight(widget) -> bool:
    return not widget.visibleRegion().isEmpty()


def test_a_sample_that_is_not_found_is_an_error_below_it(viewer, qtbot, dock):
    settings = dock.settings
    measure(dock, qtbot)
    settings.set_manual(1000)  # above all grey values: no solid
    settings.sample.setCurrentText(AUTOMATIC)
    assert dock.tabs.currentIndex() == 1
    measure(dock, qtbot)
    assert set(dock.settings.faults.texts) == {"sample_mask"}
    assert "no solid at this threshold" in dock.settings.faults.texts["sample_mask"]
    assert not dock.message.text
    assert dock.tabs.currentIndex() == 0  # together with the field
    qtbot.waitUntil(lambda: is_in_sight(settings.sample), timeout=5000)
    settings.sample.setCurrentText(WHOLE)
    assert not dock.settings.faults.texts


def test_deviations_of_another_image_are_an_error_below_them(viewer, qtbot, dock):
    place = geometry(physical())
    layer = viewer.add_image(np.full(SHAPE, -1, np.float32), name="x_std", **place)
    dock.settings.deviation.set_layer(layer)
    measure(dock, qtbot)
    assert "negative values" in dock.settings.faults.texts["deviation"]
    layer.data = np.ones(SHAPE, np.float32)
    measure(dock, qtbot)
    assert not dock.settings.faults.texts
    assert dock.tabs.currentIndex() == 1


def test_a_setting_that_is_refused_names_its_field(viewer, qtbot, dock):
    dock.settings.form.set_values({"memory": "plenty"})
    dock.measure()
    assert not dock.is_running
    assert "'plenty' is not an amount" in dock.settings.faults.texts["memory"]
    assert not dock.message.text
    dock.settings.form.set_values({"memory": "2GB"})
    dock.settings.form.editor("memory").editingFinished.emit()
    assert not dock.settings.faults.texts


def test_an_unknown_threshold_is_an_error_below_the_method(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    dock.settings.method.setCurrentText("Manual")
    dock.settings._clear_value()
    dock.settings.value.setValue(dock.settings.value.minimum())
    dock.measure()
    assert "no threshold yet" in dock.settings.faults.texts["threshold"]
