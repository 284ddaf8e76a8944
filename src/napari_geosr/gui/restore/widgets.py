"""The widgets of the Restore dock, and where they stand; what they do is elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.widgets import Section, fill_with_scrolling, progress_bar
from napari_geosr.gui.layers import holds_deviations, is_helper
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.warnings import FileWarningLabel
from napari_geosr.gui.layers.saving import SaveButton
from napari_geosr.gui.layers.series_choice import SeriesChoice
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow
from napari_geosr.gui.models.box import ModelBox
from napari_geosr.gui.restore.check_button import CheckButton
from napari_geosr.gui.restore.outlook.panel import OutlookPanel
from napari_geosr.gui.restore.outlook.strength import StrengthSlider
from napari_geosr.gui.restore.uncertainty_box import UncertaintyBox
from napari_geosr.operations.restore import RestoreConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

_DEVICES = {"darwin": ("auto", "cpu", "mps")}.get(sys.platform, ("auto", "cpu", "cuda"))

#: Text and tool tip of the button that starts a run.
RUN = "&Run", "Restore the whole layer into a new layer."
CONTINUE = (
    "Contin&ue",
    "Restore the tiles that {!r} lacks. Remove that layer to begin anew.",
)


class RestoreWidgets(Dock):
    """Everything that is seen of the Restore dock."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_widgets()
        self._lay_out()

    def _make_widgets(self) -> None:
        viewer = self._viewer
        self.layer_combo = LayerCombo(viewer, _can_be_restored)
        self.layer_combo.setAccessibleName("Image layer")
        self.layer_combo.setToolTip("The image layer to restore; it stays as it is.")
        self.model_box = ModelBox()
        self.extent = SeriesChoice()
        self.uncertainty = UncertaintyBox()
        self.voxel_size = VoxelSizeRow(viewer)
        self.frames = FramesRow()
        self.file_warnings = FileWarningLabel()
        self.strength = StrengthSlider()
        self.outlook = OutlookPanel(viewer)
        self.verdict = self.outlook.verdict
        self.estimate = QLabel("Estimate: –")
        self.estimate.setWordWrap(True)
        self.estimate.setAccessibleName("Estimate of time and memory")
        self.estimate.setToolTip("Time and memory that a run will take on this device.")
        self.preview_button = _button(
            "Pr&eview",
            "Restore what is on screen, and follow the slider.",
            checkable=True,
        )
        self.run_button = _button(*RUN)
        self.run_button.setDefault(True)
        self.cancel_button = _button(
            "&Cancel", "Stop within a second; finished tiles are kept."
        )
        self.progress = progress_bar("Progress", "Progress of what runs now.")
        self.progress_label = QLabel()
        self.progress_label.setWordWrap(True)
        self.progress_label.setAccessibleName("Progress in words")
        self.measure_button = _button(
            "&Measure porosity…", "Open the Porosity dock with the restored layer."
        )
        self.save_button = SaveButton("&Save result…")
        self.check_button = CheckButton(viewer)
        self.compare = CompareBox(viewer)
        shown_above = ("model", "strength", *self.uncertainty.values())
        self.form = ConfigForm(
            RestoreConfig, skip=shown_above, choices={"device": _DEVICES}
        )
        self.card = Section(
            "C&ard of the model",
            self.model_box.card_label,
            tool_tip="What the model is for, not for, its figures and its licence.",
        )
        self.settings = Section(
            "Settin&gs",
            self.form,
            tool_tip="Device, memory and output; what is not set is chosen for you.",
        )
        self.copy_command = _button(
            "Cop&y as command", "Copy the command line that does the same run."
        )
        self.copy_python = _button(
            "Copy as Pytho&n", "Copy the Python script that does the same run."
        )

    def _lay_out(self) -> None:
        choices = QFormLayout()
        choices.setContentsMargins(0, 0, 0, 0)
        choices.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        choices.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        for title, widget, buddy in (
            ("&Image", self.layer_combo, self.layer_combo),
            ("M&odel", self.model_box, self.model_box.combo),
            ("Strength", self.strength, self.strength.slider),
            ("Uncertainty", self.uncertainty, self.uncertainty.combo),
        ):
            label = QLabel(title)
            label.setBuddy(buddy)
            label.setToolTip(buddy.toolTip())
            label.setAccessibleName(f"Label of {buddy.accessibleName()}")
            choices.addRow(label, widget)
        choices.insertRow(1, self.extent.label, self.extent)
        actions = QHBoxLayout()
        for button in (self.preview_button, self.run_button, self.cancel_button):
            button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            actions.addWidget(button, 1)
        results = QHBoxLayout()
        results.addWidget(self.save_button, 1)
        results.addWidget(self.measure_button, 1)
        copies = QHBoxLayout()
        copies.addWidget(self.copy_command, 1)
        copies.addWidget(self.copy_python, 1)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addLayout(choices)
        for widget in (
            self.model_box.summary,
            self.voxel_size,
            self.frames,
            self.file_warnings,
            self.outlook,
            self.estimate,
        ):
            column.addWidget(widget)
        column.addLayout(actions)
        for widget in (self.progress, self.progress_label, self.message):
            column.addWidget(widget)
        column.addLayout(results)
        for widget in (
            self.check_button,
            _line(),
            self.compare,
            _line(),
            self.settings,
            self.card,
        ):
            column.addWidget(widget)
        column.addLayout(copies)
        column.addStretch(1)
        fill_with_scrolling(self, inner)
        self.measure_button.setVisible(False)


def _can_be_restored(layer: Layer) -> bool:
    """Whether a layer is an image of a person's, not a preview or curtain of ours."""
    from napari.layers import Image

    if not isinstance(layer, Image) or is_helper(layer):
        return False
    return not holds_deviations(layer)


def _button(text: str, tool_tip: str, *, checkable: bool = False) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tool_tip)
    button.setAccessibleName(text.replace("&", "").removesuffix("…"))
    button.setCheckable(checkable)
    return button


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line
