"""The row that lists doubts about a layer's file and opens rows to resolve them."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.file_warnings import Note, file_warnings
from napari_geosr.gui.kit.action_bar import MessagePane
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.record import (
    misfit_of,
    open_notes,
    settle_distance,
)
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.utils.events import Event

#: Number of lines beyond which the notes scroll, to keep the settings below visible.
_MAX_LINES = 6
#: Layer events that may change the notes.
_EVENTS = ("metadata", "units", "axis_labels", "name", "scale")


class NotesRow(QWidget):
    """Warnings and notes of a layer's file in one message; hidden if there are none.

    *Edit…* opens the row below it in which the assumption can be corrected.

    Parameters
    ----------
    voxel_size, frames : VoxelSizeRow, FramesRow
        Rows of the dock, below this one.
    key : str
        Shortcut of its button.
    is_named : bool
        Whether notes begin with the layer's name, for docks with rows for several
        layers.
    """

    def __init__(
        self,
        voxel_size: VoxelSizeRow,
        frames: FramesRow,
        parent: QWidget | None = None,
        *,
        key: str = "Alt+Shift+W",
        is_named: bool = False,
    ) -> None:
        super().__init__(parent)
        self._is_named = is_named
        self._layer: weakref.ref[Layer] | None = None
        self._voxel_size, self._frames = voxel_size, frames
        self._connections = Connections(self)
        self._field = ""
        self.message = MessageRow(shortcut="")
        self.message.label.setAccessibleName("Notes on the file")
        self.message.label.setToolTip(
            "Information missing from the file, and problems that could lead to wrong "
            "results."
        )
        self.button = QPushButton("Edit…")
        fixed = QSizePolicy.Policy.Fixed
        self.button.setSizePolicy(fixed, fixed)
        self._key = key
        self.button.setShortcut(key)
        self.button.clicked.connect(self._on_correct)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(MessagePane(self.message, max_lines=_MAX_LINES), 1)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        voxel_size.voxelSizeSet.connect(settle_distance)
        frames.asked.connect(self._show)
        self.set_layer(None)

    @property
    def text(self) -> str:
        """The text shown."""
        return self.message.text

    def set_layer(self, layer: Layer | None) -> None:
        """Show the warnings and notes of a layer's file; hide an empty row."""
        self._connections.end()  # events of the previous layer
        self._layer = None if layer is None else weakref.ref(layer)
        if layer is not None:
            for name in _EVENTS:
                self._connections.connect(getattr(layer.events, name), self._show)
        self._show()

    def _show(self, _event: Event | None = None) -> None:
        layer = None if self._layer is None else self._layer()
        warned, notes, misfit = _warnings_and_notes(layer)
        if not self._frames.isHidden():  # this question is already shown
            notes = [note for note in notes if note.corrected_by != "axes"]
        if not self._voxel_size.isHidden():
            notes = [note for note in notes if note.corrected_by != "unit"]
        # A row opened with the button closes by itself when its question is answered.
        self._field = next((n.corrected_by for n in notes if n.corrected_by), "")
        self._label_button()
        if not warned and not notes:
            self.message.clear()
            self.setVisible(False)
            return
        kind = "info"
        if misfit:
            kind = "misfit"
        elif warned or any(n.corrected_by == "slice distance" for n in notes):
            kind = "warning"
        named = f"{layer.name}: " if self._is_named and layer is not None else ""
        lines = [*warned, *(f"{named}{note}" for note in notes)]
        self.message.show_message("\n".join(lines), kind)
        self.setVisible(True)

    def _label_button(self) -> None:
        topics = {
            "axes": "the axis",
            "slice distance": "the slice spacing",
            "unit": "the voxel size",
        }
        text = f"Edit {topics.get(self._field, 'the assumption')}"
        self.button.setAccessibleName(text)
        self.button.setToolTip(f"{text} ({self._key}).")
        self.button.setVisible(self._field in topics)

    def _on_correct(self) -> None:
        layer = None if self._layer is None else self._layer()
        if layer is None:
            return
        if self._field == "axes":
            self._frames.ask_anyway(layer)
        elif self._field == "unit":
            self._voxel_size.set_layer(layer)
            self._show()  # the row now asks this, so omit the note
        else:
            self._voxel_size.correct(layer)


def _warnings_and_notes(layer: Layer | None) -> tuple[list[str], list[Note], str]:
    """Return the warnings and notes of a layer, and the reason not to measure it."""
    if layer is None:
        return [], [], ""
    try:
        volume = volume_from_layer(layer, whole=True)
        warned = [f"{layer.name}: {each}" for each in file_warnings(volume.metadata)]
        return warned, open_notes(layer), misfit_of(layer)
    except GeoSRError:
        return [], [], ""  # the dock itself reports the error
