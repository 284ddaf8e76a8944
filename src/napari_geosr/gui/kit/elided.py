"""A label that never makes a dock wider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt import QElidingLabel

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent


class ElidedLabel(QElidingLabel):
    """Shortens text that does not fit, by default in the middle."""

    def __init__(
        self,
        text: str = "",
        parent: QWidget | None = None,
        *,
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideMiddle,
    ) -> None:
        super().__init__(text, parent)
        self.setElideMode(mode)
        self.setIndent(0)
        self.setMinimumWidth(30)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def changeEvent(self, event: QEvent) -> None:
        """Measure the text again after a font change, as superqt does on resize."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.setText(self.text())
