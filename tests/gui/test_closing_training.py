"""Users who close a dock or the window during training are informed or asked once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import tifffile
from opening import environment
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication
from train_helpers import JOBS, SMALL, opened

from napari_geosr.gui.jobs import JobsDock
from napari_geosr.gui.kit import closing as _closing
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.kit.dock_tabs import dock_of
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.train import TrainJob, config_class


@pytest.fixture
def running(tmp_path) -> JobFolder:
    """A job that this process seems to be running."""
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(tmp_path / "foam", values, name="foam")
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "done": 5, "total": 9}
    job.set_state("running", started=psutil.Process().create_time(), **facts)
    index.register(job)
    return job


class Close:
    """A close event; Qt itself creates those of the window manager."""

    def __init__(self, spontaneous: bool) -> None:
        self._spontaneous, self.accepted = spontaneous, True

    def type(self):
        return QEvent.Type.Close

    def spontaneous(self):
        return self._spontaneous

    def ignore(self):
        self.accepted = False


def watching(viewer, qtbot, job):
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.state == "running", timeout=10_000)
    closing = closing_of(dock)
    assert closing is closing_of(dock)
    return closing


def test_closing_the_window_asks_once(viewer, qtbot, running, monkeypatch):
    window = viewer.window._qt_window
    closing = watching(viewer, qtbot, running)
    answers, closed = ["stay", "pause"], []
    asked = []

    def ask(jobs, _parent):
        asked.extend(jobs)
        return answers.pop(0)

    monkeypatch.setattr(_closing, "ask", ask)
    # Records deferred calls, and closes nothing.
    timer = SimpleNamespace(singleShot=lambda _ms, call: closed.append(call.__name__))
    monkeypatch.setattr(_closing, "QTimer", timer)
    assert not closing.eventFilter(window, Close(spontaneous=False))
    assert asked == []  # a script closes the window, so nobody could answer
    first = Close(spontaneous=True)
    assert closing.eventFilter(window, first)
    assert not first.accepted
    qtbot.wait(20)
    assert (len(asked), closed, running.pending_request()) == (1, [], "")
    assert closing.eventFilter(window, Close(spontaneous=True))
    assert closed == ["close"]
    assert running.pending_request() == "pause"
    assert not closing.eventFilter(window, Close(spontaneous=True))
    assert len(asked) == 2


def test_a_job_shown_before_the_dock_is_in_the_window_is_asked_about(
    viewer, qtbot, running, monkeypatch
):
    monkeypatch.setattr("napari_geosr.gui.jobs.view._READ_MS", 10**6)
    dock = JobsDock(viewer)  # a busy computer inserts it later
    qtbot.waitUntil(lambda: dock.view.state == "running", timeout=10_000)
    assert closing_of(dock) is None
    viewer.window.add_dock_widget(dock, name="jobs")
    qtbot.waitUntil(dock.view.isVisible, timeout=5000)
    asked = []
    monkeypatch.setattr(_closing, "ask", lambda jobs, _parent: asked.extend(jobs))
    closing_of(dock).ask()
    assert [job.path for job in asked] == [running.path]


def test_a_job_that_waits_in_a_queue_is_not_asked_about(
    viewer, qtbot, running, monkeypatch
):
    """It would remain "pausing" in the queue, and pause as soon as it is started."""
    closing = watching(viewer, qtbot, running)
    queue_record.write_record(running.path, QueueRecord("slurm", "SLURM", "12"))
    running.set_state("queued", pid=0, host="")
    monkeypatch.setattr(_closing, "ask", lambda *_: "pause")
    assert closing.ask() == ""
    assert running.pending_request() == ""


def menu_action(viewer, title: str):
    (found,) = (
        action
        for action in viewer.window.file_menu.actions()
        if action.text().replace("&", "") == title
    )
    return found


@pytest.mark.parametrize(("title", "quits"), [("Exit", True), ("Close Window", False)])
def test_the_file_menu_asks_as_well(viewer, qtbot, running, monkeypatch, title, quits):
    watching(viewer, qtbot, running)
    window = viewer.window._qt_window
    monkeypatch.setattr(QApplication, "activeWindow", lambda: window)
    closed = []
    close = lambda _window, **how: closed.append(how)  # noqa: E731
    monkeypatch.setattr(type(window), "close", close)
    answers, asked = ["stay", "close"], []

    def ask(jobs, _parent):
        asked.extend(job.path for job in jobs)
        return answers.pop(0)

    monkeypatch.setattr(_closing, "ask", ask)
    action = menu_action(viewer, title)
    action.trigger()
    assert (asked, closed) == ([running.path], [])
    action.trigger()
    # napari does not ask a second time.
    assert closed == [{"quit_app": quits, "confirm_need": False}]
    assert running.pending_request() == ""
    action.trigger()
    assert closed[1:] == [{"quit_app": quits, "confirm_need": True}]
    assert len(asked) == 2
    monkeypatch.undo()


def test_exit_asks_for_the_jobs_of_all_windows(
    make_napari_viewer, qtbot, running, monkeypatch
):
    first, second = (make_napari_viewer(show=True) for _ in range(2))
    watching(first, qtbot, running)
    closing = closing_of(second.window._qt_window)
    asked = []

    def ask(jobs, _parent):
        asked.append([job.path for job in jobs])
        return "pause"

    monkeypatch.setattr(_closing, "ask", ask)
    assert closing.ask() == ""
    assert closing.ask(everywhere=True) == "pause"
    assert asked == [[running.path]]
    assert running.pending_request() == "pause"
    assert closing_of(first.window._qt_window).ask() == ""


SCRIPT = """
import sys
import napari
from qtpy.QtCore import QTimer
from napari_geosr.jobs import local
from napari_geosr.jobs.folder import JobFolder

