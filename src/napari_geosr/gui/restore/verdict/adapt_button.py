"""A button that adapts the chosen model to the scan on screen, as a job."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.jobs.start import TrainingPlan, start_steps
from napari_geosr.gui.jobs.texts import steps_of
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.jobs.naming import taken_names
from napari_geosr.operations.train.adapt import METHOD
from napari_geosr.operations.train.fine_tune import fine_tune_settings
from napari_geosr.operations.train.name import proposed_name

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.models.catalogue import ModelCard

_ADAPT, _STOP = "Adapt the model to this scan", "Stop adapting"
_KEY = "Alt+Shift+M"
_TIP = (
    "Train the chosen model further on this scan alone, without clean data, for at "
    "most {:g} minutes. The adapted model is chosen if its expected error is smaller "
    f"than before ({_KEY})."
)
#: Milliseconds between status checks of the job.
_PAUSE = 500


class AdaptButton(QPushButton):
    """Starts an adaptation as a job, follows it, and hands over its result.

    Signals
    -------
    started
        The user requested the adaptation.
    progressed : str
        Current status, in a sentence.
    adapted : Path
        Bundle of the adapted model, which is expected to be better.
    unchanged : str
        Why the model should not be changed, in a sentence.
    failed : object
        The error that ended the adaptation.
    """

    started = Signal()
    progressed = Signal(str)
    adapted = Signal(object)
    unchanged = Signal(str)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_ADAPT, parent)
        self.folder = user_data_path("napari-geosr", appauthor=False) / "jobs"
        #: Maximum duration of an adaptation in minutes.
        self.minutes = 2.5
        self.setAccessibleName(_ADAPT)
        self.setToolTip(_TIP.format(self.minutes))
        self._volume: Volume | None = None
        self._model = ""
        self.activity = Activity(self)
        self.activity.busyChanged.connect(self._show)
        self.activity.failed.connect(self.failed)
        self._progress = OperationProgress(self.progressed.emit)
        self._watch: JobWatch | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._update_status)
        self.clicked.connect(self._on_clicked)
        self.set_choice(None, "")

    @property
    def job(self) -> Path | None:
        """Folder of the running adaptation."""
        return None if self._watch is None else self._watch.folder.path

    def set_choice(self, volume: Volume | None, model: str) -> None:
        """Offer to adapt `model` to `volume`.

        Parameters
        ----------
        volume : Volume, optional
            The scan; None if there is none to adapt to.
        model : str
            Name or path of a denoiser with weights; empty if the chosen model is not
            one.
        """
        self._volume, self._model = volume, model
        self._show()

    def _show(self) -> None:
        is_running = bool(self.activity.busy) or self._watch is not None
        self.setText(_STOP if is_running else _ADAPT)
        self.setShortcut(_KEY)  # setText clears the shortcut
        self.setEnabled(is_running or (self._volume is not None and self._model != ""))

    def _on_clicked(self) -> None:
        if self._watch is not None:
            self._watch.request("cancel")
            self.setEnabled(False)
        elif self.activity.busy:
            self.activity.cancel()
        else:
            self.started.emit()
            self._start()

    def _start(self) -> None:
        if self._volume is None or not self._model:
            return
        volume, model, folder = self._volume, self._model, self.folder
        minutes = self.minutes
        self.activity.start(
            "adapt",
            lambda stop: _start_steps(volume, model, minutes, folder, stop),
            self._on_started,
            on_step=self._progress.show_step,
            description=f"Adapting a model to {volume.name}",
        )

    def _on_started(self, job: Path) -> None:
        self._watch = JobWatch(job)
        self._timer.start()
        self.progressed.emit("Adapting the model. You can keep working in napari…")

    def _update_status(self) -> None:
        watch = self._watch
        if watch is None:
            return
        try:
            watch.read()
        except GeoSRError as error:
            self._end()
            self.failed.emit(error)
            return
        status = watch.status
        if status.is_alive:
            self.progressed.emit(_progress(watch))
            return
        self._end()
        if status.state == "failed":
            self.failed.emit(GeoSRError(status.message or "The adaptation failed."))
        elif status.state != "done" or status.result is None:
            self.progressed.emit("The adaptation was stopped. The model is unchanged.")
        elif status.result.is_relative_to(watch.folder.path):
            self.adapted.emit(status.result)
        else:
            self.unchanged.emit(watch.warnings[-1] if watch.warnings else "No gain.")

    def _end(self) -> None:
        self._timer.stop()
        self._watch = None
        self._show()


def _progress(watch: JobWatch) -> str:
    done, total = steps_of(watch)
    if watch.status.state == "running" and total:
        return f"Adapting the model: step {done} of at most {total}."
    return "Adapting the model…"


def _start_steps(
    volume: Volume, model: str, minutes: float, folder: Path, stop: ShouldStop
) -> Generator[Step, None, Path]:
    """Start the job and return its folder."""
    name = proposed_name(METHOD, [volume.name], taken_names())
    settings = fine_tune_settings(model, METHOD) | {"name": name, "minutes": minutes}
    plan = TrainingPlan(METHOD, settings, {"source": (volume,)})
    return (yield from start_steps(plan, folder, name, should_stop=stop))


def is_adaptable(card: ModelCard | None) -> bool:
    """Whether a model can be adapted: a denoiser with weights and one input scan."""
    return (
        card is not None
        and card.has_weights
        and card.task == "denoise"
        and card.inputs == 1
    )
