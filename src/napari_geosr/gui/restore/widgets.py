"""Widgets and layout of the Restore dock, without their behaviour."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import ConfigError
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, Heading, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.progress import format_duration
from napari_geosr.gui.kit.widgets import (
    PartScroller,
    Section,
    add_row,
    form_layout,
    scrolling,
    text_label,
)
from napari_geosr.gui.layers import (
    holds_deviations,
    is_difference,
    is_helper,
    is_own_result,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.notes import NotesRow
from napari_geosr.gui.layers.questions.record import mark_misfit
from napari_geosr.gui.layers.saving import SaveButton
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow
from napari_geosr.gui.models.box import ModelBox
from napari_geosr.gui.restore.check_button import (
    CheckButton,
    CheckVerdict,
    CompareButton,
)
from napari_geosr.gui.restore.choices import SeriesChoice, StrengthSlider
from napari_geosr.gui.restore.explanation_box import ExplanationBox
from napari_geosr.gui.restore.finished_part_row import FinishedPartRow
from napari_geosr.gui.restore.live_preview import LivePreview
from napari_geosr.gui.restore.more_actions import MoreActions
from napari_geosr.gui.restore.noise_box import NoiseSourceBox
from napari_geosr.gui.restore.uncertainty_box import UncertaintyBox
from napari_geosr.gui.restore.verdict.activity import RANK, VERDICT
from napari_geosr.gui.restore.verdict.panel import VerdictPanel
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.ranking import NONE

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.operations.restore.consistency import ConsistencyCheck

_DEVICES = {"darwin": ("auto", "cpu", "mps")}.get(sys.platform, ("auto", "cpu", "cuda"))

#: Text and tool tip of the button that starts a run.
RUN = "&Run", "Restore the whole layer into a new layer."
_MISSING = "Restore the missing tiles of {!r}. Remove that layer to start again."
RESUME = "&Resume", _MISSING
_NO_IMAGE = "Open an image to restore it."
_NONE_CHOSEN = "Choose an image to restore it."
_READY = "Ready: press Run."
_DONE = "Done. Next: Measure porosity…"
_KEEPS_SCAN = "To restore it anyway, choose a model."
#: Text of the status line when an operation starts.
_STARTING = {
    "prepare": "Preparing the run…",
    "run": "Starting the run…",
    "preview": "Updating the preview…",
}
_DIFFERENCE = "Computing the difference…"
_CHECK = "Comparing the result with the scan…"
#: Text of the status line for the operations of the verdict.
_BACKGROUND = {
    RANK: "Comparing models…",
    VERDICT: "Checking the effect of this model…",
}
_ESTIMATE_TIP = (
    "Time and memory that a run needs on this device. The run takes longer if other "
    "programs use the processor."
)
_MEASURE = "&Measure porosity…"
_MEASURE_TIP = "Open the Porosity dock with the restored layer."
#: Reasons not to measure a result: harm that is predicted, or found by the check.
_EXPECTED_HARM = "it is expected to be worse than the scan."
_MISFIT = "it does not fit the scan."
_DONE_BUT = f"Done. Do not measure this result: {_MISFIT}"


class RestoreWidgets(Dock):
    """The widgets of the Restore dock."""

    scroller: PartScroller
    #: Whether the result of the current settings may be measured.
    is_done = False

    option_titles: ClassVar[dict[str, str]] = {
        "model": "Model",
        "strength": "Strength",
        "uncertainty": "Uncertainty",
        "uncertainty_members": "Members",
        "ensemble_with": "Ensemble with",
    }

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_widgets()
        self.cluster = ClusterButton(self._viewer, self, "Alt+Shift+K")
        self.verdict_panel.sendable.connect(
            self.cluster.widget.click, Qt.ConnectionType.QueuedConnection
        )
        self.live = LivePreview(self._viewer, self)
        self.more = MoreActions(
            (
                (self.live.widget,),
                (self.verdict_panel.adapt_button,),
                (self.copy_command, self.copy_python),
                (self.cluster.widget,),
            )
        )
        self._lay_out()

    def _make_widgets(self) -> None:
        viewer = self._viewer
        self.layer_combo = LayerCombo(
            viewer, _can_be_restored, proposes=lambda layer: not is_own_result(layer)
        )
        self.layer_combo.setAccessibleName("Image layer")
        self.layer_combo.setToolTip("Image layer to restore. It is not changed.")
        self.model_box = ModelBox()
        self.extent = SeriesChoice()
        self.uncertainty = UncertaintyBox()
        self.voxel_size = VoxelSizeRow(viewer, key="Ctrl+Alt+U")
        self.frames = FramesRow()
        self.notes = NotesRow(self.voxel_size, self.frames)
        self.strength = StrengthSlider()
        self.model_box.strengthProposed.connect(self.strength.propose)
        self.verdict_panel = VerdictPanel(viewer)
        self.verdict = self.verdict_panel.message
        self.finished_part_row = FinishedPartRow()
        self.job_row = JobRow(viewer, "restore", self)
        self.estimate = text_label(
            "Time and memory estimate", _ESTIMATE_TIP, "Estimate: –"
        )
        self.preview_button = _button(
            "Pr&eview",
            "Restore the current slice, and update it when the slider moves.",
            checkable=True,
        )
        self.run_button = _button(*RUN)
        self.cancel_button = _button("&Cancel", "Stop. Finished tiles are kept.")
        self.measure_button = _button(_MEASURE, _MEASURE_TIP)
        self.save_button = SaveButton("&Save result…")
        self.check_button = CheckButton(viewer)
        self.check_verdict = CheckVerdict()
        self.check_button.checked_result.connect(self.check_verdict.show_check)
        self.check_button.checked_result.connect(self._on_checked)
        self.verdict_panel.activity.busyChanged.connect(self._show_background)
        self.check_verdict.contradicted.connect(self.verdict_panel.withdraw_verdict)
        self.explanation_box = ExplanationBox(viewer)
        self.compare = CompareBox(viewer)
        self.compare.busyChanged.connect(self._show_background)
        self.check_button.activity.busyChanged.connect(self._show_background)
        self.compare_button = CompareButton(viewer)
        self.compare_button.clicked.connect(lambda: self.check_button.hide_layers())
        for button in self.compare.toggles():
            button.toggled.connect(self.check_button.hide_layers)
        self.measure_button.clicked.connect(lambda: self.check_button.hide_layers())
        shown_above = ("model", "strength", *self.uncertainty.values())
        self.form = ConfigForm(
            RestoreConfig, skip=shown_above, choices={"device": _DEVICES}
        )
        card_tip = "Intended use, limitations, quality and licence of the model."
        self.card = Section("Model c&ard", self.model_box.card_label, tool_tip=card_tip)
        self.noise_box = NoiseSourceBox(viewer)
        self.noise_box.failed.connect(self.show_failure)
        self.settings = Section(
            "Settin&gs",
            _stacked("Noise measured in", self.noise_box, self.form),
            tool_tip=(
                "Noise, device, memory and output. Settings left empty are chosen "
                "automatically."
            ),
        )
        self.copy_command = _button(
            "Cop&y as command", "Copy the command line for the same run."
        )
        self.copy_python = _button(
            "Copy as Python",
            "Copy a Python script for the same run (Alt+Shift+P).",
        )
        self.copy_python.setShortcut("Alt+Shift+P")

    def set_user_choice(self, by_hand: bool) -> None:
        """Set whether the user chose the model and its strength.

        If not, a ranking replaces both.
        """
        self.model_box.set_user_choice(by_hand)
        if self.model_box.compared_factor() == 1:
            self.strength.set_user_choice(by_hand)

    def chosen_layer(self) -> Image:
        """Return the layer to restore; raise `ConfigError` if there is none."""
        layer = self.layer_combo.layer()
        if layer is None:
            raise ConfigError("No layer is selected. Open an image first.")
        return layer

    def set_checked_pair(self, source: Image | None, result: Image | None) -> None:
        """Set the pair to check, explain and compare; with None, hide these widgets."""
        for widget in (self.check_button, self.explanation_box, self.compare_button):
            widget.set_pair(source, result)

    def settings_forms(self) -> tuple[ConfigForm]:
        """Return the form of the section *Settings*."""
        return (self.form,)

    def show_estimate(self, text: str) -> None:
        """Show the time and memory that a run needs."""
        self.estimate.setText(text)
        self.estimate.setVisible(True)

    def show_no_estimate(self) -> None:
        """Show that nothing was estimated; hide the line if nothing will be run."""
        self.show_estimate("Estimate: –")
        self.estimate.setVisible(self.model_box.model() != NONE)

    def offer_measuring(self, can_measure: bool, *, harmful: bool) -> None:
        """Show *Measure*, and propose it unless the result is expected to be worse."""
        self.measure_button.setVisible(can_measure)
        self.is_done = can_measure and not harmful
        self.show_next()

    def show_unmeasurable(self, reason: str) -> None:
        """Mark the *Measure* button if the result must not be measured.

        Parameters
        ----------
        reason : str
            End of a sentence; empty if the result may be measured.
        """
        self.measure_button.setText(f"⚠ {_MEASURE}" if reason else _MEASURE)
        self.measure_button.setToolTip(
            f"Do not measure this result: {reason}" if reason else _MEASURE_TIP
        )

    def show_done(
        self, layer: Image, seconds: float, warnings: list[str], *, harmful: bool
    ) -> None:
        """Show that a run is complete; no tick if its result must not be measured."""
        done, kind = f"Done in {format_duration(seconds)}", "ok"
        if harmful:
            done += f". Do not measure this result: {_EXPECTED_HARM}"
            kind = "misfit"
            reason = _EXPECTED_HARM.replace("it", "The result", 1)
            mark_misfit(layer, f"{reason} Do not measure it.", in_name=False)
        elif warnings:
            kind = "warning"
        text = " ".join([f"{done.removesuffix('.')}.", *warnings])
        self.message.show_message(text, kind)
        self.show_unmeasurable(_EXPECTED_HARM if harmful else "")

    def _on_checked(self, checked: ConsistencyCheck, name: str) -> None:
        """Show the full verdict; a result that does not fit the scan gets no tick."""
        self.scroller.show_part(self.check_verdict)
        if name:  # an earlier result was checked
            return
        fits = checked.verdict.level != "harmful"
        self.show_unmeasurable("" if fits else _MISFIT)
        if fits:
            self.withdraw_misfit()
        else:
            self.message.show_message(_DONE_BUT, "misfit")
            self._on_outdated()

    def withdraw_misfit(self) -> None:
        """Clear the message that a result does not fit the scan."""
        if self.message.text == _DONE_BUT:
            self.message.clear()

    def show_operation(self, what: str, *, awaited: bool) -> None:
        """Show the running operation in the status line, or the idle text.

        Parameters
        ----------
        what : str
            The dock's running operation; empty if there is none.
        awaited : bool
            Whether a run is waiting for its preparation.
        """
        self.noise_box.set_running(what == "run")
        # Hide the bar during previews: a preview is computed whenever the displayed
        # region changes, so the bar would flicker.
        is_shown = awaited or what in ("run", "prepare")
        background = self._background()
        self.progress.setVisible(is_shown or (not what and bool(background)))
        self.progress.setRange(0, 0 if what or awaited or background else 1)
        self.show_next()
        preparing = _STARTING["prepare"]
        self.bar.state.setText(preparing if awaited else _STARTING.get(what, ""))

    def _show_background(self, _what: str = "") -> None:
        if not self.activity.busy and self.bar.state.text() == self.bar.state.idle:
            self.show_operation("", awaited=False)

    def _background(self) -> str:
        """Describe the running operation that is not part of a preview or run."""
        if self.compare.is_computing:
            return _DIFFERENCE
        if self.check_button.activity.busy:
            return _CHECK
        return _BACKGROUND.get(self.verdict_panel.activity.busy, "")

    def show_next(self) -> None:
        """Name the next step while nothing is running, and highlight its button."""
        self.bar.state.set_idle(self.idle_text())
        self.bar.set_primary(self.measure_button if self.is_done else self.run_button)

    def _on_outdated(self) -> None:
        """Propose another run: a choice was changed, or the result does not fit."""
        self.is_done = False
        self.show_next()

    def idle_text(self) -> str:
        """Return the status line's text while nothing is running in the foreground."""
        if background := self._background():
            return background
        if self.layer_combo.layer() is not None:
            if self.model_box.model() == NONE:
                return _KEEPS_SCAN
            return _DONE if self.is_done else _READY
        return _NONE_CHOSEN if self.layer_combo.count() else _NO_IMAGE

    def _lay_out(self) -> None:
        choices = form_layout()
        choices.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        for title, widget, buddy in (
            ("&Image", self.layer_combo, self.layer_combo),
            ("M&odel", self.model_box, self.model_box.combo),
            ("Strength", self.strength, self.strength.slider),
            ("Uncertainty", self.uncertainty, self.uncertainty.combo),
        ):
            add_row(choices, title, widget, buddy)
        choices.insertRow(2, "", self.model_box.summary)
        choices.insertRow(1, self.extent.label, self.extent)
        self.bar = ActionBar(
            (self.preview_button, self.run_button, self.cancel_button),
            primary=self.run_button,
        )
        self.progress, self.progress_label = self.bar.progress, self.bar.state
        results = QHBoxLayout()
        results.addWidget(self.save_button, 1)
        results.addWidget(self.measure_button, 1)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.job_row)
        column.addLayout(choices)
        for widget in (
            self.notes,
            self.voxel_size,
            self.frames,
            self.verdict_panel,
            self.finished_part_row,
            self.estimate,
            self.compare,
        ):
            column.addWidget(widget)
        column.addWidget(Heading("Result", (self.save_button, self.measure_button)))
        column.addLayout(results)
        for widget in (
            self.compare_button,
            self.check_button,
            self.check_verdict,
            self.explanation_box,
            _line(),
            self.settings,
            self.card,
            self.more,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)
        self.measure_button.setVisible(False)
        for changed in (
            self.layer_combo.layerChanged,
            self.model_box.modelChanged,
            self.uncertainty.changed,
            self.form.changed,
            self.strength.changed,
        ):
            changed.connect(self._on_outdated)


def _can_be_restored(layer: Layer) -> bool:
    """Whether a layer is an image other than a helper, deviations or a difference."""
    from napari.layers import Image

    if not isinstance(layer, Image) or is_helper(layer):
        return False
    return not (holds_deviations(layer) or is_difference(layer))


def _stacked(title: str, row: NoiseSourceBox, form: QWidget) -> QWidget:
    """Return a widget with the titled row above the form."""
    content = QWidget()
    column = QVBoxLayout(content)
    column.setContentsMargins(0, 0, 0, 0)
    rows = form_layout()
    add_row(rows, title, row, row.combo)
    column.addLayout(rows)
    column.addWidget(form)
    return content


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
