"""Widgets and layout of the *Compare* dock."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.compare.result import PoreChanges, QualityTable
from napari_geosr.gui.kit.action_bar import ActionBar, fill_dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.lists import FiguresTable
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
from napari_geosr.gui.layers import is_measurable
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.gui.layers.explained import source_of
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.questions.image_notes import ImageNotes
from napari_geosr.operations.compare import CompareConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer
    from qtpy.QtGui import QPaintEvent

#: Minimum height of the list of images, in rows.
_MIN_ROWS = 3
#: Maximum height of the list of images, in rows; a longer list scrolls.
_MAX_ROWS = 6
#: Style of the list: rows do not touch each other, and unchecked boxes are visible even
#: in the dark theme, unlike those of napari's own style.
_LIST_STYLE = (
    "QListWidget::item { height: 20px; }"
    "QListWidget::indicator:unchecked { width: 12px; height: 12px;"
    " border: 1px solid #8a8f98; border-radius: 2px; }"
)
#: Fixed first entry of the menus of layers.
NONE = "none"
#: Hints on the next action: without images, with them, and after a comparison.
IDLE = "Tick 2 to 6 images to compare."
READY = "Ready: press Compare."
DONE = "Done. To keep the report, press Export…"
#: Text shown in an empty list.
EMPTY = "Open two or more images of the same object to list them here."
#: Settings that are always visible; all others are under Advanced.
_COMMON = ("affine", "pores", "threshold", "phase")
#: Choices of *Slices*: title, number, tool tip.
_SLICES = (
    ("current slice", 1, "Each image in its own cell, at the slider position."),
    *(
        (
            f"{n} slices",
            n,
            f"{n} slices of each image in a row, evenly spaced along Z in the common "
            "region.",
        )
        for n in (3, 5)
    ),
)
#: Settings for the command line only.
_HIDDEN = ("memory", "difference")


class CompareWidgets(Dock):
    """The widgets of the Compare dock."""

    scroller: PartScroller

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._make_inputs()
        self._make_settings()
        self._make_results()
        self._make_actions()
        self._lay_out()

    def _make_inputs(self) -> None:
        self.images = LayerChecklist(self._viewer)
        self.notes = ImageNotes(self._viewer)
        self.reference = LayerCombo(self._viewer, is_measurable, fixed=(NONE,))
        self.reference.setAccessibleName("Ground truth")
        self.reference.setToolTip(
            "An image that is known to be correct. Without one, all images are "
            "compared with the last ticked image in the list."
        )
        self.sample = LayerCombo(self._viewer, _is_mask, fixed=(NONE,))
        self.sample.setAccessibleName("Sample mask")
        self.sample.setToolTip(
            "Sample mask; only voxels where the mask is non-zero are compared."
        )

    def _make_settings(self) -> None:
        names = list(CompareConfig.model_fields)
        self.common = ConfigForm(
            CompareConfig, skip=[n for n in names if n not in _COMMON]
        )
        self.rare = ConfigForm(CompareConfig, skip=[*_COMMON, *_HIDDEN])
        self.halves = QWidget()
        rows = form_layout()
        self.halves.setLayout(rows)
        self.first_half = LayerCombo(self._viewer, is_measurable)
        self.second_half = LayerCombo(self._viewer, is_measurable)
        for half, word in ((self.first_half, "First"), (self.second_half, "Second")):
            half.setAccessibleName(f"{word} half")
            half.setToolTip(
                f"{word} of two halves of one scan, such as reconstructions from odd "
                "and from even projections."
            )
            add_row(rows, f"{word} half", half)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.rare)
        column.addWidget(self.halves)
        self.pair_note = text_label(
            "Pair", "The two images between which the Fourier correlation is computed."
        )
        column.addWidget(self.pair_note)
        self.advanced = Section(
            "&Advanced",
            inner,
            tool_tip="Fourier correlation, SSIM window, minimum pore size and graphs.",
        )

    def _make_results(self) -> None:
        self.figures = QualityTable()
        self.compared = combo(
            "Compared image",
            "The image that the curtain, blinking, the difference and the pores refer "
            "to. It is compared with the base.",
        )
        self.resolution = FiguresTable(
            "Resolution", "Resolution by Fourier correlation, for each criterion."
        )
        self.pores = PoreChanges()
        self.remarks = text_label("Remarks", "How the images were compared.")
        self.view = CompareBox(self._viewer, labels=("base", "compared"))
        self.view.difference_button.hide()  # replaced by the button below
        self.difference_button = button(
            "Differe&nce",
            "Show the difference from the base as a layer, in units of the noise.",
        )
        self.difference_button.setCheckable(True)
        self.grid_button = button(
            "&Side by side",
            "Show the compared images side by side, with linked views. All other "
            "layers are hidden while this is on.",
        )
        self.grid_button.setCheckable(True)
        self.slices = combo(
            "Slices side by side", "Slices that are shown side by side."
        )
        for title, n, tip in _SLICES:
            self.slices.addItem(title, n)
            self.slices.setItemData(
                self.slices.count() - 1, tip, Qt.ItemDataRole.ToolTipRole
            )
        self.export_button = button(
            "E&xport…", "Save images, tables, differences and a report page."
        )

    def _make_actions(self) -> None:
        self.compare_button = button(
            "Co&mpare", "Compare the ticked images in a common coordinate system."
        )
        self.cancel_button = button("&Cancel", "Stop the comparison.")

    def _lay_out(self) -> None:
        inputs = form_layout()
        add_row(inputs, "Ground truth", self.reference)
        add_row(inputs, "Mask", self.sample)
        views = QHBoxLayout()
        for made in (self.difference_button, self.grid_button):
            views.addWidget(made, 1)
        results = QWidget()
        below = QVBoxLayout(results)
        below.setContentsMargins(8, 8, 8, 8)
        self._choices = form_layout()
        add_row(self._choices, "Compared", self.compared)
        below.addLayout(self._choices)
        below.addWidget(self.view)
        below.addLayout(views)
        below.addWidget(self.view.link_box)
        slices = form_layout()
        add_row(slices, "Sl&ices", self.slices)
        below.addLayout(slices)
        for widget in (self.figures, self.resolution, self.remarks):
            below.addWidget(widget)
        below.addStretch(1)
        self._result_area = scrolling(results)
        # The button for the next step stays visible below the long table.
        result = QWidget()
        page = QVBoxLayout(result)
        page.setContentsMargins(0, 0, 0, 6)
        page.addWidget(self._result_area, 1)
        last = QHBoxLayout()
        last.setContentsMargins(8, 0, 8, 0)
        last.addWidget(self.export_button)
        page.addLayout(last)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.images)
        column.addWidget(self.notes)
        column.addLayout(inputs)
        for widget in (self.common, self.advanced):
            column.addWidget(widget)
        column.addStretch(1)
        self.tabs = QTabWidget()
        area = scrolling(inner)
        self.scroller = PartScroller(area)
        self.tabs.addTab(area, "Ima&ges")
        self.tabs.addTab(result, "Resul&t")
        self.tabs.addTab(self.pores, "Pores")
        for arrow in self.tabs.findChildren(QToolButton):
            arrow.setAccessibleName("Scroll the tabs")
            arrow.setToolTip("Scroll the tabs.")
        self.tabs.setTabToolTip(0, "Images and settings of the comparison.")
        self.tabs.setTabToolTip(1, "Measured values and views of the last comparison.")
        self.tabs.setTabToolTip(2, "Lost, invented, split, merged and matched pores.")
        for index in (1, 2):
            self.tabs.setTabEnabled(index, False)
        self.bar = ActionBar(
            (self.compare_button, self.cancel_button),
            idle=IDLE,
            primary=self.compare_button,
        )
        fill_dock(self, self.tabs, self.message, self.bar)


def _is_mask(layer: Layer) -> bool:
    return layer_type(layer) == "labels" or is_measurable(layer)


class LayerChecklist(QListWidget):
    """Lists the images of a viewer in layer order; those to compare are checked.

    Until the first click, the selected layers are checked if there are several;
    otherwise, a selected result and its scan, or the only two images, are checked.
    After the first click, only the user changes what is checked.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Signals
    -------
    chosen
        The set of checked layers has changed, or a checked layer was removed.
    """

    chosen = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[weakref.ref[Image]] = []
        self._is_filling = False
        #: Whether the user has checked or unchecked images.
        self.touched = False
        self.setStyleSheet(_LIST_STYLE)
        self.setAccessibleName("Images to compare")
        self.setToolTip("Tick two to six images of the same object.")
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self._filling = QTimer(self)
        self._filling.setSingleShot(True)
        self._filling.timeout.connect(self.fill)
        self._connections = Connections(self)
        events = viewer.layers.events
        for event in (
            events.inserted,
            events.removed,
            events.reordered,
            events.renamed,
            viewer.layers.selection.events.changed,
        ):
            self._connections.connect(event, self._schedule_fill)
        self.itemChanged.connect(self._on_item)
        self.fill()

    def layers(self) -> list[Image]:
        """Return the checked layers, from the top of the list."""
        return [
            layer
            for layer, item in zip(self._alive(), self._items(), strict=True)
            if layer is not None and item.checkState() == Qt.CheckState.Checked
        ]

    def choose(self, *layers: Image) -> None:
        """Check only these layers, as if the user had done so."""
        self.touched = True
        self.fill()  # a layer may have just been added
        self._check(list(layers))
        self.chosen.emit()

    def fill(self) -> None:
        """List the layers again; layers that the user has checked stay checked."""
        before = self.layers()
        # As in napari's layer list, the topmost layer comes first.
        images = [la for la in reversed(self._viewer.layers) if is_measurable(la)]
        self._layers = [weakref.ref(layer) for layer in images]
        self._is_filling = True
        self.clear()
        for layer in images:
            item = QListWidgetItem(layer.name)
            item.setToolTip(layer.name)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Unchecked)
            self.addItem(item)
        self._is_filling = False
        kept = [layer for layer in before if layer in images]
        self._check(kept if self.touched else self._proposed(images))
        self.updateGeometry()
        self.chosen.emit()

    def sizeHint(self) -> QSize:
        """Return the preferred size; its height fits all rows, within limits."""
        rows = min(max(self.count(), _MIN_ROWS), _MAX_ROWS)
        height = self.sizeHintForRow(0) if self.count() else self.fontMetrics().height()
        return QSize(super().sizeHint().width(), rows * height + 6)

    def minimumSizeHint(self) -> QSize:
        """Return the minimum size; its height is the preferred height."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Show a hint in place of an empty list."""
        super().paintEvent(event)
        if not self.count():
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter = QPainter(self.viewport())
            painter.setPen(self.palette().text().color())
            painter.drawText(self.viewport().rect().adjusted(6, 0, -6, 0), flags, EMPTY)
            painter.end()

    def _proposed(self, images: list[Image]) -> list[Image]:
        selected = [la for la in images if la in self._viewer.layers.selection]
        if len(selected) > 1:
            return selected
        active = selected[0] if selected else None
        source = None if active is None else source_of(active, self._viewer)
        if active is not None and source in images:
            return [active, source]
        return images if len(images) == 2 else []

    def _check(self, layers: list[Image]) -> None:
        self._is_filling = True
        for layer, item in zip(self._alive(), self._items(), strict=True):
            is_compared = any(layer is one for one in layers)
            item.setCheckState(
                Qt.CheckState.Checked if is_compared else Qt.CheckState.Unchecked
            )
        self._is_filling = False

    def _alive(self) -> list[Image | None]:
        return [reference() for reference in self._layers]

    def _items(self) -> list[QListWidgetItem]:
        return [self.item(row) for row in range(self.count())]

    def _schedule_fill(self, _event: object = None) -> None:
        """List the layers again when napari has updated its layer list."""
        self._filling.start(0)

    def _on_item(self, _item: QListWidgetItem) -> None:
        if not self._is_filling:
            self.touched = True
            self.chosen.emit()
