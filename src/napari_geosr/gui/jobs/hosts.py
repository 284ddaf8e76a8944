"""Watch the jobs of other computers over ssh, for the Jobs dock."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, FileError, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued
from napari_geosr.gui.jobs.remote_preview import RemotePreview
from napari_geosr.gui.jobs.result import SHOWN_AS_LAYER, ResultOpener
from napari_geosr.gui.jobs.widgets import PartsStrip
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.widgets import button, text_label
from napari_geosr.gui.kit.worker import MakeSteps
from napari_geosr.jobs.cluster import remote
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.jobs.index import Elsewhere, describe_state
from napari_geosr.jobs.kinds import FIT_NETWORKS, result_kind
from napari_geosr.jobs.status import is_stopping, outage_text

if TYPE_CHECKING:
    import napari.viewer

#: Kinds of jobs that produce a volume, which is opened as a layer; a measurement
#: produces a report.
_VOLUMES = tuple(kind for kind in SHOWN_AS_LAYER if kind != "measure")
#: Milliseconds between checks for computers that are due to be queried.
_TICK_MS = 1000
#: Seconds between queries of a computer while one of its jobs waits or runs.
_ALIVE_SECONDS = 15.0
#: Seconds between queries of any other computer.
_IDLE_SECONDS = 120.0


class HostWatch(QObject):
    """Queries the watched computers for their jobs, one after the other, in a worker.

    There are no queries while the dock is hidden.

    Attributes
    ----------
    jobs : dict of str to list of JobStatus
        The latest list of jobs of each computer.
    errors : dict of str to Exception
        Errors of the computers that did not respond; empty while all respond.

    Signals
    -------
    changed
        A computer has responded or failed to respond.
    answered : str, int
        A computer that was just added, and its number of jobs.
    failed : object
        The error of a computer that had responded before or was just added.
    noted : str
        A computer has another version of napari-geosr; emitted once for each message.
    """

    changed = Signal()
    answered = Signal(str, int)
    failed = Signal(object)
    noted = Signal(str)

    def __init__(self, dock: QWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self.jobs: dict[str, list[JobStatus]] = {}
        self.errors: dict[str, Exception] = {}
        self._due: dict[str, float] = {}
        self._new: set[str] = set()
        self._activity = Activity(self)
        self._activity.idle.connect(self._ask)
        self._activity.warned.connect(self._on_warned)
        self._notes, self._new_notes = set[str](), list[str]()
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._ask)
        self.reload()

    def reload(self) -> None:
        """Read the list of watched computers again."""
        hosts = remote.watched_hosts()
        self._due = {host: self._due.get(host, 0.0) for host in hosts}
        for known in (self.jobs, self.errors):
            for host in known.keys() - set(hosts):
                del known[host]
        if hosts:
            self._timer.start()
        else:
            self._timer.stop()
        self._ask()

    def add(self, host: str) -> None:
        """List the jobs of another computer.

        Raises
        ------
        GeoSRError
            If the name is invalid or cannot be stored.
        """
        remote.watch_host(host)
        self._new.add(host)
        self.ask_soon(host)

    def remove(self, host: str) -> None:
        """Remove a computer and its jobs from the list."""
        remote.forget_host(host)
        self.reload()
        self.changed.emit()

    def ask_soon(self, host: str) -> None:
        """Query a computer as soon as possible."""
        self._due[host] = 0.0
        self.reload()

    def _ask(self) -> None:
        now = time.monotonic()
        due = [host for host, when in self._due.items() if when <= now]
        if not due or self._activity.busy or not self._dock.isVisible():
            return
        host = due[0]

        def steps(stop: ShouldStop) -> Generator[Step, None, list[JobStatus]]:
            notes = list[str]()
            jobs = remote.list_jobs(host, stop, notes.append)
            yield from (WarningIssued(message=note) for note in notes)
            return jobs

        self._activity.start(
            f"ask {host}",
            steps,
            lambda jobs: self._on_listed(host, jobs),
            on_error=lambda error: self._on_error(host, error),
        )

    def _on_listed(self, host: str, jobs: list[JobStatus]) -> None:
        if host not in self._due:
            return  # removed in the meantime
        self.errors.pop(host, None)
        self.jobs[host] = jobs
        alive = any(job.is_alive for job in jobs)
        seconds = _ALIVE_SECONDS if alive else _IDLE_SECONDS
        self._due[host] = time.monotonic() + seconds
        self.changed.emit()
        if host in self._new:
            self._new.remove(host)
            self.answered.emit(host, len(jobs))
        while self._new_notes:
            self.noted.emit(self._new_notes.pop(0))

    def _on_warned(self, note: str) -> None:
        if note not in self._notes:
            self._notes.add(note)
            self._new_notes.append(note)

    def _on_error(self, host: str, error: Exception) -> None:
        if isinstance(error, Cancelled) or host not in self._due:
            return
        is_new = host not in self.errors
        self.errors[host] = error
        self._due[host] = time.monotonic() + _IDLE_SECONDS
        self.changed.emit()
        if is_new:
            self.failed.emit(error)


class RemoteJob(QWidget):
    """State and actions of a job on another computer.

    Signals
    -------
    acted : str
        The computer whose job was stopped or resumed.
    reported : str
        Message about a result that was opened, or that the other computer has
        another version of napari-geosr.
    failed : object
        The error of an action.
    """

    acted = Signal(str)
    reported = Signal(str)
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.opener = ResultOpener(viewer, self)
        self.opener.reported.connect(self.reported)
        self.opener.failed.connect(self.failed)
        self._host = ""
        self._job: JobStatus | None = None
        self._activity = Activity(self)
        self._activity.failed.connect(self.failed)
        self._activity.warned.connect(self.reported)
        self._activity.busyChanged.connect(self._show)
        self.label = text_label("Remote job", "A job on another computer.")
        self.strip = PartsStrip()
        self.stop_button = button(
            "Stop job", "Stop the job; finished work is kept.", "Alt+Shift+T"
        )
        self.resume_button = button(
            "Resume job",
            "Resume the job on the computer where it ran.",
            "Alt+Shift+E",
        )
        self.result_button = button(
            "Get result…",
            "Open the result from a folder that both computers can access. Data are "
            "loaded only when they are shown. Reports are opened in your web browser.",
            "Alt+Shift+G",
        )
        self.preview = RemotePreview(viewer, self)
        self.preview.failed.connect(self.failed)
        self.preview_box = QCheckBox("Preview")
        self.preview_box.setAccessibleName("Preview of a remote job")
        self.preview_box.setShortcut("Alt+Shift+I")
        self.preview_box.setToolTip(
            "Show one small plane of what the job has computed so far. Only this "
            "preview is copied from the other computer."
        )
        self.preview_box.toggled.connect(self._on_preview)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.label)
        column.addWidget(self.strip)
        column.addWidget(self.preview_box)
        row = QHBoxLayout()
        row.addWidget(self.stop_button, 1)
        row.addWidget(self.resume_button, 1)
        row.addWidget(self.result_button, 1)
        column.addLayout(row)
        self.stop_button.clicked.connect(self._on_stop)
        self.resume_button.clicked.connect(self._on_resume)
        self.result_button.clicked.connect(self._on_result)
        self.setVisible(False)

    def set_job(self, host: str, job: JobStatus | None) -> None:
        """Show a job on another computer; hide the widget if there is none."""
        self._host, self._job = host, job
        self._show()
        self._follow()
        self.setVisible(job is not None)

    def _show(self, _what: str = "") -> None:
        job, busy = self._job, bool(self._activity.busy)
        can_stop = job is not None and job.is_alive and not is_stopping(job)
        self.stop_button.setEnabled(can_stop and not busy)
        self.resume_button.setEnabled(job is not None and job.can_resume and not busy)
        self.result_button.setEnabled(job is not None and _can_open(job) and not busy)
        has_preview = job is not None and job.operation in (*_VOLUMES, *FIT_NETWORKS)
        self.preview_box.setEnabled(has_preview)
        self.strip.set_parts(() if job is None else job.parts)
        if job is not None:
            self.label.setText(_describe(self._host, job))

    def _on_preview(self, shown: bool) -> None:
        if shown:
            self._follow()
        else:
            self.preview.remove()

    def _follow(self) -> None:
        """Show the job's latest preview if requested; otherwise, remove the preview."""
        job, box = self._job, self.preview_box
        if job is not None and box.isEnabled() and box.isChecked():
            place = Elsewhere(self._host, str(job.path))
            name = f"{job.name} on {self._host}"
            self.preview.follow(place, name, job.updated)
        else:
            self.preview.remove()

    def _on_stop(self) -> None:
        if self._job is not None:
            place = Elsewhere(self._host, str(self._job.path))
            self._act("stop", lambda stop: _stop_steps(place, stop))

    def _on_resume(self) -> None:
        if self._job is not None:
            place = Elsewhere(self._host, str(self._job.path))
            in_queue = bool(self._job.queue.queue)
            self._act("resume", lambda stop: _resume_steps(place, in_queue, stop))

    def _on_result(self) -> None:
        if self._job is None or self._job.result is None:
            return
        host, there = self._host, PurePosixPath(self._job.result)
        operation = self._job.operation

        def steps(_stop: ShouldStop) -> Generator[Step, None, Path | None]:
            yield from ()
            return remote.path_here(host, there)  # slow in a network folder

        self._activity.start(
            "find", steps, lambda found: self._on_found(host, operation, there, found)
        )

    def _on_found(
        self, host: str, operation: str, there: PurePosixPath, found: Path | None
    ) -> None:
        """Open a result, after asking for its folder if it was not found."""
        if found is None:
            text = (
                f"Folder on this computer that corresponds to {there.parent} on {host}"
            )
            chosen = QFileDialog.getExistingDirectory(self, text)
            if not chosen:
                return
            found = Path(chosen) / there.name
            try:
                if not found.exists():
                    raise FileError(
                        f"{chosen} does not contain {there.name}. Choose the folder "
                        f"that corresponds to {there.parent} on {host}."
                    )
                remote.share_folder(host, Path(chosen), there.parent)
            except GeoSRError as error:
                self.failed.emit(error)
                return
        if operation in _VOLUMES:
            self.opener.open_file(found)
        else:
            self._open_report(operation, found)

    def _open_report(self, operation: str, page: Path) -> None:
        """Show a report in the web browser and, for a measurement, open its labels."""
        from napari_geosr.operations.measure.job import labels_file

        QDesktopServices.openUrl(QUrl.fromLocalFile(str(page)))
        self.reported.emit(f"The report was opened in your web browser: {page}.")
        if operation == "measure" and (labels := labels_file(page)).exists():
            self.opener.open_file(labels)

    def _act(self, what: str, make_steps: MakeSteps[Elsewhere]) -> None:
        self._activity.start(
            what, make_steps, lambda place: self.acted.emit(place.host)
        )


