"""Schedule reports and previews, and estimate the remaining time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from napari_geosr.core.steps import TrainingProgress

#: Minimum time between two reports, and between two previews, in seconds.
_REPORT_SECONDS = 0.5
_PREVIEW_SECONDS = 3.0
#: Maximum fraction of the training time spent on previews.
_MAX_PREVIEW_SHARE = 0.05


class MeanLosses:
    """Weighted means of named losses, each over the batches that have this loss.

    Examples
    --------
    >>> means = MeanLosses()
    >>> for losses in ({"loss": 1.0}, {}, {"loss": 3.0}):
    ...     means.add(losses)
    >>> means.values()
    {'loss': 2.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, losses: Mapping[str, float], weight: float = 1.0) -> None:
        """Add the losses of a batch; means of losses that it lacks are unchanged."""
        for name, value in losses.items():
            total, weights = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = total + value * weight, weights + weight

    def values(self) -> dict[str, float]:
        """Return the means by name; empty if no batch had a loss."""
        return {name: total / weights for name, (total, weights) in self._sums.items()}


class Clock:
    """Schedules reports and previews, and estimates the remaining time.

    Parameters
    ----------
    step : int
        Step at which the count starts.
    steps : int
        Number of steps of the whole training run.
    batch_size : int
        Number of patches per step.
    """

    def __init__(self, step: int, steps: int, batch_size: int) -> None:
        self.first_step, self.steps, self.batch_size = step, steps, batch_size
        self.began = self.last_report = time.monotonic()
        #: Time and number of steps at the first report. Earlier steps are slower.
        self._warm: tuple[float, int] | None = None
        self.sums: dict[str, float] = {}
        #: Number of steps since the last report, in total and by name of the loss.
        self.n_counted = 0
        self.counts: dict[str, int] = {}
        #: Last validation loss since the last report; NaN if no block has a loss.
        self.validation: float | None = None
        #: Duration in seconds of the last preview, and of all previews together.
        self.preview_seconds = self.all_previews = 0.0
        self.last_preview = self.began

    def start(self) -> None:
        """Start timing, excluding the time that the first preview took."""
        self.began = self.last_report = self.last_preview = time.monotonic()
        self.all_previews = 0.0

    def add_losses(self, losses: dict[str, float]) -> None:
        """Add the losses of one step."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self.n_counted += 1

    def is_report_due(self, now: float) -> bool:
        return now - self.last_report >= _REPORT_SECONDS or self.validation is not None

    def is_preview_due(self, now: float) -> bool:
        """Whether a preview is due and stays within the previews' share of the time.

        The estimate includes the final preview.
        """
        if now - self.last_preview < _PREVIEW_SECONDS:
            return False
        expected = self.all_previews + 2 * self.preview_seconds
        return expected <= _MAX_PREVIEW_SHARE * (now - self.began)

    def add_preview_time(self, seconds: float) -> None:
        """Add the time of a preview, including its display."""
        self.preview_seconds = seconds
        self.all_previews += seconds
        self.last_preview = time.monotonic()

    def report(
        self, now: float, step: int, rate: float, memory: int, watts: float | None
    ) -> TrainingProgress:
        """Summarise the steps since the last report, and start a new report.

        Parameters
        ----------
        now : float
            Time of the monotonic clock in seconds.
        step : int
            Number of steps done.
        rate : float
            Learning rate.
        memory : int
            Memory used for training, in bytes.
        watts : float, optional
            Power consumption of the machine, if it is measured.
        """
        losses = {name: s / self.counts[name] for name, s in self.sums.items()}
        if self.validation is not None and not math.isnan(self.validation):
            losses["validation"] = self.validation
        began, first = self._warm or (self.began, self.first_step)
        per_step = (now - began) / max(1, step - first)
        self._warm = self._warm or (now, step)
        speed = self.n_counted * self.batch_size / max(now - self.last_report, 1e-6)
        self.sums, self.n_counted, self.validation = {}, 0, None
        self.counts = {}
        self.last_report = now
        return TrainingProgress(
            step,
            self.steps,
            losses=losses,
            learning_rate=rate,
            images_per_second=speed,
            seconds_left=per_step * (self.steps - step),
            memory=memory,
            watts=watts,
        )
