"""One verdict on a checked result, with marks where the result is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from opening import opened
from porosity_helpers import measure, open_dock, wait_for_levels
from qtpy.QtWidgets import QMessageBox

from napari_geosr.gui.restore.check_button import CheckButton, CheckVerdict
from napari_geosr.operations.restore.verdict.run_verdict import (
    LOST_FROM_SCAN,
    LOST_SIZE,
    RunVerdict,
)

PLACE = {"scale": (2.0, 0.5, 0.5), "units": "um"}


@pytest.fixture
def clean():
    clean = np.full((6, 36, 40), 100, np.float32)
    clean[1:5, 10:20, 12:26] = 40
    return clean


@pytest.fixture
def check(viewer, qtbot, rng, clean):
    """Check voxels against a noisy scan; return the layer and the verdict."""
    scan = clean + rng.normal(0, 8, clean.shape).astype(np.float32)
    source = viewer.add_image(scan, name="scan", **PLACE)
    result = viewer.add_image(clean, name="result", **PLACE)
    button, row = CheckButton(viewer), CheckVerdict()
    for widget in (button, row):
        qtbot.addWidget(widget)
    button.checked_result.connect(row.show_check)
    button.set_pair(source, result)

    def checked(data):
        result.data = data
        with qtbot.waitSignal(button.checked_result, timeout=60_000):
            button.check()
        qtbot.waitUntil(button.isEnabled)
        return result, row

    checked.button = button
    return checked


def word(row):
    return row.icon.accessibleDescription()


def test_a_result_that_fits_gets_a_tick_and_one_sentence(check, clean):
    result, row = check(clean)
    assert word(row) == "OK"
    assert row.text == "The result fits the scan: what was removed looks like noise."
    assert result.name == "result"
    assert not row.details_button.isHidden()
    assert row.details_button.accessibleName() == "Details of the message"


def test_residuals_do_not_lie_over_what_is_compared(check, clean, viewer):
    check(clean)
    residual = viewer.layers[-1]
    check.button.hide_layers(False)
    assert residual.visible
    check.button.hide_layers(True)
    assert not residual.visible


def test_a_painted_pore_is_a_caution_with_its_details(check, clean, viewer):
    painted = clean.copy()
    painted[2:5, 26:30, 6:10] = 40
    result, row = check(painted)
    assert word(row) == "Caution"
    assert "fits the scan except in one region" in row.text
    assert row.text.count(".") == 1
    assert result.name == "result"
    row.details_button.click()
    box = row.findChild(QMessageBox)
    assert "the result is darker than the scan" in box.informativeText()
    assert len(viewer.layers) == 4
    check(painted)
    assert len(viewer.layers) == 4  # those of the first check were removed
    assert "noise alone: 0.27 %" in box.informativeText()
    box.close()


def test_a_wrong_result_is_marked_until_it_is_another(check, clean, viewer):
    result, row = check(2 * clean - 80)
    assert word(row) == "Do not measure"
    assert row.text.startswith("The result does not fit the scan: ")
    assert row.text.endswith("Do not measure it.")
    assert result.name == "⚠ result"
    assert viewer.layers["⚠ result"] is result
    result.data = clean
    assert result.name == "result"
    result, row = check(2 * clean - 80)
    assert result.name == "⚠ result"
    result, row = check(clean)
    assert result.name == "result"
    assert word(row) == "OK"


def test_measuring_a_wrong_result_says_so(check, clean, viewer, qtbot):
    dock = open_dock(viewer, qtbot)
    result, _ = check(clean)
    dock.settings.image.set_layer(result)
    assert dock.settings.notes.isHidden()
    check(2 * clean - 80)
    qtbot.waitUntil(lambda: not dock.settings.notes.isHidden())
    assert "does not fit the scan" in dock.settings.notes.text
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    (report,) = dock._measured.reports.values()
    assert any("does not fit the scan" in said for said in report.warnings)
    assert "⚠ result" in dock.message.text


def test_the_green_light_before_the_run_is_taken_back(viewer, qtbot, rng, clean):
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

    dock = opened(viewer)
    dock.verdict_panel._on_verdict(RunVerdict("ok", "It removes noise."))
    assert word(dock.verdict) == "OK"
    dock.check_verdict.contradicted.emit()
    assert dock.verdict.text == "Before the run: It removes noise."
    assert word(dock.verdict) == "Note"


def test_a_model_that_loses_pores_gets_no_tick(viewer, clean):
    viewer.add_image(clean, name="scan", **PLACE)
    dock = opened(viewer)
    lossy = RunVerdict("ok", "It removes noise.", figures={LOST_FROM_SCAN: 19.0})
    dock.verdict_panel._on_verdict(lossy)
    assert word(dock.verdict) == "Note"


def test_pores_that_noise_hides_get_no_tick_and_no_warning(viewer, clean):
    viewer.add_image(clean, name="scan", **PLACE)
    dock = opened(viewer)
    limit = "It removes noise. Pores of up to 33 voxels cannot be counted."
    for size, shown in ((33.0, "Note"), (7.0, "OK")):
        hidden = RunVerdict("ok", limit, figures={LOST_SIZE: size})
        dock.verdict_panel._on_verdict(hidden)
        assert word(dock.verdict) == shown
        assert dock.verdict.text == limit


def test_a_verdict_is_no_worse_for_indirect_signs(viewer, clean):
    viewer.add_image(clean, name="scan", **PLACE)
    dock = opened(viewer)
    notes = ("More than noise would be removed: 1.16 times the noise level.",)
    fine = RunVerdict("ok", "It removes noise.", notes=notes)
    dock.verdict_panel._on_verdict(fine)
    assert word(dock.verdict) == "OK"
    assert notes[0] in dock.verdict.label.toolTip()


@pytest.mark.slow
def test_the_verdict_of_the_check_is_in_sight(viewer, qtbot, rng, clean):
    viewer.window._qt_window.resize(1366, 768)
    viewer.add_image(clean + rng.normal(0, 8, clean.shape).astype(np.float32), **PLACE)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    dock.activity.target().data = 2 * clean - 80
    states = []
    dock.check_button.activity.busyChanged.connect(
        lambda what: states.append((what, dock.bar.state.text()))
    )
    with qtbot.waitSignal(dock.check_button.checked_result, timeout=60_000):
        dock.check_button.click()
    label = dock.check_verdict.label

    def whole() -> bool:
        seen = label.visibleRegion().boundingRect()
        return label.height() > 0 and seen.height() == label.height()

    qtbot.waitUntil(whole, timeout=5000)
    assert ("check", "Comparing the result with the scan…") in states


def test_a_result_not_to_be_measured_has_no_tick(viewer, qtbot, rng, clean):
    viewer.add_image(clean + rng.normal(0, 8, clean.shape).astype(np.float32), **PLACE)
    dock = opened(viewer)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    dock.show_done(dock.activity.target(), 3, [], harmful=False)
    assert (word(dock.message), dock.message.text) == ("OK", "Done in 3 s.")
    assert dock.measure_button.text() == "&Measure porosity…"
    result = dock.activity.target()
    right, wrong = result.data.copy(), 2 * clean - 80
    for data, fits in ((wrong, False), (right, True), (wrong, False)):
        qtbot.waitUntil(dock.check_button.isEnabled)
        result.data = data
        with qtbot.waitSignal(dock.check_button.checked_result, timeout=60_000):
            dock.check_button.click()
        assert dock.measure_button.text().startswith("⚠") != fits
        if fits:
            assert "do not measure" not in dock.message.text
            continue
        assert word(dock.message) == "Do not measure"
        assert dock.message.text == (
            "Done. Do not measure this result: it does not fit the scan."
        )
        assert "does not fit" in dock.measure_button.toolTip()
    viewer.layers.remove(result)
    assert dock.message.text == ""


@pytest.mark.slow
def test_a_run_against_the_advice_has_no_tick(viewer, qtbot, rng, clean, monkeypatch):
    viewer.add_image(clean + rng.normal(0, 8, clean.shape).astype(np.float32), **PLACE)
    dock = opened(viewer)
    harmful = property(lambda _panel: True)
    monkeypatch.setattr(type(dock.verdict_panel), "expects_harm", harmful)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    assert word(dock.message) == "Do not measure"
    assert ". Do not measure this result: it is expected" in dock.message.text
    assert dock.measure_button.text().startswith("⚠")
    result = dock.activity.target()
    assert not result.name.startswith("⚠")  # only a prediction
    porosity = open_dock(viewer, qtbot)
    porosity.settings.image.set_layer(result)
    qtbot.waitUntil(lambda: not porosity.settings.notes.isHidden())
    assert "expected to be worse than the scan" in porosity.settings.notes.text
