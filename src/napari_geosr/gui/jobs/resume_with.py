"""Other settings for the rest of a job: a small form made of its own config."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.widgets import Section, button
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import read_job
from napari_geosr.jobs.settings import CHANGEABLE


class ResumeSettings(Section):
    """Opens under its title with what the job's config says at that moment.

    Signals
    -------
    chosen : object
        What a person wants to be other than it is, by field name; may be empty.
    failed : object
        The error where the job's config cannot be read.
    """

    chosen = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(
            "Resume w&ith…",
            QWidget(),
            tool_tip="Go on from the last checkpoint with another learning rate, batch "
            "or number of steps.",
            parent=parent,
        )
        self._folder: JobFolder | None = None
        self._shown: AnyDict = {}
        self.form: ConfigForm | None = None
        self.resume_button = button(
            "&Go on with these",
            "Write these into the job's settings and resume it; they hold from the "
            "last checkpoint on.",
        )
        self.resume_button.clicked.connect(self._on_resume)
        self._column = QVBoxLayout(self.content)
        self._column.setContentsMargins(12, 0, 0, 0)
        self._column.addWidget(self.resume_button)
        self.button.toggled.connect(self._on_opened)

    def set_job(self, folder: JobFolder | None) -> None:
        """Close it; when it opens again it is about this job."""
        self._folder = folder
        self.set_open(False)

    def _on_opened(self, is_open: bool) -> None:
        if self.form is not None:
            self._column.removeWidget(self.form)
            self.form.deleteLater()
            self.form = None
        if not is_open or self._folder is None:
            return
        try:
            job, _ = read_job(self._folder.values(), self._folder.path)
        except GeoSRError as error:
            self.set_open(False)
            self.failed.emit(error)
            return
        training: Any = job.training  # type: ignore[attr-defined]  # of all that make models
        others = [
            name for name in type(training).model_fields if name not in CHANGEABLE
        ]
        self.form = ConfigForm(type(training), skip=others)
        self.form.set_values(training.model_dump())
        # As the form shows them: it may round.
        self._shown = self.form.values()
        self._column.insertWidget(0, self.form)

    def _on_resume(self) -> None:
        if self.form is None:
            return
        values = self.form.values()
        self.chosen.emit({k: v for k, v in values.items() if v != self._shown[k]})
