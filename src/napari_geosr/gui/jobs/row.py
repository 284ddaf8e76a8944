"""A dock row that shows a job, such as a run moved to the background."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QPushButton

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.gui.jobs.offer import JobOffer
from napari_geosr.gui.jobs.result import ResultOpener, source_of
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.widgets import small_button
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.kinds import describe_resume

if TYPE_CHECKING:
    import napari.viewer

#: Milliseconds between status updates of a running job.
_PAUSE = 1000
_RESUME = "Resume", "Resume the job in the background (Alt+Shift+N)."
_SHOW = "Show result", "Add the result as a layer (Alt+Shift+N)."


class JobRow(JobOffer):
    """Shows the progress of a job of one kind and offers actions for it.

    The newest job is shown, preferably one for the scan shown in the dock. The row is
    hidden if there is no job or its result has been seen.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    operation : str
        Kind of the jobs.
    dock : Dock
        Dock that shows the messages.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, operation: str, dock: Dock
    ) -> None:
        tip = "A run that was moved to the background or stopped."
        super().__init__(dock, "Job", tip)
        self._dock = dock
        self._viewer, self._operation = viewer, operation
        self._source: Path | None = None
        self._job: Path | None = None
        self._status: JobStatus | None = None
        self._searched_source: Path | None = None
        self._finding = Activity(self)
        self._finding.idle.connect(self._find_for_new_source)
        self.opener = ResultOpener(viewer, self)
        self.button = QPushButton()
        self._name_button(*_RESUME)
        self.jobs_button = small_button(
            "…", "Jobs", "Show it in the Jobs dock", "Alt+Shift+Y"
        )
        self.later_button = small_button(
            "✕",
            "Not now",
            "Hide this row; the job stays in the Jobs dock",
            "Alt+Shift+Z",
        )
        self.add_buttons(self.button, self.jobs_button, self.later_button)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._poll)
        self.button.clicked.connect(self._on_button)
        self.jobs_button.clicked.connect(self._on_jobs)
        self.later_button.clicked.connect(self._on_later)
        self.opener.opened.connect(lambda _status: self._show(None))
        self.opener.reported.connect(lambda text: dock.message.show_message(text, "ok"))
        self.opener.failed.connect(dock.show_failure)
        self.find()

    @property
    def job(self) -> Path | None:
        """Folder of the job shown."""
        return self._job

    def set_source(self, source: Path | None) -> None:
        """Prefer jobs that process this file."""
        if source != self._source:
            self._source = source
            self.find()

    def find(self) -> None:
        """Look for the job in a worker."""
        source, operation = self._source, self._operation
        if self._finding.busy:
            return  # if the scan has changed, the search is repeated afterwards
        self._searched_source = source
        self._finding.start(
            "find", lambda _stop: find_steps(operation, source), self._on_job_found
        )

    def _on_job_found(self, status: JobStatus | None) -> None:
        if self._searched_source == self._source:
            self._show(None if status is None else status.path)

    def _find_for_new_source(self) -> None:
        if self._searched_source != self._source:
            self.find()

    def _show(self, job: Path | None) -> None:
        self._job, self._status = job, None
        self._timer.stop()
        self._poll()

    def _poll(self) -> None:
        status = None if self._job is None else _status_of(self._job)
        self._status = status
        offered = status is not None and is_offered(status)
        self.setVisible(offered)
        if status is None or not offered:
            return
        self.label.setText(status_text(status))
        self._name_button(*(_SHOW if status.state == "done" else _RESUME))
        self.button.setVisible(not status.is_alive)
        if status.is_alive:
            self._timer.start(_PAUSE)

    def _name_button(self, text: str, tool_tip: str) -> None:
        self.button.setText(text)
        self.button.setAccessibleName(text)
        self.button.setToolTip(tool_tip)
        self.button.setShortcut("Alt+Shift+N")  # setText clears the shortcut

    def _on_button(self) -> None:
        status = self._status
        if status is None:
            return
        if status.state == "done":
            self.opener.open(status.path)
            return
        # Allow only one click, because starting may take some seconds.
        self.button.setEnabled(not self.resume(status.path))
        self._poll()

    def on_resumed(self) -> None:
        """Show that the job is running or, if not, enable the button again."""
        self.button.setEnabled(True)
        self._poll()

    def _on_jobs(self) -> None:
        job = self._job
        show = None if job is None else lambda jobs: jobs.show_job(job)
        open_dock(self._viewer, JOBS, show)

    def _on_later(self) -> None:
        status = None if self._job is None else _status_of(self._job)
        # A job can be set aside only if no process writes to its folder.
        if status is not None and not status.is_alive:
            self.set_aside(status.path)
        self._show(None)

    def show_failure(self, error: Exception) -> None:
        """Show the error in the dock."""
        self._dock.show_failure(error)


def is_offered(status: JobStatus) -> bool:
    """Whether a job runs, can be resumed, or has an unseen result."""
    if status.is_alive:
        return True
    return not status.seen and (status.can_resume or status.state == "done")


def status_text(status: JobStatus) -> str:
    """Describe the current activity of a job, or the action that is possible."""
    name = status.name
    position = f" at {100 * status.done // status.total} %" if status.total else ""
    resumption = (
        describe_resume(status.operation, status.path) if status.can_resume else ""
    )
    running = f"{name} is running in the background{position.replace(' at', ':')}."
    return {
        "queued": f"{name} is waiting to run in the background.",
        "running": running,
        "finishing": running,
        "paused": f"{name} is paused{position}; it {resumption}.",
        "cancelled": f"{name} was stopped{position}; it {resumption}.",
        "interrupted": f"{name} was interrupted{position}; it {resumption}.",
        "damaged": f"{name} has a damaged state file; the job {resumption}.",
        "failed": f"{name} failed{position}: {status.message}",
        "done": f"{name} finished in the background.",
    }.get(status.state, name)


def find_steps(
    operation: str, source: Path | None
) -> Generator[Step, None, JobStatus | None]:
    """Find the job that a dock offers, preferring one for the file `source`."""
    yield from ()
    resolved = None if source is None else source.resolve()
    offered = [
        status
        for status in index.list_jobs()
        if status.operation == operation and is_offered(status)
    ]
    for status in offered:
        if resolved is not None and _source_of(status) == resolved:
            return status
    return offered[0] if offered else None


def _source_of(status: JobStatus) -> Path | None:
    try:
        source = source_of(JobFolder(status.path))
    except GeoSRError:
        return None
    return None if source is None else source.path


def _status_of(job: Path) -> JobStatus | None:
    try:
        return JobFolder(job).status()
    except GeoSRError:
        return None  # deleted in the meantime