def _can_open(job: JobStatus) -> bool:
    """Whether the result is a volume or a report, rather than a model."""
    has_kind = job.operation in _VOLUMES or result_kind(job.operation) == "report"
    return has_kind and job.result is not None


def _describe(host: str, job: JobStatus) -> str:
    words = describe_state(job)
    lines = [f"{job.name} ({job.method or job.operation}) on {host}: {words}."]
    if job.total and "% done" not in words:
        lines.append(f"{100 * job.done // job.total} % done.")
    if job.queue.number:
        lines.append(f"{job.queue.title} job {job.queue.number}.")
    if job.message and not job.is_alive:
        lines.append(job.message)
    if outage := outage_text(job):
        lines.append(outage)
    if job.energy:
        lines.append(f"Energy: {job.energy}.")
    if job.result is not None:
        lines.append(f"Result: {job.result}.")
    lines.append(f"Folder: {job.path}.")
    return " ".join(lines)


def _stop_steps(job: Elsewhere, stop: ShouldStop) -> Generator[Step, None, Elsewhere]:
    yield from (WarningIssued(message=note) for note in remote.stop(job, stop))
    return job


def _resume_steps(
    job: Elsewhere, in_queue: bool, stop: ShouldStop
) -> Generator[Step, None, Elsewhere]:
    notes = remote.resume(job, in_queue=in_queue, should_stop=stop)
    yield from (WarningIssued(message=note) for note in notes)
    return job
