"""The dock says of doubtful figures what command line and Python say."""

from __future__ import annotations

import numpy as np
from porosity_helpers import add, measure, open_dock, scan, wait_for_levels
from qtpy.QtWidgets import QLabel

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.gui.porosity.settings import AUTOMATIC
from napari_geosr.physics.textiles import felt


def test_noise_is_said_in_the_dock(viewer, qtbot):
    noisy = scan(noise=60)
    add(viewer, noisy)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    report = dock.result.report
    assert report.warnings == measure_porosity(noisy).warnings
    (said,) = [w for w in report.warnings if "wrong side of the threshold" in w]
    assert "Restore the scan first" in said
    for sentence in report.warnings:
        assert sentence in dock.message.text


def test_a_cut_felt_is_said_in_the_dock(viewer, qtbot):
    fraction = felt((32, 48, 48), radius=1.5, seed=0).fraction
    data = (200 - 150 * fraction).round().astype(np.uint8)
    add(viewer, Volume(data, "ZYX", name="felt"))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert "automatic sample mask" not in dock.message.text
    dock.settings.sample.setCurrentText(AUTOMATIC)
    assert dock.settings.config().sample_mask == "auto"
    measure(dock, qtbot)
    assert "cuts through the material" in dock.message.text
    assert "Measure without a sample mask" in dock.message.text


def test_the_sensitivity_to_the_threshold_has_its_name(viewer, qtbot):
    add(viewer, scan())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    figures = dock.result.figures
    labels = {label.text(): label for label in figures.findChildren(QLabel)}
    assert (
        "not a measurement uncertainty"
        in labels["Threshold sensitivity"].toolTip().lower()
    )
    assert not any("±" in text for text in labels)
