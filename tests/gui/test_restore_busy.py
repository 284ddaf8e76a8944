"""The Restore dock shows that it is busy immediately after a click on Run."""

from __future__ import annotations

import numpy as np
import pytest
from opening import opened

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.restore import activity as restoring


@pytest.fixture
def dock(viewer, qtbot, rng):
    scan = rng.normal(100, 10, (4, 48, 48)).astype(np.float32)
    viewer.add_image(scan, name="scan", units="um")
    made = opened(viewer)
    qtbot.waitUntil(made.isVisible)
    return made


def shows_work(dock) -> bool:
    return (
        not dock.run_button.isEnabled()
        and dock.cancel_button.isEnabled()
        and dock.progress.isVisible()
        and "Preparing" in dock.progress_label.text()
    )


def shows_rest(dock) -> bool:
    return (
        dock.run_button.isEnabled()
        and not dock.cancel_button.isEnabled()
        and not dock.progress.isVisible()
    )


def test_a_run_that_is_prepared_first_is_seen_at_once(dock, qtbot):
    dock.activity.prepare_again()
    assert not dock.activity.is_ready
    dock.run_button.click()
    assert shows_work(dock)  # before any turn of the event loop
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        pass
    qtbot.waitUntil(lambda: shows_rest(dock))


def test_a_run_that_can_begin_is_seen_at_once(dock, qtbot):
    qtbot.waitUntil(lambda: dock.activity.is_ready, timeout=60_000)
    dock.run_button.click()
    assert shows_work(dock)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        pass
    qtbot.waitUntil(lambda: shows_rest(dock))


def test_a_run_that_is_prepared_can_be_cancelled(dock, qtbot):
    begun: list[str] = []
    dock.activity.busyChanged.connect(begun.append)
    dock.activity.prepare_again()
    dock.run_button.click()
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: shows_rest(dock), timeout=60_000)
    qtbot.wait(300)  # an estimate for the advice may start; the run must not
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
    assert restoring.RUN not in begun
    assert not dock.activity.wants_run
    assert dock.activity.target() is None


def test_a_run_that_cannot_be_prepared_gives_the_button_back(
    viewer, qtbot, monkeypatch
):
    def fails(*_):
        yield from ()
        raise GeoSRError("The model cannot be used.")

    monkeypatch.setattr(restoring, "prepare_run_steps", fails)
    viewer.add_image(np.zeros((4, 48, 48), np.float32), name="scan", units="um")
    dock = opened(viewer)
    qtbot.waitUntil(dock.isVisible)
    dock.run_button.click()
    assert shows_work(dock)
    qtbot.waitUntil(lambda: "cannot be used" in dock.message.text, timeout=60_000)
    qtbot.waitUntil(lambda: shows_rest(dock))


def test_too_little_memory_is_an_error_below_its_setting(viewer, qtbot):
    data = np.random.default_rng(0).normal(size=(4, 48, 48)).astype(np.float32)
    viewer.add_image(data, name="scan", units="um")
    dock = opened(viewer)
    qtbot.waitUntil(dock.isVisible)
    dock.form.set_values({"memory": "1MB"})
    dock.form.editor("memory").editingFinished.emit()
    dock.run_button.click()
    qtbot.waitUntil(lambda: bool(dock.form.faults), timeout=60_000)
    assert "ncrease the Memory setting" in dock.form.faults["memory"]
    assert not dock.settings.content.isHidden()
    assert not dock.message.text
    dock.form.set_values({"memory": "2GB"})
    dock.form.editor("memory").editingFinished.emit()
    assert not dock.form.faults
