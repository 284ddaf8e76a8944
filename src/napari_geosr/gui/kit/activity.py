"""Run the operations of a dock, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, TypeVar

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import Cancelled, EngineError, GeoSRError
from napari_geosr.core.steps import StageStarted, Step, WarningIssued
from napari_geosr.gui.kit.closing import watch_window_of
from napari_geosr.gui.kit.worker import BackgroundTask, MakeSteps

T = TypeVar("T")

#: Identifies everything that a result depends on: equal keys give equal results.
Key = tuple[object, ...]
#: Name of the preview operation; *Cancel* does not switch off its toggle button.
PREVIEW = "preview"


class Activity(QObject):
    """Runs one operation at a time for its owner; the latest request has priority.

    The base class runs what is passed to `start`. A subclass that starts operations
    on its own keeps the user's requests in `_requests` and overrides `_start_next`,
    which is called when nothing is running and the requests or their input may
    have changed.

    Signals
    -------
    busyChanged : str
        Name of the running operation; empty when it has ended.
    progressed : str, int, int
        Name of the stage (may be empty), the amount done and the total.
    warned : str
        A warning for the user.
    failed : object
        The error that ended an operation.
    idle
        An operation has ended and another one can be started.
    """

    busyChanged = Signal(str)
    progressed = Signal(str, int, int)
    warned = Signal(str)
    failed = Signal(object)
    idle = Signal()

    #: Delay in milliseconds from the last change of a setting to the operation it
    #: causes.
    _debounce_ms: ClassVar[int] = 0
    #: Delay in milliseconds from the end of an operation to the next one.
    _pause_ms: ClassVar[int] = 0

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._busy = ""
        self._task: BackgroundTask | None = None
        self._began = 0.0
        self._requests: set[str] = set()
        self._attempted_key: Key | None = None
        self._failed_key: Key | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._advance)

    @property
    def busy(self) -> str:
        """Name of the running operation; empty while nothing is running."""
        return self._busy

    def start(
        self,
        what: str,
        make_steps: MakeSteps[T],
        on_result: Callable[[T], None] | None = None,
        *,
        on_step: Callable[[Step], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        description: str = "",
    ) -> None:
        """Start an operation in a worker; no other operation may be running.

        Parameters
        ----------
        what : str
            Name of the operation, as returned by `busy`.
        make_steps : callable
            Creates the generator of its steps, which returns the result.
        on_result, on_step, on_error : callable, optional
            Called on the main thread; by default steps and errors become signals.
        description : str
            Title of a progress bar in napari's window; if empty, no bar is shown.

        Raises
        ------
        EngineError
            If an operation is already running.
        """
        if self._busy:
            raise EngineError(
                f"{what!r} cannot start while {self._busy!r} is running. This is a "
                "bug; please report it. To continue, wait until the running "
                "operation has finished, or cancel it."
            )
        self._began = time.monotonic()
        watch_window_of(self)
        self._task = BackgroundTask(
            make_steps,
            owner=self,
            on_step=on_step or self._on_step,
            on_result=on_result,
            on_error=on_error or self._on_error,
            on_finished=self._on_finished,
            description=description,
        )
        self._busy = what
        self.busyChanged.emit(what)

    def cancel(self, *, keep_requests: bool = False) -> None:
        """Stop at the next step; finished parts are kept.

        Parameters
        ----------
        keep_requests : bool
            Whether all requests are kept, so that their operations start again;
            requests for previews are always kept.
        """
        if not keep_requests:
            self._requests &= {PREVIEW}
            self._failed_key = self._attempted_key
        if self._task is not None:
            self._task.cancel()

    # Requests

    def _request_operation(self, what: str) -> None:
        """Start an operation as soon as possible, even if an earlier attempt failed."""
        self._requests.add(what)
        self._failed_key = None
        self._timer.start(0)

    def _restart_later(self) -> None:
        """Restart the operation once no setting has changed for a while."""
        self._failed_key = None
        self._timer.start(self._debounce_ms)

    # Sequence of operations

    def _advance(self) -> None:
        if self._busy:
            self._cancel_if_outdated()
            return
        try:
            self._start_next()
        except GeoSRError as error:
            self._on_error(error)

    def _cancel_if_outdated(self) -> None:
        """Cancel the running operation if it is no longer needed."""

    def _start_next(self) -> None:
        """Start the next requested operation, if any."""

    def _on_step(self, step: Step) -> None:
        if isinstance(step, StageStarted):
            self.progressed.emit(step.message, 0, 0)
        elif isinstance(step, WarningIssued):
            self.warned.emit(step.message)
        elif step.total:
            self.progressed.emit("", step.done, step.total)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            return
        self._requests.clear()
        self._failed_key = self._attempted_key
        self.failed.emit(error)

    def _on_finished(self) -> None:
        self._busy, self._task = "", None
        self.busyChanged.emit("")
        self.idle.emit()
        if not self._busy:
            self._timer.start(self._pause_ms)
