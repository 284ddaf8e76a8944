"""How long the event loop is away: what people feel as a window that hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from qtpy.QtCore import QTimer


class Gaps:
    """Times between two turns of the event loop, in milliseconds.

    Measured while the context is open; `found` has them all, in order.
    """

    def __init__(self) -> None:
        self.found: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.found.append(1000 * (now - self._last))
        self._last = now

    def __enter__(self) -> Gaps:
        self._last = time.perf_counter()
        self._timer.start(2)
        return self

    def __exit__(self, *_: object) -> None:
        self._tick()
        self._timer.stop()

    @property
    def longest(self) -> float:
        return max(self.found)

    @property
    def high(self) -> float:
        """What 95 % of the gaps stay below."""
        return float(np.percentile(self.found, 95))

    def __str__(self) -> str:
        return (
            f"event-loop gaps median {np.median(self.found):.1f} ms, 95 % "
            f"{self.high:.1f} ms, longest {self.longest:.0f} ms of {len(self.found)}"
        )


def crowding() -> float:
    """By how much other processes slow this one down: jobs per core, at least 1.

    Targets are for an idle machine. Where others want the cores as well, the window
    waits its turn like everybody. The mean over a minute is late to notice them, so
    those that run at this moment count as well.
    """
    jobs = os.getloadavg()[0]
    now = Path("/proc/loadavg")
    if now.exists():
        jobs = max(jobs, int(now.read_text().split()[3].split("/")[0]))
    return max(1.0, jobs / (os.cpu_count() or 1))
