"""The dock shows the same warnings on doubtful figures as command line and Python."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from porosity_helpers import add, measure, open_dock, scan, wait_for_levels
from qtpy.QtWidgets import QLabel

from napari_geosr import measure_porosity
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.questions.record import settle_distance
from napari_geosr.gui.porosity.choices import AUTOMATIC, WHOLE
from napari_geosr.gui.porosity.settings import UNUSABLE
from napari_geosr.physics.specimens.textiles import felt


def test_noise_is_said_in_the_dock(viewer, qtbot):
    noisy = scan(noise=60)
    add(viewer, noisy)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    report = dock.result.report
    assert report.warnings == measure_porosity(noisy).warnings
    (said,) = [w for w in report.warnings if "wrong side of the threshold" in w]
    assert "Measure a scan with less noise" in said
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


#: Images chosen after one that was measured, and the message for each.
FOLLOWING = {
    "constant": (np.zeros((8, 16, 16), np.float32), "Ready: press Measure."),
    "of six axes": (np.zeros((2,) * 6, np.float32), UNUSABLE),
    "none": (None, "Open an image to measure its pores."),
}


@pytest.mark.parametrize(
    # A constant image is rejected like one with six axes.
    "following",
    [pytest.param("constant", marks=pytest.mark.slow), "of six axes", "none"],
)
def test_nothing_is_left_of_the_image_before(viewer, qtbot, following):
    whole = scan()
    image = add(viewer, whole.replace(data=np.pad(whole.data, 12, constant_values=20)))
    image.metadata[METADATA] = {"info": {"warnings": ["1 of 2 chunks is missing"]}}
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    settings = dock.settings
    qtbot.waitUntil(lambda: settings.sample.fixed_entry() == AUTOMATIC, timeout=30_000)
    assert "1 of 2 chunks" in settings.notes.text
    measure(dock, qtbot)
    dock.message.show_message("The noise is high.", "warning")
    assert settings.value.text() != "–"
    data, state = FOLLOWING[following]
    if data is None:
        viewer.layers.clear()
    else:
        settings.image.set_layer(viewer.add_image(data, name=following))
    qtbot.waitUntil(lambda: settings.image.layer() is not image)
    qtbot.waitUntil(lambda: dock.bar.state.text() == state)
    if data is not None:
        qtbot.waitUntil(lambda: dock.message.text.startswith("Error"), timeout=10_000)
    assert "noise is high" not in dock.message.text
    assert settings.notes.isHidden()
    assert settings.proposal.note.isHidden()
    assert settings.sample.fixed_entry() == WHOLE
    assert settings.threshold is None
    assert settings.value.text() == "–"
    assert not settings.value.isEnabled()
    # The numbers are still those of the image named with them.
    assert dock.result.image.text() == "Image: scan"
    settings.method.setCurrentText("Manual")
    if data is None:
        settings.image.set_layer(add(viewer, scan()))
    else:
        settings.image.set_layer(image)
    wait_for_levels(dock, qtbot)
    assert 70 < settings.config().threshold < 165


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


def test_an_assumed_slice_spacing_is_in_the_report(viewer, qtbot, tmp_path):
    data = np.random.default_rng(0).integers(90, 110, (8, 24, 24)).astype(np.uint8)
    data[2:6, 4:10, 4:10] = 20
    path = tmp_path / "scan.tif"
    options = {"metadata": {"axes": "ZYX", "unit": "um"}, "resolution": (0.5, 0.5)}
    tifffile.imwrite(path, data, imagej=True, **options)
    (layer,) = viewer.open(path, plugin="napari-geosr")
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    text = "The slice spacing is not in the file; it was taken to be 1 µm"
    assert any(text in each for each in dock.result.report.warnings)
    settle_distance(layer)
    measure(dock, qtbot)
    assert not any("spacing" in each for each in dock.result.report.warnings)
