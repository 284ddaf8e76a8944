"""The images to compare: a list of the viewer's layers with a check box each."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QWidget

from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import METADATA, is_measurable

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

#: Rows that the list shows without scrolling.
_LEAST_ROWS, _MOST_ROWS = 3, 6


class LayerChecklist(QListWidget):
    """Lists the images of a viewer, in its order; those to compare are checked.

    At first, the selected layers are checked, or a restored layer and the scan that it
    was made from. From the first click on, the person decides.

    Parameters
    ----------
    viewer : napari.viewer.Viewer

    Signals
    -------
    chosen
        Other layers are checked, or a checked layer was removed.
    """

    chosen = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[weakref.ref[Image]] = []
        self._is_filling = False
        #: Whether a person has chosen.
        self.touched = False
        self.setAccessibleName("Images to compare")
        self.setToolTip("Check two to six images of the same object.")
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
            self._connections.connect(event, self._fill_soon)
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
        """Check these layers and no others, as a person would."""
        self.touched = True
        self.fill()  # one of them may have been added in this moment
        self._check(list(layers))
        self.chosen.emit()

    def fill(self) -> None:
        """List the layers again; what is checked stays checked."""
        before = self.layers()
        # As in napari's own list: the topmost layer first.
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
        """Be as high as the list is long, within limits."""
        rows = min(max(self.count(), _LEAST_ROWS), _MOST_ROWS)
        height = self.sizeHintForRow(0) if self.count() else 20
        return QSize(super().sizeHint().width(), rows * height + 6)

    def minimumSizeHint(self) -> QSize:
        """Never show less than a few rows."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def _proposed(self, images: list[Image]) -> list[Image]:
        selected = [la for la in images if la in self._viewer.layers.selection]
        if len(selected) > 1:
            return selected
        active = selected[0] if selected else None
        made = {} if active is None else active.metadata.get(METADATA, {})
        name = made.get("source_layer")
        source = [la for la in images if la.name == name]
        if active is not None and source:
            return [active, source[0]]
        return images if len(images) == 2 else []

    def _check(self, layers: list[Image]) -> None:
        self._is_filling = True
        for layer, item in zip(self._alive(), self._items(), strict=True):
            is_wanted = any(layer is one for one in layers)
            item.setCheckState(
                Qt.CheckState.Checked if is_wanted else Qt.CheckState.Unchecked
            )
        self._is_filling = False

    def _alive(self) -> list[Image | None]:
        return [reference() for reference in self._layers]

    def _items(self) -> list[QListWidgetItem]:
        return [self.item(row) for row in range(self.count())]

    def _fill_soon(self, _event: object = None) -> None:
        """List again when napari's own list is at rest."""
        self._filling.start(0)

    def _on_item(self, _item: QListWidgetItem) -> None:
        if not self._is_filling:
            self.touched = True
            self.chosen.emit()
