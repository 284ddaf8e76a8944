"""The row that asks once for a layer's voxel size if its file has none."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QWidget,
)

from napari_geosr import io
from napari_geosr.core.questions import VoxelSizeQuestion, voxel_size_question
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.notify import error_sentence
from napari_geosr.gui.kit.option_words import VOXEL_SIZE_ROW
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import (
    METADATA,
    finest,
    has_physical_size,
    set_voxel_size,
    spatial_ndim,
)
from napari_geosr.gui.layers.camera import preserve_slice
from napari_geosr.gui.layers.geometry import geometry_of_layer, has_usable_axes

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer


_UNITS = ("nm", "µm", "mm", "cm")


def _axes(n: int) -> str:
    """Return the names of the last `n` axes, which stay on one line."""
    return ",\N{NO-BREAK SPACE}".join("ZYX"[-n:])


class VoxelSizeRow(QWidget):
    """Asks for the voxel size of a layer whose unit is ``pixel``; hidden otherwise.

    One number is enough: Y and X follow Z until they are edited. The layer stores the
    answer, so the question is asked only once. If another reader ignored the voxel size
    in the file, this size is filled in and can be accepted with one click.

    Parameters
    ----------
    key : str
        Shortcut of the row's button; needed if a dock has several rows.

    Signals
    -------
    voxelSizeSet : object
        The layer, after the user entered its voxel size.
    """

    voxelSizeSet = Signal(object)

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        parent: QWidget | None = None,
        *,
        key: str = "Alt+Shift+U",
    ) -> None:
        super().__init__(parent)
        self.setObjectName(VOXEL_SIZE_ROW)
        self._connections = Connections(self)
        self._viewer = viewer
        self._layer: weakref.ref[Layer] | None = None
        self._n = 3
        self._touched: set[int] = set()
        self._reading: BackgroundTask | None = None
        self.question = QLabel()
        self.question.setWordWrap(True)
        self._show_question("Voxel size unknown. Enter it as Z, Y, X:")
        self.edges = [self._make_edge(axis) for axis in "ZYX"]
        self.unit = QComboBox()
        self.unit.addItems([unit for unit in _UNITS if unit in MILLIMETRES])
        self.unit.setCurrentText("µm")
        self.unit.setToolTip("Unit of the voxel size.")
        self.unit.setAccessibleName("Unit of the voxel size")
        self.button = QPushButton("Set")
        self.button.setToolTip(
            "Set the layer's voxel size, so that results are in physical units "
            f"({key})."
        )
        self.button.setShortcut(key)
        self.button.setAccessibleName("Set the voxel size")
        self.button.setEnabled(False)
        self.button.clicked.connect(self.apply)
        row, answer = QHBoxLayout(), QHBoxLayout()
        for edge in self.edges:
            row.addWidget(edge, 1)
        for widget in (self.unit, self.button):
            answer.addWidget(widget, 1)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.question, 0, 0)
        layout.addLayout(row, 1, 0)  # on separate lines, because numbers can be long
        layout.addLayout(answer, 2, 0)
        self.setVisible(False)

    def _make_edge(self, axis: str) -> QLineEdit:
        edge = QLineEdit()
        validator = QDoubleValidator(0.0, 1e9, 9, edge)
        validator.setLocale(QLocale(QLocale.Language.C))
        edge.setValidator(validator)
        show_placeholder(edge, axis)
        edge.setMinimumWidth(36)
        edge.setToolTip(f"Edge length of a voxel along {axis}.")
        edge.setAccessibleName(f"Voxel size along {axis}")
        edge.setAlignment(Qt.AlignmentFlag.AlignRight)
        index = "ZYX".index(axis)
        edge.textEdited.connect(lambda text, i=index: self._on_edited(i, text))
        edge.returnPressed.connect(self.apply)
        return edge

    def set_layer(self, layer: Layer | None) -> None:
        """Ask for the voxel size of `layer` if it is unknown, or else hide the row.

        Nothing is asked about layers with too many axes, which the docks refuse.
        """
        if layer is not None and not has_usable_axes(layer.ndim):
            layer = None
        self._connections.end()  # events of the previous layer
        self._layer = None
        self._stop_reading()
        if layer is not None:
            self._layer = weakref.ref(layer)
            self._connections.connect(layer.events.units, self._on_units)
        self._touched.clear()
        for edge in self.edges:
            edge.clear()
        self.button.setEnabled(False)
        if layer is None or has_physical_size(layer):
            self.setVisible(False)
            return
        self._n = spatial_ndim(layer)
        self.edges[0].setVisible(self._n == 3)
        axes = _axes(self._n)
        sizes = geometry_of_layer(layer).voxel_size
        info = layer.metadata.get(METADATA, {}).get("info", {})
        question = voxel_size_question(info)
        if question is not None and len(question.voxel_size) == self._n:
            self._ask_to_confirm(question, axes)
        elif any(size != 1 for size in sizes):
            # The file has numbers but no unit: ask only for the unit.
            self._show_question(
                f"The unit of the voxel size is unknown. Voxel size {axes}:"
            )
            for edge, size in zip(self.edges[-self._n :], sizes, strict=True):
                edge.setText(f"{size:.9g}")
            self._touched.update(range(3))
            self.button.setEnabled(True)
        else:
            self._show_question(f"Voxel size unknown. Enter it as {axes}:")
            self._read_from_file(layer)
        self.setVisible(True)

    def correct(self, layer: Layer) -> None:
        """Show the layer's current voxel size for correction."""
        self.set_layer(layer)
        place = geometry_of_layer(layer)
        self._fill(place.voxel_size, place.unit)
        axes = _axes(self._n)
        self._show_question(
            f"Correct the voxel size, or click Set to keep it. Voxel size {axes}:",
            "The file does not specify the voxel size along all axes.",
        )
        self.setVisible(True)
        self.edges[-self._n].setFocus()
        self.edges[-self._n].selectAll()

    def _ask_to_confirm(self, question: VoxelSizeQuestion, axes: str) -> None:
        """Ask to replace or confirm an implausible voxel size."""
        text = (
            f"The voxel size in the file, {question.size_text}, is implausible: "
            f"{question.reason}."
        )
        tool_tip = "Until you set it, the voxel size is treated as unknown."
        if question.may_be_right:
            self._fill(question.voxel_size, question.unit)
            self._show_question(f"{text} Correct it, or click Set to use it:", tool_tip)
        else:
            self._show_question(f"{text} Enter the voxel size as {axes}:", tool_tip)

    def _fill(self, sizes: tuple[float, ...], unit: str) -> None:
        """Fill in a size that the user can accept with one click."""
        for edge, size in zip(self.edges[-self._n :], sizes, strict=True):
            edge.setText(f"{size:.9g}")
        if self.unit.findText(unit) < 0:
            self.unit.addItem(unit)
        self.unit.setCurrentText(unit)
        self._touched.update(range(3))
        self.button.setEnabled(True)

    def _show_question(
        self, text: str, tool_tip: str = "The file does not specify the voxel size."
    ) -> None:
        self.question.setText(text)
        self.question.setAccessibleName(text.removesuffix(":"))
        self.question.setToolTip(tool_tip)

    def _read_from_file(self, layer: Layer) -> None:
        """In a worker, read the voxel size that another reader ignored."""
        steps = steps_to_read_voxel_size(layer)
        if steps is not None:
            self._reading = BackgroundTask(
                steps,
                owner=self,
                on_result=self._on_stored,
                # If the file cannot be read, keep the question and show the reason in
                # its tool tip.
                on_error=lambda error: self.question.setToolTip(error_sentence(error)),
                on_finished=self._stop_reading,
            )

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.detach()
            self._reading = None

    def _on_stored(self, stored: StoredVoxelSize | None) -> None:
        """Fill in the file's voxel size, unless the user has already answered."""
        if stored is None or any(edge.text() for edge in self.edges):
            return
        if stored.question is not None:
            self._ask_to_confirm(stored.question, _axes(self._n))
            return
        self._fill(stored.voxel_size, stored.unit)
        self._show_question(
            f"The voxel size in the file is {stored}. Click Set to use it:",
            "The reader that opened the file ignored its voxel size.",
        )

    def values(self) -> tuple[float, ...] | None:
        """Return the edge lengths entered; None while one is missing or invalid."""
        try:
            sizes = tuple(float(edge.text()) for edge in self.edges[-self._n :])
        except ValueError:
            return None
        return sizes if min(sizes) > 0 else None

    def apply(self) -> None:
        """Set the layer's voxel size to the values entered."""
        layer = self._layer() if self._layer is not None else None
        sizes = self.values()
        if layer is None or sizes is None:
            return
        with preserve_slice(self._viewer, layer):
            set_voxel_size(layer, sizes, self.unit.currentText())
        if layer in self._viewer.layers and len(self._viewer.layers) == 1:
            self._viewer.reset_view()
        # If the unit is unchanged, no event has announced the new voxel size.
        self._on_units()

    def _on_units(self, _event: object = None) -> None:
        """Hide the question once the layer's voxel size is set, here or elsewhere."""
        layer = None if self._layer is None else self._layer()
        if layer is not None and has_physical_size(layer) and not self.isHidden():
            self._stop_reading()
            self.setVisible(False)
            self.voxelSizeSet.emit(layer)

    def _on_edited(self, index: int, text: str) -> None:
        self._touched.add(index)
        for i, edge in enumerate(self.edges):
            if i > index and i not in self._touched:
                edge.setText(text)
        self.button.setEnabled(self.values() is not None)


