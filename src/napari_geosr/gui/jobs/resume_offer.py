"""Offer to resume jobs that are paused or interrupted."""

from __future__ import annotations

from collections.abc import Collection, Generator

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QToolButton, QWidget

from napari_geosr.core.steps import Step
from napari_geosr.gui.jobs.offer import JobOffer
from napari_geosr.gui.jobs.texts import format_progress
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.jobs.kinds import describe_resume


class ResumeOffer(JobOffer):
    """Row with the newest interrupted or paused job; hidden if there is none.

    The jobs are listed in a worker when the dock opens.

    Parameters
    ----------
    operations : collection of str, optional
        Kinds of jobs to offer; by default all.

    Signals
    -------
    resumed : object
        Folder of the resumed job.
    """

    resumed = Signal(object)

    def __init__(
        self,
        parent: QWidget | None = None,
        *,
        operations: Collection[str] | None = None,
    ) -> None:
        self._operations = operations
        super().__init__(parent, "Stopped job", "A job that was paused or interrupted.")
        self._job: JobStatus | None = None
        self.button = QPushButton("Resume")
        self.button.setAccessibleName("Resume the stopped job")
        self.button.setShortcut("Alt+Shift+R")
        self.button.setToolTip("Resume the job in the background (Alt+Shift+R).")
        self.later = QToolButton()
        self.later.setText("✕")
        self.later.setShortcut("Alt+Shift+X")
        self.later.setAccessibleName("Not now")
        self.later.setToolTip(
            "Hide this row; the job stays in the Jobs dock (Alt+Shift+X)."
        )
        self.add_buttons(self.button, self.later)
        self.button.clicked.connect(self._on_resume)
        self.later.clicked.connect(self._on_later)
        self._run: BackgroundTask | None = BackgroundTask(
            lambda _stop: _list_steps(), owner=self, on_result=self._on_listed
        )

    def _on_listed(self, jobs: list[JobStatus]) -> None:
        self._run = None
        stopped = [
            job
            for state in ("interrupted", "paused")
            for job in jobs
            if job.state == state and not job.seen and self._offers(job)
        ]
        if not stopped:
            return
        job = self._job = stopped[0]
        state = "was interrupted" if job.state == "interrupted" else "is paused"
        progress = (
            format_progress(job.operation, job.done, job.total) if job.total else ""
        )
        position = f" at {progress}" if progress else ""
        resumption = describe_resume(job.operation, job.path)
        self.label.setText(f"{job.name} {state}{position}; it {resumption}.")
        self.setVisible(True)

    def _offers(self, job: JobStatus) -> bool:
        return self._operations is None or job.operation in self._operations

    def _on_resume(self) -> None:
        if self._job is None:
            return
        self.setVisible(False)
        if self.resume(self._job.path):
            self.resumed.emit(self._job.path)

    def _on_later(self) -> None:
        self.setVisible(False)
        if self._job is not None:
            self.set_aside(self._job.path)


def _list_steps() -> Generator[Step, None, list[JobStatus]]:
    yield from ()
    return index.list_jobs()
