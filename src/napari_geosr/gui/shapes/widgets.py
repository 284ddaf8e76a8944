"""Widgets and layout of the *Shapes* dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.text.figures import Figure
from napari_geosr.core.units import volume_text
from napari_geosr.gui.jobs.cluster import ClusterButton
from napari_geosr.gui.jobs.row import JobRow
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.fields import field_widget, show
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.lists import NUMBERS, FiguresTable, list_tree
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
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.core.config import Config
    from napari_geosr.core.types import AnyDict, AnyMapping

#: Tasks, in the order of their menu.
REFINE, COMPLETE, SEGMENT = "Refine", "Complete", "Segment inside"
#: Text of the bar while nothing is running: without a shape, without a scan to segment,
#: before a segmentation with a mask or a threshold, before any other run, after a run,
#: and after a completion in an assumed orientation.
NO_SHAPE = "Open labels, or segment a scan first."
NO_SCAN = "Open a mask and the scan to segment."
NO_IMAGE = "Open the scan to segment."
READY_TO_SEGMENT = "Segment the voxels of the mask."
READY_BEYOND = "Segment the voxels beyond the threshold."
READY = "Preview the result, or run the task."
DONE = "Compare the result with the input."
UNSURE = "Check the orientation of the shape."
#: Note after an export if the labels were edited.
EDITED = (
    "The labels were edited after the run. The file contains the surface from the run, "
    "without the edits; to export the edited labels, save them and use napari-geosr "
    "shapes mesh."
)
#: Label of the first field: *Shape* or, for a segmentation, *Region*.
_SHAPE, _REGION = "&Shape", "Re&gion"
#: Regions to segment, in the order of their menu, and the settings of the thresholds.
MASK, ABOVE, BELOW = "Mask", "Above", "At or below"
_SIDES = {ABOVE: "above", BELOW: "below"}
#: General settings of a run that are rarely changed.
_ADVANCED = ("memory", "device", "threads", "grey_scale")
#: Minimum and maximum height of the table, in pixels.
_TABLE_HEIGHTS = (110, 140)
_EULER = "Euler number"


def holds_shape(layer: Layer) -> bool:
    """Whether a layer may hold a shape: labels that are not a helper layer."""
    return bool(layer_type(layer) == "labels" and not is_helper(layer))


class MaskFormConfig(SegmentInsideConfig):
    """Settings of the segmentation in the dock, initially without a model."""

    model: str = Field(
        "",
        title="Model",
        description="Folder of a model, or of the job that trained it (napari-geosr "
        "train sparse-segmentation).",
        json_schema_extra={"unset": "folder of a model or job"},
    )
    memory: MemoryBudget = Field(
        None,
        title="Memory",
        description="Maximum memory of the run, such as 4GB, in addition to the "
        "program, the model and the labels of the result (one byte per voxel). By "
        "default, part of the free memory is used.",
    )


class RegionField(QWidget):
    """Row that chooses a shape or, for a segmentation, a mask or a threshold.

    Parameters
    ----------
    layers : LayerCombo
        Menu of shapes and masks.

    Signals
    -------
    changed
        Another kind of region or another threshold was chosen.
    """

    changed = Signal()

    def __init__(self, layers: LayerCombo) -> None:
        super().__init__()
        self._layers = layers
        self.kind = combo(
            "Region",
            "Voxels to segment: those of a mask, or those above or below a grey value "
            "of the scan.",
        )
        self.kind.addItems([MASK, *_SIDES])
        self._threshold = field_widget(SegmentInsideConfig.model_fields["above"])
        self.editor: QWidget = self._threshold.native
        self.editor.setObjectName("region_threshold")
        self.editor.setAccessibleName("Threshold")
        self.editor.setToolTip(
            "Grey value on the scan's grey scale, or the Otsu threshold of the scan. "
            "NaN and infinite values are not segmented."
        )
        show(self._threshold, "otsu")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.kind)
        row.addWidget(layers, stretch=1)
        row.addWidget(self.editor, stretch=1)
        self.kind.currentIndexChanged.connect(self._on_kind)
        self._threshold.changed.connect(self._on_threshold, check_nargs=False)
        self.show_choice(visible=False)

    @property
    def is_mask(self) -> bool:
        """Whether a mask is chosen, not a threshold."""
        return bool(self.kind.currentText() == MASK)

    def show_choice(self, *, visible: bool) -> None:
        """Show the choice of a region, or else only the menu of shapes."""
        self.kind.setVisible(visible)
        self._layers.setVisible(self.is_mask or not visible)
        self.editor.setVisible(visible and not self.is_mask)

    def values(self) -> AnyDict:
        """Return the settings of the thresholds.

        Raises
        ------
        ConfigError
            If a threshold is chosen but left blank.
        """
        chosen: AnyDict = dict.fromkeys(_SIDES.values())
        if self.is_mask:
            return chosen
        side = _SIDES[self.kind.currentText()]
        if self._threshold.value is None:
            raise ConfigError("Enter a grey value next to Region, or choose Otsu.")
        return {**chosen, side: self._threshold.value}

    def set_values(self, values: AnyMapping) -> None:
        """Show thresholds from settings; without one, the choice is a mask."""
        self.kind.setCurrentText(MASK)
        for kind, side in _SIDES.items():
            if (value := values.get(side)) is not None:
                show(self._threshold, value)
                self.kind.setCurrentText(kind)

    def _on_kind(self, _index: int) -> None:
        self.show_choice(visible=not self.kind.isHidden())
        self.changed.emit()

    def _on_threshold(self, _value: object = None) -> None:
        self.changed.emit()


class ShapesWidgets(Dock):
    """The widgets of the Shapes dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs()
        self._make_results()
        self._make_actions()
        self._lay_out()
        self.show_task()

    def _make_inputs(self) -> None:
        self.shape_layer = LayerCombo(self._viewer, holds_shape)
        self.shape_layer.setAccessibleName("Shape")
        self.shape_layer.setToolTip(
            "Labels layer with the shape. Voxels outside the shape are 0. To use an "
            "image of zeros and ones, right-click it in the layer list and choose "
            "Convert to Labels."
        )
        self.region = RegionField(self.shape_layer)
        self.notes = ImageNotes(self._viewer, asks_size=True)
        self.shape_layer.layerChanged.connect(
            lambda: self.notes.set_layer(self.shape_layer.layer())
        )
        self.notes.set_layer(self.shape_layer.layer())
        self.scan = LayerCombo(self._viewer, is_measurable)
        self.scan.setAccessibleName("Scan")
        self.scan.setToolTip("Scan to segment, on the same grid as the mask.")
        self.task = combo(
            "Task",
            "Operation to perform on the shape, or on a scan inside the shape.",
        )
        self.task.addItems([REFINE, COMPLETE, SEGMENT])
        self.forms = {
            REFINE: self._form(RefineShapeConfig, shapes.shape_models("shape_sr")),
            COMPLETE: self._form(
                CompleteShapeConfig, shapes.shape_models(*shapes.COMPLETING)
            ),
            SEGMENT: self._form(MaskFormConfig, ()),
        }
        self.model_button = button(
            "Choose m&odel…",
            "Choose the folder of a model, or of the job that trained it.",
        )
        self.common = ConfigForm(
            RefineShapeConfig, skip=("upscale_factor", "model", "label")
        )
        others = set(MaskFormConfig.model_fields) - {"grey_scale"}
        self.grey_scale = ConfigForm(MaskFormConfig, skip=sorted(others))
        advanced = QWidget()
        rows = QVBoxLayout(advanced)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(self.grey_scale)
        rows.addWidget(self.common)
        self.advanced = Section(
            "&Advanced",
            advanced,
            tool_tip="Memory budget, device and threads; for a segmentation, also the "
            "grey scale.",
        )

    @staticmethod
    def _form(config: type[Config], models: Sequence[str]) -> ConfigForm:
        skip = (*_ADVANCED, *_SIDES.values())
        return ConfigForm(config, skip=skip, choices={"model": models})

    def _make_results(self) -> None:
        self.table = list_tree(
            ("Quantity", "Before", "After"),
            "Before and after",
            "Measurements of the shape before and after. Surface: area of "
            "the smoothed surface, without cuts at the faces of the volume. Thickness: "
            "mean local thickness (only for cubic voxels). Euler number: objects minus "
            "tunnels plus cavities.",
            heights=_TABLE_HEIGHTS,
            numbers=(1, 2),
        )
        self.result_name = text_label(
            "Name of the result", "Layer to which these results belong."
        )
        self.figures = FiguresTable(
            "Result", "Differences between the result and the input."
        )
        self.summary = text_label(
            "Notes on the result", "What to know before using the result."
        )
        self.mesh_button = button(
            "E&xport mesh…",
            "Save the surface of the result as STL, PLY, OBJ or 3MF. After a "
            "completion, only the completed part is saved.",
        )
        self.results = QWidget()

    def _make_actions(self) -> None:
        self.preview_button = button(
            "P&review",
            "In 3D, show the refined surface of the block at the centre of the view. "
            "For a completion, show the surface of the completed part. When you change "
            "a setting, the preview is computed again. Not available for a "
            "segmentation.",
        )
        self.run_button = button(
            "R&un", "Process the whole shape or region and add the result."
        )
        self.cancel_button = button("&Cancel", "Stop; no layer is added.")
        self.cluster = ClusterButton(self._viewer, self, "Alt+Shift+K")
        self.job_row = JobRow(self._viewer, "shapes", self)

    def _lay_out(self) -> None:
        inputs = self._inputs = form_layout()
        add_row(inputs, _SHAPE, self.region, self.shape_layer)
        add_row(inputs, "&Task", self.task)
        add_row(inputs, "Sca&n", self.scan)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addLayout(inputs)
        column.addWidget(self.notes)
        column.addWidget(self.job_row)
        for form in self.forms.values():
            column.addWidget(form)
        column.addWidget(self.model_button)
        below = QVBoxLayout(self.results)
        below.setContentsMargins(0, 0, 0, 0)
        for widget in (
            *(self.result_name, self.table, self.figures, self.summary),
            self.mesh_button,
        ):
            below.addWidget(widget)
        column.addWidget(self.advanced)
        column.addWidget(self.results)
        column.addWidget(self.cluster.widget)
        column.addStretch(1)
        self.results.setVisible(False)
        self.bar = ActionBar(
            (self.preview_button, self.run_button, self.cancel_button),
            idle=NO_SHAPE,
            primary=self.run_button,
        )
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        fill_dock(self, area, self.message, self.bar)

    def forms_of(self, task: str) -> tuple[ConfigForm, ...]:
        """Return the forms with the settings of a task."""
        own = (self.grey_scale,) if task == SEGMENT else ()
        return (self.forms[task], self.common, *own)

    def show_task(self) -> None:
        """Show the settings of the chosen task."""
        for name, form in self.forms.items():
            form.setVisible(name == self.task.currentText())
        segments = self.task.currentText() == SEGMENT
        label = self._inputs.labelForField(self.region)
        assert isinstance(label, QLabel)
        label.setText(_REGION if segments else _SHAPE)
        buddy = self.region.kind if segments else self.shape_layer
        label.setBuddy(buddy)
        label.setToolTip(buddy.toolTip())
        self.region.show_choice(visible=segments)
        self._inputs.setRowVisible(self.scan, segments)
        self.model_button.setVisible(segments)
        self.grey_scale.setVisible(segments)

    def hint(self, made: shapes.ShapeLayer | None, *, complete: bool) -> str:
        """Return a hint on the next action.

        Parameters
        ----------
        made : ShapeLayer or None
            The result that is shown.
        complete : bool
            Whether all inputs of the task are chosen.
        """
        if self.task.currentText() == SEGMENT:
            return segmentation_hint(is_mask=self.region.is_mask, complete=complete)
        if not complete:
            return NO_SHAPE
        if made is None:
            return READY
        return UNSURE if made.assumed else DONE

    def show_figures(self, made: shapes.ShapeLayer, name: str) -> None:
        """Show the shape before and after, and what changed, for the layer `name`."""
        self.table.clear()
        unit = made.shown_unit
        before, after = made.before, made.after
        rows = (
            (f"Volume ({unit}³)", before.volume, after.volume),
            ("Volume fraction (%)", 100 * before.fraction, 100 * after.fraction),
            (f"Surface ({unit}²)", before.surface, after.surface),
            (f"Thickness ({unit})", before.thickness, after.thickness),
            (_EULER, before.euler, after.euler),
        )
        for title, one, other in rows:
            style = ".0f" if title == _EULER else "#.4g"
            texts = ["–" if n is None else _text(n, style) for n in (one, other)]
            row = QTreeWidgetItem([title, *texts])
            for column in (1, 2):
                row.setTextAlignment(column, NUMBERS)
            self.table.addTopLevelItem(row)
        self._show_results(name, changes_of(made), notes_of(made), has_surface=True)

    def show_labels(self, made: shapes.SegmentedLayer, name: str) -> None:
        """Show the fractions of the labels of a segmentation, the layer `name`."""
        scale = f"Grey scale: {made.scale.in_words}"
        self._show_results(name, fractions_of(made), scale, has_surface=False)

    def _show_results(
        self, name: str, figures: Sequence[Figure], notes: str, *, has_surface: bool
    ) -> None:
        # The name is shown, because another shape may be chosen in the meantime.
        self.result_name.setText(f"Result: {name}")
        self.table.setVisible(has_surface)
        self.mesh_button.setVisible(has_surface)
        self.figures.set_figures(figures)
        self.summary.setText(notes)
        self.results.setVisible(True)
        self.scroller.show_part(self.results)