_PLUGIN = "napari-geosr"


@dataclass(frozen=True)
class StoredVoxelSize:
    """A voxel size along the layer's spatial axes, with a question if needed."""

    voxel_size: tuple[float, ...]
    unit: str
    question: VoxelSizeQuestion | None = None

    def __str__(self) -> str:
        return " × ".join(f"{size:.4g}" for size in self.voxel_size) + f" {self.unit}"


def steps_to_read_voxel_size(
    layer: Layer,
) -> Callable[[ShouldStop], Generator[Step, None, StoredVoxelSize | None]] | None:
    """Return the steps that read the voxel size from the layer's file, for a worker.

    The steps return None if the file has no voxel size or does not contain the
    layer's voxels. The steps may raise `FileError`.

    Returns
    -------
    callable or None
        None if the layer has no file, or the plugin's own reader has already read it.
    """
    origin = layer.source
    path = origin.path
    is_known = origin.reader_plugin == _PLUGIN or METADATA in layer.metadata
    if path is None or origin.parent is not None or is_known:
        return None
    n = spatial_ndim(layer)
    shape = tuple(finest(layer).shape[-n:])

    def steps(
        _should_stop: ShouldStop,
    ) -> Generator[Step, None, StoredVoxelSize | None]:
        """Read the voxel size and unit from the file, if it has the layer's shape."""
        yield StageStarted(message="Reading the voxel size")
        volume = io.read(path)
        same = len(volume.voxel_size) == n and volume.shape[-n:] == shape
        stored = None
        if same and volume.has_physical_size:
            stored = StoredVoxelSize(volume.voxel_size, volume.unit)
        elif same and (question := voxel_size_question(volume.metadata)) is not None:
            stored = StoredVoxelSize(question.voxel_size, question.unit, question)
        return stored

    return steps
