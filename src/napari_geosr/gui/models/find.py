"""Search criteria for models: words, task, modality and the selected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QLineEdit,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.text.vocabulary import MODALITIES, TASKS
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import combo
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.operations.models.catalogue import ModelFilter

if TYPE_CHECKING:
    import napari.viewer

#: Delay in milliseconds from the last keystroke until the list of models is updated.
_PAUSE = 150


class ModelSearch(QWidget):
    """A search box, menus of tasks and modalities, and a check box for the layer.

    Signals
    -------
    changed
        The search criteria have changed.
    """

    changed = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.words = QLineEdit()
        show_placeholder(self.words, "Search models")
        self.words.setClearButtonEnabled(True)
        self.words.setAccessibleName("Search models")
        self.words.setToolTip("Search names, purposes and descriptions.")
        clear = self.words.findChild(QToolButton)
        clear.setToolTip("Clear the search and show all models.")
        clear.setAccessibleName("Clear search")
        self.task = combo("Task", "Show only models for this task.")
        self.modality = combo(
            "Modality",
            "Show only models for this kind of image, and those for which the kind is "
            "unknown.",
        )
        self.for_layer = QCheckBox("For the selected la&yer")
        self.for_layer.setAccessibleName("For the selected layer")
        self.for_layer.setToolTip(
            "Show only models that can restore the selected layer and were trained for "
            "approximately its voxel size, or for any voxel size."
        )
        for box, names, any_ in (
            (self.task, TASKS, "Any task"),
            (self.modality, MODALITIES, "Any modality"),
        ):
            box.addItem(any_, None)
            for value, name in names.items():
                box.addItem(name, value)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.words)
        column.addWidget(self.task)
        column.addWidget(self.modality)
        column.addWidget(self.for_layer)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.changed)
        self.words.textChanged.connect(self._timer.start)
        self.task.currentIndexChanged.connect(self._on_chosen)
        self.modality.currentIndexChanged.connect(self._on_chosen)
        self.for_layer.toggled.connect(self._on_chosen)
        self._connections = Connections(self)
        self._connections.connect(viewer.layers.selection.events.active, self._on_layer)

    def model_filter(self) -> ModelFilter:
        """Return the search criteria."""
        volume = self.volume()
        has_size = volume is not None and volume.unit != PIXEL
        return ModelFilter(
            task=self.task.currentData(),
            modality=self.modality.currentData(),
            voxel_size=max(volume.voxel_size) if volume and has_size else None,
            unit=volume.unit if volume and has_size else "µm",
            words=self.words.text(),
        )

    def volume(self) -> Volume | None:
        """Return the selected layer's volume if models must suit it; otherwise None."""
        layer = self._viewer.layers.selection.active
        if not self.for_layer.isChecked() or layer is None:
            return None
        try:
            return volume_from_layer(layer, self._viewer)
        except (GeoSRError, AttributeError, TypeError):  # points, shapes, RGB
            return None

    def _on_chosen(self, _value: object = None) -> None:
        self.changed.emit()

    def _on_layer(self, _event: object = None) -> None:
        if self.for_layer.isChecked():
            self.changed.emit()
