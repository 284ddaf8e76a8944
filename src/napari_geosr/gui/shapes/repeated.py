"""Repeats the preview of a shape after its settings have changed."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_geosr.gui.shapes.preview import PreviewSurface

#: Time without changes, in ms, after which the preview is computed again.
_PAUSE_MS = 600


class PreviewRepeater:
    """Computes a preview again a short time after the last change of a setting.

    Parameters
    ----------
    parent : QWidget
        Owner of the timer.
    preview : PreviewSurface
        The preview; it is repeated only if it is shown when a setting changes.
    start : callable
        Starts the preview.
    """

    def __init__(
        self, parent: QWidget, preview: PreviewSurface, start: Callable[[], None]
    ) -> None:
        self._preview = preview
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(start)

    def note_change(self) -> None:
        """Repeat the preview soon; call it before the outdated preview is removed."""
        if self._preview.layer is not None or self._timer.isActive():
            self._timer.start()

    def stop(self) -> None:
        """Do not repeat the preview."""
        self._timer.stop()
