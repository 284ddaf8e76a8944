"""Notes on the files of several images, with rows for correcting assumptions."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.gui.layers.questions.frames import FramesRow
from napari_geosr.gui.layers.questions.notes import NotesRow
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer


class ImageNotes(QWidget):
    """One row of warnings and notes for each image; hidden if there are none.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    asks_size : bool
        Whether to ask for an unknown voxel size or unit, for docks that show lengths.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        parent: QWidget | None = None,
        *,
        asks_size: bool = False,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._asks_size = asks_size
        self._layers: list[weakref.ref[Layer]] = []
        self.rows: list[NotesRow] = []
        self._corrections: list[tuple[VoxelSizeRow, FramesRow]] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)

    @property
    def text(self) -> str:
        """The text shown, one line for each note."""
        return "\n".join(row.text for row in self.rows if row.text)

    def set_layers(self, layers: Sequence[Layer]) -> None:
        """Show the notes of these images."""
        shown = [reference() for reference in self._layers]
        if len(shown) == len(layers) and all(
            one is other for one, other in zip(shown, layers, strict=True)
        ):
            return  # a correction that the user has opened stays open
        self._layers = [weakref.ref(layer) for layer in layers]
        while len(self.rows) < len(layers):
            self._add_row()
        for i, (voxel_size, frames) in enumerate(self._corrections):
            asks = self._asks_size and i < len(layers)
            voxel_size.set_layer(layers[i] if asks else None)
            frames.set_layer(None)
        for i, row in enumerate(self.rows):
            row.set_layer(layers[i] if i < len(layers) else None)

    def _add_row(self) -> None:
        number = len(self.rows) + 1
        voxel_size = VoxelSizeRow(self._viewer, key=f"Alt+Shift+{number}")
        answers = f"Ctrl+Alt+Shift+{number}", f"Ctrl+Shift+{number}"
        frames = FramesRow(keys=answers)
        row = NotesRow(voxel_size, frames, key=f"Ctrl+Alt+{number}", is_named=True)
        self.rows.append(row)
        self._corrections.append((voxel_size, frames))
        for widget in (row, voxel_size, frames):
            self._column.addWidget(widget)

    def set_layer(self, layer: Layer | None) -> None:
        """Show the notes of a single image."""
        self.set_layers([] if layer is None else [layer])
