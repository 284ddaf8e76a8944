"""Docks appear at once, and are filled when a worker has imported them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import ClassVar

import pytest
from opening import PLUGIN, filled, opened
from qtpy.compat import isalive
from qtpy.QtWidgets import QLabel

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import StageStarted
from napari_geosr.gui.docks import ModelsFrame
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.dock_tabs import MODELS
from napari_geosr.gui.kit.frame import DockFrame

HEAVY = """
import sys
import napari.layers, napari.qt.threading, napari.utils
import napari_geosr.gui.docks
heavy = ("torch", "pyqtgraph", "cyclopts", "zarr", "pandas")
found = [m for m in sys.modules if m.split(".")[0] in heavy]
rooms = ("restore", "train", "models", "jobs", "pairs", "reconstruct", "porosity")
found += [m for m in sys.modules if m.startswith("napari_geosr.operations")]
ours = tuple("napari_geosr.gui." + room for room in rooms)
found += [m for m in sys.modules if m.startswith(ours)]
print(found)
"""


class SlowDock(Dock):
    """A dock whose import is controlled by a test."""

    may_go_on = threading.Event()
    threads: ClassVar[list[threading.Thread]] = []
    fails = False

    def __init__(self, napari_viewer):
        super().__init__(napari_viewer)
        self.text = QLabel("here", self)

    @classmethod
    def load_steps(cls):
        cls.threads.append(threading.current_thread())
        yield StageStarted(message="Reading the models")
        yield StageStarted(message="Reading the models")
        assert cls.may_go_on.wait(60)
        if cls.fails:
            raise GeoSRError("A part of the dock cannot be imported.")


@pytest.fixture
def frame_class():
    class SlowFrame(DockFrame):
        @classmethod
        def dock_class(cls):
            return SlowDock

    SlowDock.may_go_on.clear()
    SlowDock.threads.clear()
    SlowDock.fails = False
    yield SlowFrame
    SlowDock.may_go_on.set()


def test_nothing_heavy_is_imported_with_the_frames():
    done = subprocess.run(
        [sys.executable, "-c", HEAVY], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_docks_open_without_what_only_runs_need():
    code = (
        "import sys, napari_geosr.gui.models, napari_geosr.gui.pairs\n"
        "late = {'torch', 'SimpleITK', 'spandrel', 'bioimageio', 'onnx'}\n"
        "assert not late & sys.modules.keys(), late & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dock_is_shown_before_it_is_read_in_another_thread(
    viewer, qtbot, frame_class
):
    frame = frame_class(viewer)
    area = viewer.window.add_dock_widget(frame)
    qtbot.waitUntil(lambda: frame.label.text() == "Reading the models…")
    assert frame.isVisible()
    assert frame.dock is None
    qtbot.waitUntil(lambda: area.width() >= frame.minimumWidth() > 0)
    width = area.width()
    SlowDock.may_go_on.set()
    dock = filled(frame)
    assert dock.isVisible()
    assert not frame.label.isVisible()
    assert area.width() == width
    qtbot.waitUntil(lambda: dock.size() == frame.size())
    assert SlowDock.threads[0] is not threading.main_thread()
    again = frame_class(viewer)
    assert again.dock is not None  # available at once, because nothing is read twice
    assert len(SlowDock.threads) == 1


def test_who_waits_for_a_dock_is_called_once(viewer, qtbot, frame_class):
    frame = frame_class(viewer)
    viewer.window.add_dock_widget(frame)
    said = []
    frame.when_filled(said.append)
    assert said == []
    SlowDock.may_go_on.set()
    dock = filled(frame)
    frame.when_filled(said.append)
    assert said == [dock, dock]


def test_why_a_dock_cannot_be_opened_is_said_in_its_place(viewer, qtbot, frame_class):
    SlowDock.fails = True
    frame = frame_class(viewer)
    viewer.window.add_dock_widget(frame)
    SlowDock.may_go_on.set()
    qtbot.waitUntil(lambda: "cannot be imported" in frame.message.text)
    assert not frame.label.isVisible()
    assert frame.dock is None


def test_a_frame_may_be_closed_before_it_is_filled(viewer, qtbot, frame_class):
    frame = frame_class(viewer)
    viewer.window.add_dock_widget(frame)
    qtbot.waitUntil(lambda: bool(SlowDock.threads))
    threading.Timer(0.1, SlowDock.may_go_on.set).start()
    viewer.window.remove_dock_widget(frame)
    frame.close()
    frame.deleteLater()
    qtbot.wait(200)


def test_a_dock_that_is_made_goes_with_its_frame(viewer, qtbot, frame_class):
    SlowDock.may_go_on.set()
    frame = frame_class(viewer)
    viewer.window.add_dock_widget(frame)
    qtbot.waitUntil(lambda: frame._pending_dock is not None or frame.dock is not None)
    made = frame._pending_dock or frame.dock
    assert made.parent() is frame


def test_the_manifest_opens_a_frame(viewer):
    dock = opened(viewer, MODELS)
    _, frame = viewer.window.add_plugin_dock_widget(PLUGIN, MODELS)
    assert isinstance(frame, ModelsFrame)
    assert frame.dock is dock


def test_a_dock_goes_with_a_frame_that_is_closed_before_it_adopts_it(
    viewer, qtbot, frame_class, monkeypatch
):
    monkeypatch.setattr(frame_class, "_adopt_dock", lambda _self: None)
    SlowDock.may_go_on.set()
    frame = frame_class(viewer)
    viewer.window.add_dock_widget(frame)
    qtbot.waitUntil(lambda: frame._pending_dock is not None)
    made = frame._pending_dock
    assert made.parent() is None
    viewer.window.remove_dock_widget(frame)
    frame.deleteLater()
    qtbot.waitUntil(lambda: not isalive(made))