job = JobFolder(sys.argv[1])
viewer = napari.Viewer()
from opening import opened
dock = opened(viewer, "Jobs")
local.start(job)

def watch():
    if dock.view.state == "running" and dock.view.plot.n_points() > 2:
        timer.stop()
        viewer.close()

timer = QTimer()
timer.timeout.connect(watch)
timer.start(20)
napari.run()
"""


@pytest.mark.slow  # for other kinds of jobs, see test_closing_runs.py
def test_napari_ends_well_and_the_training_goes_on(tmp_path):
    rng = np.random.default_rng(0)
    scans = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    files = {"source": [scans[0]], "target": [scans[1]]}
    config = config_class("noise2noise").create(
        **files, **SMALL | {"patch": 24}, steps=10**6, device="cpu"
    )
    values = TrainJob(method="noise2noise", training=config).to_values()
    job = JobFolder.create(tmp_path / "job", values, name="foam")
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(job.path)]
    ended = subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    try:
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert "Traceback" not in ended.stderr, ended.stderr[-3000:]
        assert job.status().state == "running"
        known, deadline = len(job.events()[0]), time.monotonic() + 60
        while len(job.events()[0]) <= known:
            assert time.monotonic() < deadline, "it did not go on"
            time.sleep(0.05)
    finally:
        job.request("cancel")
        with suppress(psutil.NoSuchProcess):
            psutil.Process(job.status().pid).wait(60)
    assert job.status().state == "cancelled"


CLOSE_SCRIPT = """
import os, socket, sys
import napari, numpy as np, psutil
from napari._qt import qt_main_window
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QMenu
from napari_geosr.gui.kit import closing
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder

folder, way = sys.argv[1:]
job = JobFolder.create(folder, {"operation": "train", "method": "noise2noise",
                                "training": {}}, name="foam")
job.set_state("running", started=psutil.Process().create_time(), pid=os.getpid(),
              host=socket.gethostname(), done=5, total=9)
index.register(job)
answers = ["stay", "pause"]

def ask(jobs, parent):
    print("asked", [job.status().name for job in jobs], flush=True)
    return answers.pop(0)

def napari_asks(*_args, **_how):
    print("napari asked", flush=True)
    raise SystemExit(3)

closing.ask = ask
qt_main_window.ConfirmCloseDialog = napari_asks
viewer = napari.Viewer()
viewer.add_image(np.zeros((4, 8, 8)))
from opening import opened
from window_button import press_close_button
dock = opened(viewer, "Jobs")
window = viewer.window._qt_window

def close():
    if way == "button":
        press_close_button(window)
        return
    (action,) = {
        action
        for menu in window.findChildren(QMenu)
        for action in menu.actions()
        if action.text().replace("&", "") == way
    }
    window.activateWindow()
    QApplication.activeWindow = lambda: window
    action.trigger()

def watch():
    if dock.view.state != "running":
        return
    if len(answers) == 2:
        close()
        timer.start(1000)  # the button's message comes by the display server
    elif answers:
        print("stays", window.isVisible(), repr(job.pending_request()), flush=True)
        timer.stop()
        close()

timer = QTimer()
timer.timeout.connect(watch)
timer.start(50)
napari.run()
print("ended", job.pending_request(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.every(3)  # the commands of the menu, see above
@pytest.mark.parametrize("way", ["button", "Close Window", "Exit"])
def test_napari_asks_about_a_job_in_our_words_and_closes(tmp_path, way):
    command = [sys.executable, "-X", "faulthandler", "-c", CLOSE_SCRIPT]
    done = subprocess.run(
        [*command, str(tmp_path / "foam"), way],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines == ["asked ['foam']", "stays True ''", "asked ['foam']", "ended pause"]


def test_nothing_is_asked_when_nothing_runs(viewer, qtbot, running, monkeypatch):
    closing = watching(viewer, qtbot, running)
    running.set_state("done")
    monkeypatch.setattr(_closing, "ask", lambda *_: pytest.fail("asked"))
    window = viewer.window._qt_window
    assert not closing.eventFilter(window, Close(spontaneous=True))


def test_closing_the_dock_tells_it(viewer, qtbot, running, monkeypatch):
    closing = watching(viewer, qtbot, running)
    monkeypatch.setattr(_closing, "ask", lambda *_: pytest.fail("asked"))
    told = []
    monkeypatch.setattr(_closing, "show_info", told.append)
    dock_of(opened(viewer, JOBS).view).destroyOnClose()
    qtbot.waitUntil(lambda: told != [], timeout=5000)
    assert "'foam' will keep training in the background" in told[0]
    window = viewer.window._qt_window
    assert not closing.eventFilter(window, Close(spontaneous=True))
    assert running.pending_request() == ""


def test_the_question_has_three_answers(viewer, qtbot, running, monkeypatch):
    from qtpy.QtWidgets import QMessageBox

    texts = []
    for label, answer in (("Close", "close"), ("Pause", "pause"), ("Cancel", "stay")):

        def exec_(box, label=label):
            texts.append(box.text())
            found = {b.text().replace("&", ""): b for b in box.buttons()}
            next(b for name, b in found.items() if name.startswith(label)).click()

        monkeypatch.setattr(QMessageBox, "exec", exec_)
        assert _closing.ask([running], viewer.window._qt_window) == answer
    assert "'foam' will keep training in the background" in texts[0]
