"""Checks that the event loop runs during long operations; otherwise a window hangs.

Turns are counted instead of time; ``benchmarks/bench_window.py`` measures how long the
loop is blocked.
"""

from __future__ import annotations

from qtpy.QtCore import QTimer


class Turns:
    """Counts turns of the event loop while the context is open."""

    def __init__(self) -> None:
        self.count = 0
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        self.count += 1

    def __enter__(self) -> Turns:
        self._timer.start(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
