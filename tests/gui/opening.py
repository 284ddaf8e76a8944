"""Opens docks as a user does, and waits until they are ready."""

from __future__ import annotations

import os
import time
from pathlib import Path

from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_geosr.gui.kit.dock_tabs import PLUGIN, RESTORE, menu_name
from napari_geosr.gui.kit.frame import open_dock


def opened(viewer, name: str = RESTORE):
    """Open the dock called `name`, and return what fills its frame."""
    frame = viewer.window.dock_widgets.get(menu_name(name))  # from another dock
    if frame is None:
        _, frame = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    return filled(frame)


def in_front(viewer, name: str):
    """Open a dock from another one, in front of it."""
    return filled(open_dock(viewer, name))


def filled(frame):
    """Wait for the dock of a frame."""
    deadline = time.monotonic() + 60
    while frame.dock is None:
        assert not frame.message.text, frame.message.text
        assert time.monotonic() < deadline, "the dock was not imported in a minute"
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
    if getattr(frame, "dock_name", "").endswith("ReconstructDock"):
        assert frame.dock.study is not None  # created when the section is opened
    return frame.dock


def environment() -> dict[str, str]:
    """Environment for a script in a separate process that uses this module."""
    paths = str(Path(__file__).parent), os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def asked_where(dock, qtbot):
    """Press *Run on a cluster…* in the Restore dock when its run is prepared.

    Until then the dock sends nothing.
    """
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=30_000)
    dock.cluster.widget.click()
    return dock.cluster.dialog
