"""Widgets and layout of the *Segment* dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QTreeWidgetItem, QVBoxLayout, QWidget

from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.lists import list_tree
from napari_geosr.gui.kit.widgets import (
    PartScroller,
    Section,
    add_row,
    button,
    combo,
    form_layout,
    scrolling,
    text_label,
)
from napari_geosr.gui.layers import is_helper, is_measurable
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.questions.image_notes import ImageNotes
from napari_geosr.operations.segment import SegmentConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.operations.segment import Suggestion

#: Hints on the next action: without a scan, without strokes, with only one painted
#: class, with several, and after a segmentation.
NO_SCAN = "Open a scan to segment."
NO_STROKES = "Choose the scan, then press New labels."
PAINT = "Paint at least two classes with napari's brush."
READY = "Paint over mistakes, then segment."
DONE = "Done. Next: Measure porosity…"
#: First entries of the overlay menu; the probability of each class follows.
CLASSES, UNCERTAINTY = "none", "uncertainty"
#: Minimum and maximum height of the list of slices, in pixels.
_LIST_HEIGHTS = (80, 140)


def is_painted(layer: Layer) -> bool:
    """Whether a layer may hold strokes: labels that are not a helper layer."""
    return bool(layer_type(layer) == "labels" and not is_helper(layer))


class SegmentWidgets(Dock):
    """The widgets of the Segment dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs()
        self._make_results()
        self._make_actions()
        self._lay_out()

    def _make_inputs(self) -> None:
        self.scan = LayerCombo(self._viewer, is_measurable)
        self.scan.setAccessibleName("Scan")
        self.scan.setToolTip("The scan to segment.")
        self.notes = ImageNotes(self._viewer)
        self.scan.layerChanged.connect(lambda: self.notes.set_layer(self.scan.layer()))
        self.notes.set_layer(self.scan.layer())
        self.strokes = LayerCombo(self._viewer, is_painted)
        self.strokes.setAccessibleName("Labels")
        self.strokes.setToolTip(
            "Labels layer in which you paint: class 1, class 2 and so on. 0 means not "
            "painted."
        )
        self.new_button = button(
            "&New labels",
            "Add an empty Labels layer with the scan's voxel grid, and switch to "
            "napari's brush.",
        )
        self.live = QCheckBox("L&ive")
        self.live.setAccessibleName("Live")
        self.live.setChecked(True)
        self.live.setToolTip("Segment the current slice after each stroke.")
        self.shown = combo(
            "Also show",
            "Also show how uncertain the classes are, or the probability of a class, "
            "for the current slice.",
        )
        self.shown.addItems([CLASSES, UNCERTAINTY])
        self.form = ConfigForm(SegmentConfig, skip=("unpainted",))
        self._make_model_actions()
        self.advanced = Section(
            "&Advanced", self._model_part, tool_tip="Diffusion model, seed and device."
        )

    def _make_model_actions(self) -> None:
        self.compare_button = button(
            "Evaluate the &model",
            "Hold out each painted slice in turn, and compare the results with and "
            "without the model.",
        )
        self.comparison = text_label(
            "Comparison", "Overlap with painted slices that were held out."
        )
        self.comparison.hide()
        self.tune_button = button(
            "Fin&e-tune…",
            "Open the Train dock to train a network on these labels, starting from the "
            "model if one is chosen.",
        )
        self._model_part = QWidget()
        column = QVBoxLayout(self._model_part)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.form,
            self.compare_button,
            self.comparison,
            self.tune_button,
        ):
            column.addWidget(widget)

    def _make_results(self) -> None:
        self.slices = list_tree(
            ("Slice", "Reason"),
            "Slices to paint next",
            "Slices where painting would help most. Click one to go to it.",
            heights=_LIST_HEIGHTS,
            widest=1,
        )
        self.suggest_button = button(
            "S&uggest slices",
            "Find the slices that differ most from the painted ones or, once there is "
            "a prediction, those with the highest uncertainty.",
        )
        self.fractions = text_label(
            "Fractions", "Fraction of each class in the segmented scan."
        )
        self.of_class = combo("Class", "Class for which the porosity is measured.")
        self.porosity_button = button(
            "Measure porosi&ty…",
            "Open the Porosity dock with the chosen class as pores.",
        )
        self.results = QWidget()

    def _make_actions(self) -> None:
        self.segment_button = button(
            "Se&gment whole scan", "Segment all slices and add the result as a layer."
        )
        self.cancel_button = button("&Cancel", "Stop; no layer is added.")
        self.probabilities = QCheckBox("&Keep probabilities in jobs")
        self.probabilities.setAccessibleName("Keep probabilities in jobs")
        self.probabilities.setToolTip(
            "When the scan is segmented on a cluster or in the background, also write "
            "the probability of each class: 4 bytes per voxel and class."
        )
        self.cluster = ClusterButton(self._viewer, self, "Alt+Shift+K")
        self.job_row = JobRow(self._viewer, "segment", self)

    def _lay_out(self) -> None:
        inputs = form_layout()
        add_row(inputs, "Scan", self.scan)
        add_row(inputs, "Labels", self.strokes)
        painting = QHBoxLayout()
        painting.addWidget(self.new_button, 1)
        painting.addWidget(self.live)
        views = form_layout()
        add_row(views, "Also sh&ow", self.shown)
        of_class = QHBoxLayout(self.results)
        of_class.setContentsMargins(0, 0, 0, 0)
        of_class.addWidget(self.of_class)
        of_class.addWidget(self.porosity_button, 1)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addLayout(inputs)
        column.addWidget(self.notes)
        column.addWidget(self.job_row)
        column.addLayout(painting)
        column.addLayout(views)
        for widget in (
            self.suggest_button,
            self.slices,
            self.advanced,
            self.fractions,
            self.results,
            self.probabilities,
            self.cluster.widget,
        ):
            column.addWidget(widget)
        column.addStretch(1)
        self.bar = ActionBar(
            (self.segment_button, self.cancel_button),
            idle=NO_SCAN,
            primary=self.segment_button,
        )
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)
        self.show_fractions({})
        self.show_suggestions(())

    def show_next(self, *, has_answer: bool, is_done: bool) -> None:
        """Name the next step, and highlight its button.

        Parameters
        ----------
        has_answer : bool
            Whether the strokes suffice to predict a slice.
        is_done : bool
            Whether the scan was segmented from these strokes.
        """
        if self.scan.layer() is None:
            self.bar.set_next(NO_SCAN, self.segment_button)
        elif self.strokes.layer() is None:
            self.bar.set_next(NO_STROKES, self.new_button)
        elif is_done:
            self.bar.set_next(DONE, self.porosity_button)
        else:
            self.bar.set_next(READY if has_answer else PAINT, self.segment_button)

    def show_fractions(self, fractions: Mapping[int, float]) -> None:
        """Show the fraction of each class; hide the text if there is none."""
        self.fractions.setText(
            "\n".join(f"Class {k}: {100 * f:.2f} %" for k, f in fractions.items())
        )
        self.of_class.clear()
        for number in fractions:
            self.of_class.addItem(f"Class {number}", number)
        for widget in (self.fractions, self.results):
            widget.setVisible(bool(fractions))

    def show_suggestions(self, suggestions: Sequence[Suggestion]) -> None:
        """List slices to paint next; hide the list if there are none."""
        self.slices.setVisible(bool(suggestions))
        self.slices.clear()
        for each in suggestions:
            item = QTreeWidgetItem([str(each.z), each.reason])
            item.setData(0, 0x0100, each.z)
            self.slices.addTopLevelItem(item)

    def offer_classes(self, classes: Sequence[int]) -> None:
        """Offer the probabilities of these classes; keep the choice if possible."""
        entries = [
            CLASSES,
            UNCERTAINTY,
            *(f"probability of class {k}" for k in classes),
        ]
        if [self.shown.itemText(i) for i in range(self.shown.count())] == entries:
            return
        before = self.shown.currentText()
        self.shown.blockSignals(True)
        self.shown.clear()
        self.shown.addItems(entries)
        self.shown.setCurrentIndex(max(0, self.shown.findText(before)))
        self.shown.blockSignals(False)