def changes_of(made: shapes.ShapeLayer) -> list[Figure]:
    """Return how much a result differs from the input."""
    if made.part_figures is not None:
        reproduced = 100 * made.reproduced
        text = volume_text(made.part_figures.volume, made.shown_unit, 4)
        number, _, unit = text.partition(" ")
        unit, _, converted = unit.removesuffix(")").partition(" (")
        return [
            Figure("Completed part", number, unit, converted),
            Figure("Pieces of the completed part", f"{made.n_pieces}"),
            Figure("Removed voxels of the input", _spaced(made.n_removed)),
            Figure("Input that the model reproduces", f"{reproduced:.0f}", "%"),
        ]
    change = 100 * (made.after.volume / made.before.volume - 1)
    share = 100 * made.n_changed / max(1, made.n_surface)
    return [
        Figure("Change in volume", _text(change, "+.2f"), "%"),
        Figure(
            "Surface voxels that moved",
            f"{share:.2g}",
            "%",
            f"{_spaced(made.n_changed)} of {_spaced(made.n_surface)} voxels",
            "Surface voxels at which the surface moved by at least one input voxel.",
        ),
    ]


def notes_of(made: shapes.ShapeLayer) -> str:
    """Return sentences on the surface, and on an orientation that was assumed."""
    if made.part_figures is None or not made.assumed:
        return made.closed
    return (
        "The orientation of the shape is unknown: the completed part is valid only for "
        f"a shape with {made.assumed}. {made.closed}"
    )


def segmentation_hint(*, is_mask: bool, complete: bool) -> str:
    """Return a hint before a segmentation, inside a mask or beyond a threshold."""
    if not complete:
        return NO_SCAN if is_mask else NO_IMAGE
    return READY_TO_SEGMENT if is_mask else READY_BEYOND


def fractions_of(made: shapes.SegmentedLayer) -> list[Figure]:
    """Return the number of segmented voxels, and the fraction of each label."""
    where = "inside the mask"
    if made.threshold is not None:
        place = "above" if made.is_above else "at or below"
        where = f"{place} {_text(made.threshold, '.6g')}"
    return [
        Figure(f"Voxels {where}", _spaced(made.n_inside), ""),
        *(
            Figure(f"Fraction with label {label}", f"{100 * fraction:.2f}", "%")
            for label, fraction in made.fractions.items()
        ),
    ]


def _text(value: float, style: str) -> str:
    """Return a number with a minus sign instead of a hyphen."""
    return f"{value:{style}}".replace("-", "\N{MINUS SIGN}")


def _spaced(number: int) -> str:
    """Return a number with thin spaces between groups of three digits."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
