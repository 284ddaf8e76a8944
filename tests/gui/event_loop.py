"""Whether the event loop goes on beside long work: else a window hangs.

Counted in turns, not in time: how long the loop is away is measured by
``benchmarks/bench_window.py``.
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
