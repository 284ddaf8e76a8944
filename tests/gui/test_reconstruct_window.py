"""The Reconstruct dock in a window: removed layers, closed docks, no freezes."""

from __future__ import annotations

import subprocess
import sys

import opening
import pytest
from event_loop import Turns
from qtpy.QtCore import QCoreApplication, QEvent, QPoint
from tomography_helpers import DOCK, PLUGIN, idle, opened, scan_file

from napari_geosr.gui.study import StudyBox

SLOW = {"iterations": 2000}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"))


def running(dock, qtbot):
    """Start a run that takes minutes."""
    dock.centre.set_value(25.0)
    dock.algorithm.combo.setCurrentIndex(dock.algorithm.combo.findData("tv"))
    dock.algorithm.form.set_values(SLOW)
    working = dock.activity
    dock.run_button.click()
    qtbot.waitUntil(lambda: working.target() is not None, timeout=60_000)
    return working


def test_the_window_goes_on(viewer, qtbot, tmp_path):
    path = scan_file(tmp_path, n=256, rows=8, angles=180)
    viewer.open(str(path), plugin=PLUGIN)
    dock = opening.opened(viewer, DOCK)
    working = dock.activity
    with Turns() as finding, qtbot.waitSignal(working.centreFound, timeout=120_000):
        dock.centre.find_button.click()
    idle(dock, qtbot)
    with Turns() as first, qtbot.waitSignal(working.previewed, timeout=120_000):
        dock.preview_button.click()
    idle(dock, qtbot)
    with Turns() as run, qtbot.waitSignal(working.finished, timeout=120_000):
        dock.run_button.click()
    for turns in (finding, first, run):
        assert turns.count > 10


def test_the_result_may_be_removed_while_it_is_filled(viewer, qtbot, path):
    dock = opened(viewer, path)
    working = running(dock, qtbot)
    viewer.layers.remove(working.target())
    idle(dock, qtbot)
    assert working.target() is None
    assert dock.run_button.isEnabled()


def test_the_projections_may_be_removed(viewer, qtbot, path):
    dock = opened(viewer, path)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    viewer.layers.remove(dock.layer_combo.layer())
    qtbot.waitUntil(lambda: dock.opened() is None)
    idle(dock, qtbot)
    qtbot.waitUntil(lambda: not dock.run_button.isEnabled())
    assert "Open projections" in dock.bar.state.text()
    assert all("preview" not in layer.name for layer in viewer.layers)


def test_a_stopped_run_ends_before_its_last_iteration(viewer, qtbot, path):
    dock = opened(viewer, path)
    working = running(dock, qtbot)
    qtbot.wait(200)
    dock.cancel_button.click()
    idle(dock, qtbot)
    assert working.busy == ""
    assert working.target() is None


def test_a_destroyed_dock_ends_its_run(viewer, qtbot, path):
    dock = opened(viewer, path)
    working = running(dock, qtbot)
    control = working._task.control
    frame = dock.parent()
    viewer.window.remove_dock_widget(frame)
    frame.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qtbot.waitUntil(control.ended.is_set, timeout=10_000)
    qtbot.wait(100)


SCRIPT = """
import sys, time
import napari
from qtpy.QtCore import QTimer

viewer = napari.Viewer()
viewer.open(sys.argv[2], plugin="napari-geosr")
from opening import opened
dock = opened(viewer, "Reconstruct")
dock.algorithm.combo.setCurrentIndex(dock.algorithm.combo.findData("tv"))
dock.algorithm.form.set_values({"iterations": 5000})
moment = sys.argv[1]
getattr(dock, moment + "_button").click()

def watch():
    working = dock.activity
    if working.busy != moment:
        return
    if moment == "run" and working.target() is None:
        return
    timer.stop()
    print("closing during", working.busy, flush=True)
    global began
    began = time.perf_counter()
    viewer.close()

timer = QTimer()
timer.timeout.connect(watch)
timer.start(20)
napari.run()
print(f"ended in {time.perf_counter() - began:.2f} s", flush=True)
"""


DEAF = """
import time
import napari
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget
from napari_geosr.gui.kit.worker import BackgroundTask

def compiles(_should_stop):
    time.sleep(4)
    yield from ()
    return 1

viewer = napari.Viewer()
dock = QWidget()
viewer.window.add_dock_widget(dock)
run = BackgroundTask(compiles, owner=dock)
QTimer.singleShot(100, viewer.close)
napari.run()
print("ended:", run.control.ended.is_set(), flush=True)
"""


def test_the_application_ends_after_a_worker_that_cannot_be_stopped():
    done = subprocess.run(
        [sys.executable, "-c", DEAF],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ended: True" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["preview", "run"])
def test_the_window_closes_in_the_middle(moment, path):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, moment, str(path)],
        env=opening.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"closing during {moment}" in done.stdout
    assert "ended in" in done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


def test_studies_are_created_when_their_section_opens(viewer, qtbot):
    """Without them, the dock opens faster."""
    _, frame = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    qtbot.waitUntil(lambda: frame.dock is not None, timeout=60_000)
    assert frame.dock.findChildren(StudyBox) == []
    frame.dock.study_section.set_open(True)
    (study,) = frame.dock.findChildren(StudyBox)
    assert study is frame.dock.study
    assert study.isVisibleTo(frame.dock)


def test_opening_the_study_does_not_move_the_buttons(viewer, qtbot, tmp_path):
    dock = opened(viewer, scan_file(tmp_path))
    idle(dock, qtbot)
    buttons = (dock.preview_button, dock.run_button, dock.cancel_button)

    def places():
        return [button.mapTo(dock, QPoint(0, 0)).y() for button in buttons]

    dock.study_section.button.setChecked(False)
    qtbot.wait(50)
    before = places()
    dock.study_section.button.setChecked(True)
    qtbot.waitUntil(dock.study.start_button.isVisible)
    qtbot.wait(50)
    assert places() == before
