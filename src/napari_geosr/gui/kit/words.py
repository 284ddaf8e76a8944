"""Durations and estimates in words. No Qt here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_geosr.core.config import format_bytes

if TYPE_CHECKING:
    from napari_geosr.jobs.estimate import TrainingEstimate


def duration(seconds: float) -> str:
    """Seconds in words with sensible digits: ``"12 s"``, ``"3 min"``, ``"2.5 h"``."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class TimeLeft:
    """Tells how long a run will still take, from how fast it went so far."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def restart(self) -> None:
        """Begin with another run."""
        self._began = None

    def text(self, done: int, total: int) -> str:
        """Give ``", 3 min left"``; nothing before it can be told."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        began, first = self._began
        if done <= first:
            return ""
        return f", {duration((now - began) / (done - first) * (total - done))} left"


def estimate_text(estimate: TrainingEstimate) -> str:
    """Time and memory of a training, and what else took part in the measurement."""
    text = (
        f"Estimate: {duration(estimate.seconds)} and "
        f"{format_bytes(estimate.memory)} of memory, from {estimate.steps} steps "
        "timed on this machine under its present load"
    )
    if not estimate.concurrent:
        return text
    names = " and ".join(repr(name) for name in estimate.concurrent)
    trains = "is training" if len(estimate.concurrent) == 1 else "are training"
    return (
        f"{text}. {names} {trains} at the same time. Alone it is faster, and once "
        "started it waits until the others have finished"
    )
