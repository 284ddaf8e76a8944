"""Read a job's folder in portions that take a few milliseconds each."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.folder import JobFolder, JobStatus

#: Number of bytes of events read at a time: a few hundred lines.
CHUNK_BYTES = 2**16
#: States in which a request may be pending. After ``finish``, the model is being
#: evaluated, which can itself be cancelled.
_PENDING_STATES = ("queued", "running", "finishing")


@dataclass
class LossCurve:
    """One kind of loss over the steps; NaN where the value was not finite."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Append a point; drop those from `step` on, which a resumed run repeats."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(value)


class JobWatch:
    """Follows one job.

    Attributes
    ----------
    curves : dict of str to LossCurve
        Losses by name, including ``"validation"``.
    progress : dict
        The last ``progress`` event.
    preview_step : int
        Step of the last preview; -1 before there is one.
    warnings : list of str
    stage : str
        Current stage, in a few words.
    status : JobStatus
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = JobFolder(path)
        self.curves: dict[str, LossCurve] = {}
        self.progress: AnyDict = {}
        self.preview_step = -1
        self.warnings: list[str] = []
        self.stage = ""
        self._offset = 0
        self._pending_request = ""
        self.status: JobStatus = self.folder.status()

    def read(self, max_seconds: float = 0.02) -> bool:
        """Read events for about `max_seconds`; return whether there are more."""
        deadline = time.monotonic() + max_seconds
        while True:
            events, offset = self.folder.events(self._offset, CHUNK_BYTES)
            if offset == self._offset:
                break
            self._offset = offset
            for event in events:
                self._apply_event(event)
            if time.monotonic() > deadline:
                return True
        self.status = self.folder.status()
        self._repeat_request()
        return False

    def _apply_event(self, event: AnyDict) -> None:
        kind = event.get("event")
        if kind == "progress":
            self.progress = event
            for name, value in event.get("losses", {}).items():
                known = value if math.isfinite(value) else math.nan
                self.curves.setdefault(name, LossCurve()).add(event["step"], known)
        elif kind == "preview":
            self.preview_step = int(event["step"])
        elif kind == "warning":
            if event["message"] not in self.warnings:  # resumed runs repeat warnings
                self.warnings.append(str(event["message"]))
        elif kind == "stage":
            self.stage = str(event["message"])

    # Requests by the user

    @property
    def pending_request(self) -> str:
        """The user's pending request, or an empty string."""
        return self._pending_request

    def request(self, what: Any) -> None:
        """Request ``"pause"``, ``"finish"`` or ``"cancel"``."""
        self._pending_request = what
        self.folder.request(what)

    def withdraw_request(self) -> None:
        """Withdraw the request."""
        self._pending_request = ""

    def _repeat_request(self) -> None:
        """Repeat the request if the job missed it because it had only just started."""
        if not self._pending_request:
            return
        state = self.status.state
        if state not in _PENDING_STATES or (
            state == "finishing" and self._pending_request == "finish"
        ):
            self._pending_request = ""
        elif not self.folder.pending_request() and self.status.state == "running":
            self.folder.request(self._pending_request)  # type: ignore[arg-type]
