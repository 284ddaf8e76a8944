"""Progress of a job in tiles or parts, with the time left."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from contextlib import suppress

from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import (
    IterationDone,
    PartDone,
    StageStarted,
    Step,
    TileDone,
)
from napari_geosr.jobs.folder import JobFolder

#: Minimum time between two events, in seconds.
_INTERVAL_SECONDS = 5.0
#: Time span of the steps from which the speed is estimated, in seconds; it is extended
#: if it contains fewer than `_MIN_STEPS` steps.
_WINDOW_SECONDS = 60.0
#: Minimum number of recorded steps from which the speed is estimated.
_MIN_STEPS = 5
#: Minimum time between two recorded steps, in seconds.
_SPACING_SECONDS = 0.5


class Speed:
    """Records a job's progress in tiles or parts, and the time left.

    Training runs report their progress themselves.

    The time left is estimated without the time until the first tile, in which the model
    is loaded and workers are started, and without the tiles of an earlier stage. Other
    work between tiles, such as the prediction of a model's effect, is not counted
    either: after it, the stage of the tiles is announced again, with the number of
    tiles already done.
    """

    def __init__(self) -> None:
        #: Times and counts of the latest steps, by kind of step and total number.
        self._latest: defaultdict[tuple[type[Step], int], deque[tuple[float, int]]]
        self._latest = defaultdict(deque)
        self._due = 0.0

    def record(self, job: JobFolder, step: Step) -> None:
        """Append the progress of the job, at intervals and at the end.

        A failed write is ignored, because the job's state also records the progress.
        """
        if isinstance(step, StageStarted) and step.done:
            self._restart(step)
        if not isinstance(step, TileDone | PartDone | IterationDone):
            return
        now = time.monotonic()
        left = self._seconds_left(now, step)
        if now < self._due and step.done < step.total:
            return
        self._due = now + _INTERVAL_SECONDS
        text = step.text if isinstance(step, IterationDone) else ""
        with suppress(FileError):
            job.append(
                "progress",
                step=step.done,
                total=step.total,
                losses={},
                seconds_left=None if left is None else round(left, 1),
                **({"what": text} if text else {}),
            )

    def _restart(self, stage: StageStarted) -> None:
        """Restart the clock of a stage that resumes after an interruption."""
        now = time.monotonic()
        for (_, total), latest in self._latest.items():
            if total == stage.total:
                latest.clear()
                latest.append((now, stage.done))

    def _seconds_left(self, now: float, step: Step) -> float | None:
        """Return the time left according to the latest steps; None if unknown."""
        # Steps of different kinds alternate, such as slices and their iterations.
        latest = self._latest[type(step), step.total]
        if latest and step.done < latest[-1][1]:
            latest.clear()  # a new stage has begun
        if not latest or now - latest[-1][0] >= _SPACING_SECONDS:
            latest.append((now, step.done))
        while len(latest) > _MIN_STEPS and now - latest[0][0] > _WINDOW_SECONDS:
            latest.popleft()
        began, first = latest[0]
        if step.done <= first:
            return None
        return (now - began) / (step.done - first) * (step.total - step.done)
