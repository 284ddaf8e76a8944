"""Turn a dock's run into a job when its window is closed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.jobs.data import jobs_folder
from napari_geosr.jobs.handover import job_from_run_steps
from napari_geosr.jobs.kinds import describe_resume

#: Function that returns the finished part of a stopped run; for the main thread only.
StoppedRunGetter = Callable[[], Any]


class _HandoverRequest(NamedTuple):
    """Request to turn a run into a job: whether to start the job, and the callbacks."""

    start: bool
    on_done: Callable[[], None]
    on_failure: Callable[[], None]


@dataclass(frozen=True)
class ExpectedRun:
    """A requested run that begins once its preparation has finished.

    Attributes
    ----------
    is_awaited : callable
        Returns whether the run has yet to begin.
    withdraw : callable
        Stops the preparation and withdraws the request.
    """

    is_awaited: Callable[[], bool]
    withdraw: Callable[[], None]


class RunHandover(QObject):
    """Turns the run of a dock into a running or paused job.

    The dock reports when a run begins and provides the stopped run. When the window is
    closed, the user is asked whether the run should become a job; see
    `napari_geosr.gui.kit.closing`.

    Parameters
    ----------
    activity : Activity
        Activity that runs the operation.
    widget : QWidget
        The dock.
    operation : str
        Kind of the job.

    Signals
    -------
    reported : str
        Message for the user about the current action.
    failed : object
        The error that kept the run from becoming a job; the run has been stopped.
    """

    reported = Signal(str)
    failed = Signal(object)

    def __init__(self, activity: Activity, widget: QWidget, operation: str) -> None:
        super().__init__(widget)
        self._activity, self._operation = activity, operation
        self._widget = weakref.ref(widget)
        self._description = ""
        self._run_name = ""  # name by which the activity identifies the run
        self._get_stopped: StoppedRunGetter | None = None
        self._expected: ExpectedRun | None = None
        self._progress = (0, 0)
        self._request: _HandoverRequest | None = None
        self._task: BackgroundTask | None = None
        self.folder = jobs_folder()
        self.can_keep_part = True
        activity.busyChanged.connect(self._on_busy)
        if isinstance(widget, Dock):
            self.reported.connect(widget.message.show_message)
            self.failed.connect(widget.show_failure)

    # Called by the dock

    def begin(
        self, run_name: str, description: str, get_stopped: StoppedRunGetter
    ) -> None:
        """Register a run that has begun.

        Parameters
        ----------
        run_name : str
            Name of the run, as in `Activity.busy`.
        description : str
            Description of the run for messages, such as ``Restoring foam``.
        get_stopped : callable
            Called when the run has stopped; returns the input for
            `napari_geosr.jobs.handover.job_from_run_steps`.
        """
        self._expected = None
        self._register(run_name, description, get_stopped)

    def expect(
        self, description: str, get_run: StoppedRunGetter, expected: ExpectedRun
    ) -> None:
        """Register a requested run that has not begun; it can also become a job.

        Parameters
        ----------
        description : str
            Description of the run, as for `begin`, which is called once the run has
            begun.
        get_run : callable
            Returns the input for `napari_geosr.jobs.handover.job_from_run_steps`.
        expected : ExpectedRun
        """
        self._expected = expected
        self._register("", description, get_run)

    def _register(
        self, run_name: str, description: str, get_stopped: StoppedRunGetter
    ) -> None:
        self._run_name, self._description = run_name, description
        self._get_stopped = get_stopped
        self._progress = (0, 0)
        widget = self._widget()
        closing = None if widget is None else closing_of(widget)
        if closing is not None:
            closing.watch_run(self)

    def set_progress(self, done: int, total: int) -> None:
        """Update the progress of the run."""
        self._progress = (done, total)

    # Called by the window

    @property
    def description(self) -> str:
        """Description of the run, as the beginning of a sentence."""
        return self._description

    @property
    def remark(self) -> str:
        """How the run continues as a job, in a sentence."""
        return f"In the background, it {describe_resume(self._operation)}."

    @property
    def is_running(self) -> bool:
        """Whether the run is awaited, in progress or being turned into a job."""
        busy = bool(self._run_name) and self._activity.busy == self._run_name
        return busy or self._request is not None or self._is_awaited()

    def _is_awaited(self) -> bool:
        return self._expected is not None and self._expected.is_awaited()

    def hand_over(
        self, *, start: bool, on_done: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        """Stop the run and turn it into a job, paused unless `start` is set."""
        self._request = _HandoverRequest(start, on_done, failed)
        if start:
            self.reported.emit("Moving the run to the background…")
        else:
            self.reported.emit("Stopping…")
        if self._activity.busy and self._activity.busy == self._run_name:
            self._activity.cancel()
            return
        if self._expected is not None:
            self._expected.withdraw()
        self._on_busy("")

    def cancel_hand_over(self) -> None:
        """Cancel the handover; the run stays stopped and the window open."""
        if self._task is not None:
            self._task.cancel()  # removes the files written for the job
        elif self._request is not None:  # the run has not ended yet
            self._on_error(Cancelled("Cancelled."))

    def _on_busy(self, run_name: str) -> None:
        if run_name or self._task is not None:
            return
        if self._request is None:
            if not self._is_awaited():
                self._end()  # releases the voxels
            return
        start, on_done = self._request.start, self._request.on_done
        try:
            stopped = None if self._get_stopped is None else self._get_stopped()
        except GeoSRError as error:
            self._on_error(error)
            return
        has_part = self.can_keep_part and self._expected is None
        if stopped is None or not (start or has_part):
            self._end()
            on_done()
            return
        parent, progress = self.folder, self._progress

        def steps(stop: ShouldStop) -> Generator[Step, None, Path]:
            return job_from_run_steps(
                stopped, parent, start=start, progress=progress, should_stop=stop
            )

        self._task = BackgroundTask(
            steps,
            owner=self,
            on_step=OperationProgress(self.reported.emit).show_step,
            on_result=lambda _folder: self._on_made(on_done),
            on_error=self._on_error,
        )

    def _on_made(self, on_done: Callable[[], None]) -> None:
        self._end()
        on_done()

    def _on_error(self, error: Exception) -> None:
        request = self._request
        self._end()
        if isinstance(error, Cancelled):
            self.reported.emit(
                "The run was stopped and was not moved to the background."
            )
        else:
            self.failed.emit(error)
        if request is not None:
            request.on_failure()

    def _end(self) -> None:
        self._request, self._task, self._get_stopped = None, None, None
        self._run_name, self._expected = "", None
