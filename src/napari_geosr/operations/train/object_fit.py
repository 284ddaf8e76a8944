"""Networks that are fitted to the data of one object: common settings and loop.

The result of such a fit is a volume, not a model. GANrec is fitted to projections, and
``pinn-sim`` to the raw frames of structured illumination.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping

import psutil
from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.steps import (
    CheckpointSaved,
    PreviewReady,
    ShouldStop,
    Step,
    TrainingProgress,
)
from napari_geosr.learning.energy import Meter

#: Minimum time between two progress reports, in seconds.
_REPORT_SECONDS = 0.5
#: Minimum time between two previews, in seconds.
_PREVIEW_SECONDS = 3.0


class ObjectFitConfig(Config):
    """Settings shared by all networks that are fitted to one object."""

    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same result.",
    )
    checkpoint_seconds: float = Field(
        30.0,
        gt=0,
        le=60,
        title="Checkpoint",
        description="Seconds between checkpoints: a crash loses at most this much "
        "work.",
    )
    country: str = Field(
        "FRA",
        pattern=r"^[A-Z]{3}$",
        title="Country",
        description="Country (three-letter ISO code); CO2 emissions are estimated "
        "from its electricity mix.",
    )


class ObjectFit(ABC):
    """A fit that reports its progress, shows previews and saves checkpoints.

    Parameters
    ----------
    meter : Meter
        Measures the power.
    checkpoint_seconds : float
        Seconds between two checkpoints.
    """

    #: Number of images fitted in each step, for the reported speed.
    images_per_step: int = 1

    def __init__(self, meter: Meter, checkpoint_seconds: float) -> None:
        self.meter, self.checkpoint_seconds = meter, checkpoint_seconds
        self._timer = _EventTimer()
        self._first: int | None = None

    @property
    @abstractmethod
    def done(self) -> int:
        """Number of steps done."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Total number of steps."""

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """Learning rate of the last step."""

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether the fit of the current network is finished."""

    @abstractmethod
    def step(self) -> Mapping[str, float]:
        """Perform one step and return its losses."""

    @abstractmethod
    def preview(self) -> PreviewReady:
        """Return the current state of the object."""

    @abstractmethod
    def save(self) -> CheckpointSaved:
        """Write a checkpoint."""

    def loop_steps(self, should_stop: ShouldStop) -> Generator[Step, None, None]:
        """Fit the current network until it is finished or `should_stop` returns True.

        Yields
        ------
        Step
            `TrainingProgress`, `PreviewReady` and `CheckpointSaved` at their intervals.
        """
        if self._first is None:
            self._first, self._timer = self.done, _EventTimer()
        yield self.preview()
        sums: dict[str, float] = {}
        n = 0
        while not self.is_fitted and not should_stop():
            for name, value in self.step().items():
                sums[name] = sums.get(name, 0.0) + value
            n += 1
            if self._timer.is_due("report", _REPORT_SECONDS) or self.is_fitted:
                yield self._progress({name: value / n for name, value in sums.items()})
                sums, n = {}, 0
            if self._timer.is_due("preview", _PREVIEW_SECONDS):
                yield self.preview()
            if self._timer.is_due("checkpoint", self.checkpoint_seconds):
                yield self.save()

    def _progress(self, losses: Mapping[str, float]) -> TrainingProgress:
        steps = self.done - (self._first or 0)
        speed = max(steps, 1) / max(self._timer.elapsed, 1e-6)
        return TrainingProgress(
            self.done,
            self.total,
            losses=losses,
            learning_rate=self.learning_rate,
            images_per_second=speed * self.images_per_step,
            seconds_left=(self.total - self.done) / speed,
            memory=int(psutil.Process().memory_info().rss),
            watts=self.meter.watts(),
        )


class _EventTimer:
    """Measures the time since the last event of each kind."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def is_due(self, what: str, seconds: float) -> bool:
        """Return whether `seconds` have passed since the last event of this kind."""
        now = time.monotonic()
        if now - self._last.get(what, self._began) < seconds:
            return False
        self._last[what] = now
        return True
