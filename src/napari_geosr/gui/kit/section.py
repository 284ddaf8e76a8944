"""A part of a dock that opens and closes under its title."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Section(QWidget):
    """A title to click and, below it, a widget that is hidden while closed.

    superqt's ``QCollapsible`` fixes the content's height when it opens, which cuts
    texts that wrap anew when the dock changes its width.
    """

    def __init__(
        self,
        title: str,
        content: QWidget,
        *,
        tool_tip: str,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.content = content
        self.button = QToolButton()
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setArrowType(Qt.ArrowType.RightArrow)
        self.button.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        self.button.setToolTip(tool_tip)
        self.button.setAccessibleName(title.replace("&", ""))
        self.button.toggled.connect(self._on_toggled)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        layout.addWidget(content)
        content.setVisible(False)

    def set_open(self, is_open: bool) -> None:
        """Unfold the section, or fold it."""
        self.button.setChecked(is_open)

    def _on_toggled(self, is_open: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.button.setArrowType(arrow)
        self.content.setVisible(is_open)
