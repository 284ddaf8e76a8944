"""Show the steps of an operation: stage, progress, time left, warnings; no Qt."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_geosr.core.config import format_bytes
from napari_geosr.core.steps import NoteIssued, StageStarted, Step, WarningIssued

if TYPE_CHECKING:
    from napari_geosr.jobs.estimate import TrainingEstimate


class OperationProgress:
    """Shows the steps of an operation through a dock's widgets.

    Pass `show_step` as `on_step` to an `Activity` or a `BackgroundTask`.

    Parameters
    ----------
    show_text : callable
        Shows the current stage.
    show_bar : callable, optional
        Shows the amount done and the total; both are 0 while unknown.
    show_warning : callable, optional
        Shows all warnings of the operation so far, as soon as another one is issued.
    shows_time_left : bool
        Show percentage and remaining time after the stage.
    spans_stages : bool
        Whether `done` and `total` of the steps refer to all stages together. If so, the
        bar and the remaining time are not reset when a stage starts.
    ending : str
        Text after the name of a stage.

    Attributes
    ----------
    warnings : list of str
        Warnings since the last `restart`.
    notes : list of str
        Notes since the last `restart`; only the owner of this object shows them.
    """

    def __init__(
        self,
        show_text: Callable[[str], None],
        *,
        show_bar: Callable[[int, int], None] | None = None,
        show_warning: Callable[[str], None] | None = None,
        shows_time_left: bool = False,
        spans_stages: bool = False,
        ending: str = "…",
    ) -> None:
        self._show_text, self._ending = show_text, ending
        self._show_bar, self._show_warning = show_bar, show_warning
        self._shows_time_left, self._spans_stages = shows_time_left, spans_stages
        self._stage = ""
        self._time_left = RemainingTime()
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def restart(self) -> None:
        """Discard the messages and the speed of the previous operation."""
        self.warnings, self.notes = [], []
        self._time_left.restart()

    def show_step(self, step: Step) -> None:
        """Show a new stage, a warning, or the amount done."""
        if isinstance(step, StageStarted):
            self._start_stage(step.message)
        elif isinstance(step, NoteIssued):
            self.notes.append(step.message)
        elif isinstance(step, WarningIssued):
            self.warnings.append(step.message)
            if self._show_warning is not None:
                self._show_warning(" ".join(dict.fromkeys(self.warnings)))
        elif step.total:
            self._show_count(step.done, step.total)

    def _start_stage(self, name: str) -> None:
        self._stage = name
        self._show_text(f"{name}{self._ending}")
        if self._spans_stages:
            return
        self._time_left.restart()
        if self._show_bar is not None:
            self._show_bar(0, 0)

    def _show_count(self, done: int, total: int) -> None:
        if self._show_bar is not None:
            self._show_bar(done, total)
        if self._shows_time_left:
            left = self._time_left.text(done, total)
            self._show_text(f"{self._stage}: {100 * done // total} %{left}")


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
        """Return text such as ``", 3 min left"``; empty if unknown or at the end."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        began, first = self._began
        if not first < done < total:
            return ""
        return (
            f", {format_duration((now - began) / (done - first) * (total - done))} left"
        )


def format_estimate(estimate: TrainingEstimate) -> str:
    """Describe the time and memory of a training run, and jobs that slow it down."""
    text = (
        f"Estimate: {format_duration(estimate.seconds)} and "
        f"{format_bytes(estimate.memory)} of memory, from {estimate.steps} steps "
        "timed on this computer under its current load"
    )
    if not estimate.concurrent:
        return text
    names = " and ".join(repr(name) for name in estimate.concurrent)
    if len(estimate.concurrent) == 1:
        run, ended = "was running", "that job has finished"
    else:
        run, ended = "were running", "those jobs have finished"
    return (
        f"{text}. {names} {run} at the same time, so the training itself will be "
        f"faster; it starts when {ended}"
    )
