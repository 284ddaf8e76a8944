"""Errors in the Reconstruct dock are shown there, in a sentence."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import tifffile
from tomography_helpers import ANGLES, PLUGIN, idle, opened, scan, scan_file

from napari_geosr.gui.layers.projections import opened_scan
from napari_geosr.io.projections import write_projections

WARNING_SIGN = "\N{WARNING SIGN}"


def failed(dock, qtbot, what) -> str:
    """The message after `what` failed; nothing is running, and nothing is raised."""
    with qtbot.waitSignal(dock.activity.failed, timeout=60_000):
        what()
    idle(dock, qtbot)
    in_fields = [
        text for form in dock.settings_forms() for text in form.faults.values()
    ]
    assert bool(dock.message.text) != bool(in_fields)  # reported once
    text = dock.message.text or " ".join(in_fields)
    assert text.startswith(("Error: ", WARNING_SIGN))
    assert "our fault" not in text
    assert not dock.preview_button.isChecked()
    assert dock.run_button.isEnabled()
    return text


def test_images_without_angles_ask_for_them(viewer, qtbot, tmp_path):
    made = scan()
    frames = np.asarray(made.data)
    tifffile.imwrite(tmp_path / "views.tif", frames.astype(np.float32))
    dock = opened(viewer)
    with qtbot.waitSignal(dock.open.failed, timeout=60_000):
        dock.open.open(tmp_path / "views.tif")
    qtbot.waitUntil(dock.open.again_button.isEnabled)
    assert "angle" in " ".join(dock.open.form.faults.values())
    assert not dock.open.message.text
    assert dock.open.section.button.isChecked()
    assert not viewer.layers
    dock.open.form.set_values(
        {"angle_range": "0, 180", "pixel_size": "2", "unit": "µm"}
    )
    dock.open.form.set_values({"line_integrals": True})
    with qtbot.waitSignal(dock.open.opened, timeout=60_000):
        dock.open.again_button.click()
    assert [layer.name for layer in viewer.layers] == [
        "views · sinogram",
        "views · projections",
    ]
    found = opened_scan(dock.layer_combo.layer())
    assert found.reading["angle_range"] == (0.0, 180.0)
    assert found.scan.unit == "µm"
    np.testing.assert_allclose(found.scan.angles, np.arange(ANGLES) * 180 / ANGLES)
    assert dock.run_button.isEnabled()
    assert not dock.open.section.button.isChecked()


def test_an_image_that_was_dropped_may_be_read_as_projections(viewer, qtbot, tmp_path):
    path = tmp_path / "sinogram.tif"
    frames = np.asarray(scan().data)[:, 0].astype(np.float32)
    tifffile.imwrite(path, frames)
    (image,) = viewer.open(str(path), plugin=PLUGIN)
    dock = opened(viewer)
    assert dock.open.path == path
    assert dock.open.section.button.isChecked()
    assert "sinogram.tif" in dock.open.message.text
    dock.open.form.set_values({"angle_range": "0, 180", "line_integrals": True})
    with qtbot.waitSignal(dock.open.opened, timeout=60_000):
        dock.open.again_button.click()
    assert dock.opened().scan.shape == (ANGLES, 1, frames.shape[1])
    assert not image.visible  # the same picture is above it
    assert dock.open.message.text == ""
    assert not dock.open.section.button.isChecked()
    viewer.layers.selection.active = image
    assert dock.open.message.text == ""


def test_a_result_is_not_taken_for_projections(viewer):
    viewer.add_image(np.zeros((4, 5, 6)), name="volume")
    dock = opened(viewer)
    assert dock.open.path is None
    assert dock.open.message.text == ""


@pytest.mark.parametrize("text", ["0, 180, 360", "north"])
def test_a_bad_range_is_refused(viewer, qtbot, tmp_path, text):
    frames = np.ones((4, 5, 6), np.float32)
    tifffile.imwrite(tmp_path / "views.tif", frames, photometric="minisblack")
    dock = opened(viewer)
    dock.open.form.set_values({"angle_range": text})
    dock.open.open(tmp_path / "views.tif")
    (said,) = dock.open.form.faults.values()
    assert said.startswith(f"{WARNING_SIGN} ")
    assert "numbers" in said
    assert "angle range" not in said  # the name of the field is next to it
    assert not dock.open.message.text
    assert not viewer.layers


def test_nan_is_refused_and_may_be_filled(viewer, qtbot, tmp_path):
    data = np.array(scan().data, np.float32)
    data[:, 3, 20] = np.nan
    path = write_projections(scan().replace(data=data), tmp_path / "nan.h5")
    dock = opened(viewer, path)
    dock.centre.set_value(25.0)
    dock.row.setValue(3)
    assert "NaN" in failed(dock, qtbot, dock.preview_button.click)
    assert "NaN" in failed(dock, qtbot, dock.run_button.click)
    assert dock.form.faults["nonfinite"].startswith(f"{WARNING_SIGN} nan.h5: ")
    assert "interpolated (NaN in projections: fill)" in dock.form.faults["nonfinite"]
    assert not dock.settings.content.isHidden()
    dock.form.set_values({"nonfinite": "fill"})
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000) as finished:
        dock.run_button.click()
    assert finished.args[1].complete


def test_too_few_angles_for_the_axis(viewer, qtbot, tmp_path):
    made = scan().subset(range(20))
    dock = opened(viewer, write_projections(made, tmp_path / "wedge.h5"))
    assert "180" in failed(dock, qtbot, dock.centre.find_button.click)


def test_settings_that_do_not_fit_are_said_at_once(viewer, qtbot, tmp_path):
    dock = opened(viewer, scan_file(tmp_path))
    dock.form.set_values({"rows": "2, 3, 4"})
    dock.form.changed.emit()
    assert "Two numbers are needed" in dock.form.faults["rows"]
    assert not dock.settings.content.isHidden()
    dock.run_button.click()
    assert dock.activity.busy == ""
    assert set(dock.form.faults) == {"rows"}
    assert not dock.message.text
    dock.form.set_values({"rows": "2, 3"})
    dock.form.changed.emit()
    assert not dock.form.faults


def test_a_bad_model_name_is_refused_below_it(viewer, qtbot, tmp_path):
    dock = opened(viewer, scan_file(tmp_path))
    dock.denoise_section.set_open(True)
    qtbot.waitUntil(lambda: not dock.denoise.activity.busy, timeout=10_000)
    dock.denoise.folder = tmp_path
    dock.denoise.name.setText("My model")
    dock.denoise.start_button.click()
    qtbot.waitUntil(lambda: bool(dock.denoise.faults.texts), timeout=30_000)
    assert "lower-case letters" in dock.denoise.faults.texts["name"]
    assert not dock.message.text
    qtbot.keyClicks(dock.denoise.name, "x")
    assert not dock.denoise.faults.texts


def test_a_damaged_file_is_named(viewer, qtbot, tmp_path):
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.zeros((4, 5, 6), np.float32)
        file["exchange/theta"] = np.zeros(3)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.open.failed, timeout=60_000):
        dock.open.open(path)
    assert "bad.h5" in dock.open.message.text
    qtbot.waitUntil(dock.open.file_button.isEnabled)
    with qtbot.waitSignal(dock.open.failed, timeout=60_000):
        dock.open.open(tmp_path / "none.h5")
    assert "does not exist" in dock.open.message.text
