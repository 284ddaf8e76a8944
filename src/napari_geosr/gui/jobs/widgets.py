"""The widgets of one job: its curves, labels and buttons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QRectF, QSize, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.jobs.result import SHOWN_AS_LAYER
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.plots.loss_plot import LossPlot
from napari_geosr.gui.kit.widgets import (
    ElidedLabel,
    Section,
    button,
    small_button,
    text_label,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import FIT_NETWORKS, MAKE_MODELS, read_job
from napari_geosr.jobs.settings import CHANGEABLE

#: Tool tip of the figures of a job.
FIGURES_TIP = "Time left, memory, speed and energy."
#: Space to the left of elided labels in pixels, which aligns them with other labels.
_INDENT = 5
#: Height of the strip of finished parts in pixels.
_STRIP_HEIGHT = 10
#: Opacity of a part of the strip with no progress.
_FAINT = 0.15


class JobWidgets(QWidget):
    """The widgets of a `JobView` and their layout.

    Attributes
    ----------
    actions : tuple of QPushButton
        Buttons for the action bar of the dock that shows the view.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_widgets()
        self._lay_out()

    def _make_widgets(self) -> None:
        self.title = ElidedLabel("")
        self.title.setAccessibleName("Job")
        bold = self.title.font()
        bold.setBold(True)
        self.title.setFont(bold)
        self.state_label = text_label("State", "Current status of the job.")
        self.figures = text_label("Progress details", FIGURES_TIP)
        self.strip = PartsStrip()
        self.plot = LossPlot()
        self.message = MessageRow(shortcut="Alt+Shift+J")
        self.pause_button = button(
            "Pa&use", "Stop after the current step. You can resume at any time."
        )
        self.resume_button = button("&Resume", "Resume in the background.")
        self.resume_with = ResumeSettings()
        self.finish_button = button(
            "Stop and &keep the model",
            "Stop after the current step and keep the model trained so far.",
        )
        self.use_button = button(
            "Use this m&odel",
            "Copy the model to your models and select it in the Restore dock.",
        )
        self.show_button = button(
            "Show result",
            "Add the volume as a layer; open a measurement in the Porosity dock.",
            "Alt+Shift+Q",
        )
        self.tune_button = button(
            "Fine-tune this model",
            "Start a new training run from this model, for example on other data.",
            "Alt+Shift+N",
        )
        self.show_preview = QCheckBox("Show preview")
        self.show_preview.setChecked(True)
        self.show_preview.setAccessibleName("Show preview")
        self.show_preview.setToolTip(
            "Show the network's current result for one slice in a separate layer "
            "(Alt+Shift+V)."
        )
        self.show_preview.setShortcut("Alt+Shift+V")
        self.folder_label = ElidedLabel("")
        self.folder_label.setAccessibleName("Job folder")
        self.folder_button = small_button(
            "…",
            "Open the folder",
            "Open the folder with settings, log and model",
            "Alt+Shift+F",
        )

    def _lay_out(self) -> None:
        self.actions = (
            self.pause_button,
            self.resume_button,
            self.use_button,
            self.show_button,
        )
        buttons = QGridLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.finish_button, 0, 0, 1, 2)
        buttons.addWidget(self.tune_button, 1, 0)
        buttons.addWidget(self.show_preview, 1, 1)
        self.folder_row = QWidget()
        folder = QHBoxLayout(self.folder_row)
        folder.setContentsMargins(_INDENT, 0, 0, 0)
        folder.addWidget(self.folder_label, 1)
        folder.addWidget(self.folder_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        title = QHBoxLayout()
        title.setContentsMargins(_INDENT, 0, 0, 0)
        title.addWidget(self.title)
        column.addLayout(title)
        for widget in (self.state_label, self.figures):
            column.addWidget(widget)
        column.addWidget(self.strip)
        column.addWidget(self.plot)
        column.addWidget(self.message)
        column.addLayout(buttons)
        column.addWidget(self.resume_with)
        column.addWidget(self.folder_row)

    @property
    def next_button(self) -> QPushButton:
        """Button for the next step: resume, or use the (future) result."""
        if self.resume_button.isEnabled():
            return self.resume_button
        return self.show_button if self.use_button.isHidden() else self.use_button

    def _fit_to_kind(self, operation: str | None) -> None:
        """Show the widgets for a kind of job, or only a sentence if there is no job."""
        fits, makes_model = operation in FIT_NETWORKS, operation in MAKE_MODELS
        for widget in (self.plot, self.finish_button, self.show_preview):
            widget.setVisible(fits)
        self.tune_button.setVisible(makes_model)
        shown = operation in SHOWN_AS_LAYER
        self.show_button.setVisible(shown)
        # This button replaces `show_button`; only studies of projections have neither.
        self.use_button.setVisible(makes_model or not operation)
        for widget in (self.title, self.figures, self.folder_row):
            widget.setVisible(operation is not None)

    def _buttons(self) -> tuple[QWidget, ...]:
        return (
            *self.actions,
            self.finish_button,
            self.tune_button,
        )


class ResumeSettings(Section):
    """A collapsible section that shows the job's current config when opened.

    Signals
    -------
    chosen : object
        Changed settings by field name; may be empty.
    failed : object
        The error if the job's config cannot be read.
    """

    chosen = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(
            "Resume w&ith…",
            QWidget(),
            tool_tip=(
                "Resume from the last checkpoint with another learning rate, "
                "batch size or number of steps."
            ),
            parent=parent,
        )
        self._folder: JobFolder | None = None
        self._shown: AnyDict = {}
        self.form: ConfigForm | None = None
        self.resume_button = button(
            "Apply and resume",
            "Resume the job with these settings, which apply from the last "
            "checkpoint on.",
            "Alt+Shift+W",
        )
        self.resume_button.clicked.connect(self._on_resume)
        self._column = QVBoxLayout(self.content)
        self._column.setContentsMargins(12, 0, 0, 0)
        self._column.addWidget(self.resume_button)
        self.button.toggled.connect(self._on_opened)

    def set_job(self, folder: JobFolder | None) -> None:
        """Set the job; the section is collapsed and shows the job when opened again."""
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
        training: Any = job.training  # type: ignore[attr-defined]  # in all model jobs
        others = [
            name for name in type(training).model_fields if name not in CHANGEABLE
        ]
        self.form = ConfigForm(type(training), skip=others)
        self.form.set_values(training.model_dump())
        # Take the values from the form, because it may round them.
        self._shown = self.form.values()
        self._column.insertWidget(0, self.form)

    def _on_resume(self) -> None:
        if self.form is None:
            return
        values = self.form.values()
        self.chosen.emit({k: v for k, v in values.items() if v != self._shown[k]})


class PartsStrip(QWidget):
    """A strip of cells, one per part of a volume, each filled as the part is finished.

    Attributes
    ----------
    parts : tuple of int
        Finished percentages, in the order of the planes of the volume.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.parts: tuple[int, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Finished parts")

    def sizeHint(self) -> QSize:
        """Return the preferred size."""
        return QSize(100, _STRIP_HEIGHT)

    def set_parts(self, parts: Sequence[int]) -> None:
        """Show the given percentages; hide the strip if there are none."""
        self.setVisible(bool(parts))
        if tuple(parts) == self.parts:
            return
        self.parts = tuple(parts)
        text = describe_parts(self.parts)
        self.setToolTip(text)
        self.setAccessibleDescription(text)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the cells in the colour of the theme."""
        painter = QPainter(self)
        color = self.palette().color(QPalette.ColorRole.Text)
        width = self.width() / max(len(self.parts), 1)
        gap = 1.0 if width > 3 else 0.0
        for i, percentage in enumerate(self.parts):
            shade = QColor(color)
            shade.setAlphaF(_FAINT + (1 - _FAINT) * percentage / 100)
            cell = QRectF(i * width, 0, width - gap, self.height())
            painter.fillRect(cell, shade)
        painter.end()


def describe_parts(parts: Sequence[int]) -> str:
    """Return the number of finished parts, as text for the user."""
    n = sum(percentage == 100 for percentage in parts)
    started = sum(0 < percentage < 100 for percentage in parts)
    text = f"{n} of {len(parts)} parts of the volume are finished"
    if started:
        text += f", {started} in part"
    return f"{text} (first plane on the left)."
