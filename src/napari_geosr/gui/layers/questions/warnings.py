"""The line that says what a reader found in a layer's file that spoils results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.gui.layers import volume_from_layer

if TYPE_CHECKING:
    from napari.layers import Layer


class FileWarningLabel(QLabel):
    """Warns of missing chunks, gaps between slices and the like; hidden without any."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setAccessibleName("Warnings of the file")
        self.setToolTip("What was found in the file that can make results wrong.")
        # Names of files are shown, not read as markup.
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setVisible(False)

    def set_layer(self, layer: Layer | None) -> None:
        """Show the warnings of a layer's file; hide where there are none."""
        said: tuple[str, ...] = ()
        if layer is not None:
            try:
                volume = volume_from_layer(layer, whole=True)
                said = file_warnings(volume.metadata)
            except GeoSRError:
                said = ()  # what is wrong with the layer, the dock says itself
        self.setText("\n".join(f"Caution: {layer}: {text}" for text in said))
        self.setVisible(bool(said))
