"""The window of napari in benchmarks: docks, waiting, and gaps in the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-geosr"
POROSITY = "Porosity"
#: Longest acceptable gap, in milliseconds.
TARGET = 50.0


class Gaps:
    """Times between two iterations of the event loop, in milliseconds."""

    def __init__(self) -> None:
        self.found: list[float] = []
        #: CPU time of this thread in each gap, excluding that of other programs.
        self.worked: list[float] = []
        self._last, self._last_worked = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.found.append(1000 * (now - self._last))
        worked = time.thread_time()
        self.worked.append(1000 * (worked - self._last_worked))
        self._last, self._last_worked = now, worked

    def __enter__(self) -> Gaps:
        self._last, self._last_worked = time.perf_counter(), time.thread_time()
        self._timer.start(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._tick()
        self._timer.stop()


def wait(seconds: float) -> None:
    """Process events for some time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)


def wait_until(what: str, is_so: Callable[[], bool], seconds: float = 120.0) -> None:
    """Process events until a condition is true; raise `TimeoutError` if it never is."""
    end = time.perf_counter() + seconds
    while not is_so():
        if time.perf_counter() > end:
            raise TimeoutError(f"{what}: not in {seconds:g} s")
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)


def opened(viewer: Any, name: str) -> Any:
    """Open a dock, and wait until it is complete."""
    _, frame = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    wait_until(name, lambda: frame.dock is not None)
    wait(0.2)
    return frame.dock
