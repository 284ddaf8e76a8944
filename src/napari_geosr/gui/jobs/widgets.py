"""What one job looks like: its curves, texts and buttons."""

from __future__ import annotations

from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.jobs.resume_with import ResumeSettings
from napari_geosr.gui.kit.elided import ElidedLabel
from napari_geosr.gui.kit.loss_plot import LossPlot
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import button, small_button, text_label


class JobWidgets(QWidget):
    """The parts of a `JobView`, laid out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._make_widgets()
        self._lay_out()

    def _make_widgets(self) -> None:
        self.title = ElidedLabel("")
        self.title.setAccessibleName("Job")
        self.state_label = text_label("State", "What the training does now.")
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress of the training")
        self.progress.setToolTip("Steps done of all steps.")
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(10)
        self.figures = text_label(
            "Figures", "Time left, memory and speed of the training."
        )
        self.plot = LossPlot()
        self.message = MessageRow(shortcut="Alt+Shift+J")
        self.pause_button = button(
            "Pa&use", "Stop after the current step; can be resumed at any time."
        )
        self.resume_button = button(
            "Resu&me", "Go on from the last checkpoint, in a process of its own."
        )
        self.resume_with = ResumeSettings()
        self.finish_button = button(
            "Stop and &keep the model",
            "Stop after the current step, and make a model of what was learned.",
        )
        self.use_button = button(
            "Use this m&odel",
            "Keep the model among your models and choose it in the Restore dock.",
        )
        self.tune_button = button(
            "&Fine-tune this model",
            "Start another training from this model, e.g. on other data.",
        )
        self.show_preview = QCheckBox("Show pre&view")
        self.show_preview.setChecked(True)
        self.show_preview.setAccessibleName("Show preview")
        self.show_preview.setToolTip(
            "A layer with one slice as the network restores it now."
        )
        self.folder_label = ElidedLabel("")
        self.folder_label.setAccessibleName("Folder of the job")
        self.folder_button = small_button(
            "…",
            "Open the folder",
            "Open the folder with settings, log and model",
            "Alt+Shift+F",
        )

    def _lay_out(self) -> None:
        buttons = QGridLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.pause_button, 0, 0)
        buttons.addWidget(self.resume_button, 0, 0)
        buttons.addWidget(self.show_preview, 0, 1)
        buttons.addWidget(self.resume_with, 1, 0, 1, 2)
        buttons.addWidget(self.finish_button, 2, 0, 1, 2)
        buttons.addWidget(self.use_button, 3, 0, 1, 2)
        buttons.addWidget(self.tune_button, 4, 0, 1, 2)
        folder = QHBoxLayout()
        folder.addWidget(self.folder_label, 1)
        folder.addWidget(self.folder_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.title, self.state_label, self.progress, self.figures):
            column.addWidget(widget)
        column.addWidget(self.plot)
        column.addWidget(self.message)
        column.addLayout(buttons)
        column.addLayout(folder)

    def _buttons(self) -> tuple[QWidget, ...]:
        return (
            self.pause_button,
            self.resume_button,
            self.resume_with,
            self.finish_button,
            self.use_button,
            self.tune_button,
        )
