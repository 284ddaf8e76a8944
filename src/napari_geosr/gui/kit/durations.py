"""Durations and estimates in words, without Qt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_geosr.core.config import format_bytes

if TYPE_CHECKING:
    from napari_geosr.jobs.estimate import TrainingEstimate


def format_duration(seconds: float) -> str:
    """Format seconds with few digits: ``"12 s"``, ``"3 min"``, ``"2.5 h"``."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class RemainingTime:
    """Estimates the remaining time of a run from its speed so far."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def restart(self) -> None:
        """Start timing another run."""
        self._began = None

    def text(self, done: int, total: int) -> str:
        """Return e.g. ``", 3 min left"``; empty until it can be estimated."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        began, first = self._began
        if done <= first:
            return ""
        return (
            f", {format_duration((now - began) / (done - first) * (total - done))} left"
        )


def format_estimate(estimate: TrainingEstimate) -> str:
    """Describe time and memory of a training run, and other runs at that time."""
    text = (
        f"Estimate: {format_duration(estimate.seconds)} and "
        f"{format_bytes(estimate.memory)} of memory, from {estimate.steps} steps "
        "timed on this machine under its current load"
    )
    if not estimate.concurrent:
        return text
    names = " and ".join(repr(name) for name in estimate.concurrent)
    trains = "is training" if len(estimate.concurrent) == 1 else "are training"
    return (
        f"{text}. {names} {trains} at the same time. The run would be faster on "
        "its own; once started, it waits until the others have finished"
    )
