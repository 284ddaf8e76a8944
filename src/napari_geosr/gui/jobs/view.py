"""One job: its curves, progress and actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.text.display import short_path
from napari_geosr.core.types import AnyMapping
from napari_geosr.gui.jobs import queue_actions
from napari_geosr.gui.jobs.preview import JobPreview
from napari_geosr.gui.jobs.result import SHOWN_AS_LAYER, ResultOpener
from napari_geosr.gui.jobs.texts import (
    curves_of,
    detail_text,
    figures_text,
    line_text,
    steps_of,
)
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.gui.jobs.widgets import FIGURES_TIP, JobWidgets
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.models.handover import ModelHandover
from napari_geosr.jobs.cost import cost_of
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.jobs.kinds import FIT_NETWORKS, MAKE_MODELS, result_kind
from napari_geosr.jobs.settings import change_training
from napari_geosr.jobs.status import reasons
from napari_geosr.operations.train.card_summary import summarise_card

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from qtpy.QtGui import QShowEvent

NO_JOB = "Choose a job above to see its curves."
#: Milliseconds between two reads of the job folder.
_READ_MS = 500
#: Milliseconds between two reads while there is more to read.
_READ_MORE_MS = 15


class JobView(JobWidgets):
    """Shows one job live, with its preview, and offers actions for it.

    Attributes
    ----------
    line : (str, int, int)
        Last values of `progressed`; the text is empty if there is no job.

    Signals
    -------
    stateChanged : str
        The job's state, when it changes.
    nextChanged : QPushButton
        The button for the next step.
    fineTune : object
        The folder of the job whose model is to be fine-tuned.
    progressed : str, int, int
        One line about the job, steps done and total steps.
    """

    stateChanged = Signal(str)
    progressed = Signal(str, int, int)
    nextChanged = Signal(object)
    fineTune = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._watch: JobWatch | None = None
        self._others: list[JobWatch] = []
        self._drawn: tuple[int, ...] = ()
        self._state = ""
        self._n_warnings, self._reason = 0, ""
        self.line = "", 0, 0
        self.hint = NO_JOB  # text shown while no job is chosen
        self.preview = JobPreview(viewer, self)
        self.handover = ModelHandover(viewer, self)
        self.opener = ResultOpener(viewer, self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._poll)
        self._connect()
        self._show_nothing()

    def _connect(self) -> None:
        self.pause_button.clicked.connect(lambda: self._request("pause"))
        self.finish_button.clicked.connect(lambda: self._request("finish"))
        self.resume_button.clicked.connect(self.resume)
        self.resume_with.chosen.connect(self._resume)
        self.resume_with.failed.connect(self.message.show_error)
        self.use_button.clicked.connect(self._on_use)
        self.show_button.clicked.connect(self._on_show_result)
        self.opener.reported.connect(lambda text: self.message.show_message(text, "ok"))
        self.opener.failed.connect(self.message.show_error)
        self.tune_button.clicked.connect(self._on_tune)
        self.show_preview.toggled.connect(self._on_show_preview)
        self.folder_button.clicked.connect(self._on_folder)
        self.preview.failed.connect(self.message.show_error)
        self.handover.done.connect(lambda text: self.message.show_message(text, "ok"))
        self.handover.failed.connect(self.message.show_error)

    # Choice of job

    @property
    def job(self) -> Path | None:
        """Folder of the job that is shown."""
        return None if self._watch is None else self._watch.folder.path

    @property
    def state(self) -> str:
        """State of the job shown; empty if there is none."""
        return self._state

    @property
    def status(self) -> JobStatus | None:
        """Status of the job shown."""
        return None if self._watch is None else self._watch.status

    def set_job(
        self,
        path: Path | None,
        *,
        source: Image | None = None,
        others: Sequence[Path] = (),
    ) -> None:
        """Show another job, with the curves of `others` behind its own.

        Parameters
        ----------
        source : Image layer, optional
            Layer used for training; the preview adopts its colours and contrast.
        """
        self._others = _watches(others)
        self._drawn = ()
        if path is not None and path == self.job:
            self._poll()
            return
        self._timer.stop()
        self.preview.remove()
        self.message.clear()
        self._watch, self._state = None, ""
        self.resume_with.set_job(None)
        watches = [] if path is None else _watches([path])
        if not watches:
            self._show_nothing()
            return
        self._watch = watches[0]
        folder = self._watch.folder
        self.resume_with.set_job(folder)
        self.preview.set_source(source)
        self._attach_preview()
        self.folder_label.setText(short_path(folder.path))
        self.folder_label.setToolTip(str(folder.path))
        self._poll()

    def _attach_preview(self) -> None:
        assert self._watch is not None
        folder = self._watch.folder
        if self._watch.status.state == "unreadable":
            return  # reported with the job's state
        try:
            sources = folder.values().get("training", {}).get("source")
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self.preview.set_job(
            folder.preview,
            self._watch.status.name,
            tuple(Path(s) for s in sources if isinstance(s, str))
            if isinstance(sources, list)
            else (),
        )

    def set_hint(self, text: str) -> None:
        """Set the text shown while there is no job."""
        self.hint = text
        if self._watch is None:
            self.state_label.setText(text)

    def resume(self) -> None:
        """Resume the job with its settings."""
        self._resume({})

    def _resume(self, changes: AnyMapping) -> None:
        """Resume the job from its last checkpoint, with changed settings."""
        if self._watch is None:
            return
        self._watch.withdraw_request()
        self.message.clear()
        try:
            if changes:
                change_training(self._watch.folder, **changes)
            queue_actions.resume(
                self._watch.folder,
                self,
                self.message.show_error,
                self._poll,
                self.message.show_message,
            )
        except (GeoSRError, OSError) as error:
            self.message.show_error(error)
        else:
            self.resume_with.set_open(False)
        self._poll()

    def _request(self, what: str) -> None:
        if self._watch is None:
            return
        try:
            if queue_actions.is_without_process(self._watch.status):
                folder = self._watch.folder
                queue_actions.stop(
                    folder, self, self.message.show_error, self.message.show_message
                )
                return
            self._watch.request(what)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self._poll()

    def _on_use(self) -> None:
        if self._watch is not None and self._watch.status.result is not None:
            self.handover.use(self._watch.status.result)

    def _on_show_result(self) -> None:
        if self.job is not None:
            self.opener.open(self.job)

    def _on_tune(self) -> None:
        if self._watch is not None:
            self.fineTune.emit(self._watch.folder.path)

    def _on_folder(self) -> None:
        if self.job is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.job)))

    def _on_show_preview(self, shown: bool) -> None:
        if self._watch is None:
            return
        if shown:
            self._attach_preview()
            self.preview.update_to(self._watch.preview_step)
        else:
            self.preview.remove()

    # Updates

    def refresh(self) -> None:
        """Read the job again at once, for example because its queue was queried."""
        if self._watch is not None:
            self._poll()

    def _poll(self) -> None:
        """Read new events; report a missing folder once."""
        watch = self._watch
        if watch is None:
            return
        try:
            more = watch.read()
            for other_watch in self._others:
                more = other_watch.read(0.005) or more
        except GeoSRError as error:
            self.message.show_error(error)
            self._watch = None
            self._show_nothing()
            return
        if more and self._state:
            # Draw only once all events are read; read in short bursts to keep napari
            # responsive.
            self._timer.start(_READ_MORE_MS)
            return
        self._show()
        if more:
            self._timer.start(_READ_MORE_MS)
            return
        if self.show_preview.isChecked():
            self.preview.update_to(watch.preview_step)
        # A job that has ended may be resumed elsewhere, so it is polled, but less
        # often.
        is_active = watch.status.is_alive or watch.status.is_unfinished_in_queue
        self._timer.start(_READ_MS if is_active else 4 * _READ_MS)

    def _show_nothing(self) -> None:
        self.title.setText("")
        self.state_label.setText(self.hint)
        self._show_figures("")
        self.strip.set_parts(())
        self.folder_label.setText("")
        self.plot.set_lines([], 1)
        for button in self._buttons():
            button.setEnabled(False)
        self.resume_with.setVisible(False)
        self.show_preview.setEnabled(False)
        self._report_progress("", 0, 0)
        self._fit_to_kind(None)
        self.folder_button.setEnabled(False)
        self.nextChanged.emit(self.next_button)

    def _show(self) -> None:
        watch = self._watch
        assert watch is not None
        status = watch.status
        self.title.setText(f"{status.name} ({status.method})")
        self.title.setToolTip(self.title.text())
        done, total = steps_of(watch)
        self.state_label.setText(detail_text(watch))
        self._report_progress(line_text(watch), done, max(total, 1))
        self.strip.set_parts(status.parts)
        self._show_curves(watch, total)
        is_requested = watch.pending_request != ""
        fits = status.operation in FIT_NETWORKS
        self._fit_to_kind(status.operation)
        in_steps = fits and status.state in ("queued", "running")
        self.pause_button.setEnabled(status.is_alive and not is_requested)
        self.finish_button.setEnabled(
            in_steps and not is_requested and status.state == "running" and done > 0
        )
        in_queue = status.is_waiting_in_queue
        is_waiting = status.state == "queued" and not (status.pid or in_queue)
        can_start = status.can_resume or is_waiting
        self.resume_button.setEnabled(can_start)
        self.resume_with.setVisible(can_start and status.operation in MAKE_MODELS)
        has_result = status.state == "done" and status.result is not None
        has_model = has_result and status.operation in MAKE_MODELS
        self.use_button.setEnabled(has_model)
        self.tune_button.setEnabled(has_model)
        shown = has_result and status.operation in SHOWN_AS_LAYER
        self.show_button.setEnabled(shown)
        self.show_preview.setEnabled(fits)
        self.folder_button.setEnabled(True)
        self.nextChanged.emit(self.next_button)
        self._watch_closing()
        if status.state != self._state:
            self._on_state(status.state)
        elif len(watch.warnings) > self._n_warnings or (
            # The queue may give the reason later.
            status.state == "interrupted" and status.message != self._reason
        ):
            self._show_message()
        elif has_result:
            return
        else:
            self._show_figures(figures_text(watch))

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window; the dock may not yet be part of it when a job is set."""
        super().showEvent(event)
        self._watch_closing()

    def _watch_closing(self) -> None:
        """Ask about the job if the window is closed while the job runs."""
        status = self.status
        if status is None or not status.is_alive:
            return
        if (closing := closing_of(self)) is not None:
            closing.watch(status.path, self)

    def _show_figures(self, text: str) -> None:
        """Show the figures of the job, including the energy that it has used."""
        cost = None if self._watch is None else cost_of(self._watch.status)
        self.figures.setToolTip(FIGURES_TIP if cost is None else cost.basis)
        if cost is None:
            self.figures.setText(text)
            return
        separator = " Energy: " if text.endswith(".") else ", "
        self.figures.setText(f"{text}{separator}{cost.text}" if text else cost.text)

    def _report_progress(self, text: str, done: int, total: int) -> None:
        self.line = text, done, total
        self.progressed.emit(text, done, total)

    def _on_state(self, state: str) -> None:
        self._state = state
        watch = self._watch
        assert watch is not None
        self._show_message()
        result = watch.status.result if state == "done" else None
        if result is not None and watch.status.operation in MAKE_MODELS:
            self.figures.setText(summarise_card(result))
        elif result is not None:
            word = result_kind(watch.status.operation)
            place = _place(result, watch.status.path)
            self._show_figures(f"The {word} is {place}.")
        else:
            self._show_figures(figures_text(watch))
        self.stateChanged.emit(state)

    def _show_message(self) -> None:
        """Show why the job failed or was interrupted, or else its warnings so far."""
        watch = self._watch
        assert watch is not None
        self._n_warnings, self._reason = len(watch.warnings), watch.status.message
        if self._state in ("failed", "damaged", "unreadable"):
            self.message.show_message(watch.status.message, "error")
        elif self._state == "interrupted":
            texts = [*reasons(watch.status), *watch.warnings]
            self.message.show_message(" ".join(texts), "warning")
        elif watch.warnings:
            self.message.show_message(" ".join(watch.warnings), "warning")
        else:
            self.message.clear()

    def _show_curves(self, watch: JobWatch, total: int) -> None:
        points = tuple(
            len(curve.steps)
            for each in (watch, *self._others)
            for curve in each.curves.values()
        )
        if points == self._drawn:
            return
        self._drawn = points
        longest = max(
            [total, *(steps_of(other_watch)[1] for other_watch in self._others)]
        )
        self.plot.set_lines(curves_of(watch, self._others), longest)


def _place(result: Path, folder: Path) -> str:
    """Describe where the result is; a submitted job writes it to the requested path."""
    if not result.is_relative_to(folder):
        return str(result)
    return f"{result.relative_to(folder)} in the job folder"


def _watches(paths: Sequence[Path]) -> list[JobWatch]:
    """Create watches for the jobs that still exist."""
    watches = []
    for path in paths:
        try:
            watches.append(JobWatch(path))
        except GeoSRError:
            continue
    return watches
