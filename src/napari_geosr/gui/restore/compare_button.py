"""A button of the Restore dock that opens a result and its scan in the Compare dock."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QPushButton, QWidget

from napari_geosr.gui.kit.dock_tabs import COMPARE
from napari_geosr.gui.kit.frame import open_dock

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image


class CompareButton(QPushButton):
    """Opens the Compare dock with a result and its scan ticked."""

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__("Compare…", parent)
        self.setShortcut("Alt+Shift+A")
        self.setToolTip(
            "Open the Compare dock with the restored layer and its scan: quality "
            "metrics, and the pores that differ (Alt+Shift+A)."
        )
        self.setAccessibleName("Compare")
        self._viewer = viewer
        self._pair: tuple[weakref.ref[Image], weakref.ref[Image]] | None = None
        self.clicked.connect(self._on_click)
        self.setVisible(False)

    def set_pair(self, source: Image | None, result: Image | None) -> None:
        """Set the pair to compare; None hides the button."""
        self._pair = None
        if source is not None and result is not None:
            self._pair = weakref.ref(source), weakref.ref(result)
        self.setVisible(self._pair is not None)

    def _on_click(self) -> None:
        layers = [] if self._pair is None else [ref() for ref in self._pair]
        there = [layer for layer in layers if layer in self._viewer.layers]
        open_dock(self._viewer, COMPARE, lambda dock: dock.choose_images(*there))
