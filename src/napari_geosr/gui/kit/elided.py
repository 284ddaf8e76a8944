"""A label that never makes a dock wider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QSizePolicy, QWidget
from superqt import QElidingLabel

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent


class ElidedLabel(QElidingLabel):
    """Shortens its text, as a rule in the middle, where there is no room for all."""

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
        """Measure the text again in another font: superqt does when it is resized."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.setText(self.text())
