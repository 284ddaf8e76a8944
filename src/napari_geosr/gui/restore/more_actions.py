"""The section with the rarely used actions of the Restore dock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qtpy.QtGui import QShortcut
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_geosr.gui.kit.widgets import Section


class MoreActions(Section):
    """A section of buttons; their shortcuts also work while it is closed.

    Parameters
    ----------
    rows : sequence of sequence of QPushButton
        Buttons of each row, from left to right; every button has a shortcut or a
        mnemonic.
    """

    def __init__(
        self, rows: Sequence[Sequence[QPushButton]], parent: QWidget | None = None
    ) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 0, 0)
        for row in rows:
            line = QHBoxLayout()
            for button in row:
                line.addWidget(button, 1)
            column.addLayout(line)
        names = ", ".join(each.accessibleName() for row in rows for each in row)
        super().__init__("More actio&ns", content, tool_tip=f"{names}.", parent=parent)
        #: Shortcuts that act while the buttons are hidden: Qt ignores those of hidden
        #: buttons.
        self._shortcuts = [self._shortcut(button) for row in rows for button in row]
        self.button.toggled.connect(self._on_opened)

    def _shortcut(self, button: QPushButton) -> QShortcut:
        made = QShortcut(button.shortcut(), self)
        made.activated.connect(partial(self._press, button))
        return made

    def _press(self, button: QPushButton) -> None:
        """Open the section and press a button that was hidden."""
        self.set_open(True)
        button.click()

    def _on_opened(self, is_open: bool) -> None:
        for shortcut in self._shortcuts:  # otherwise each key would be ambiguous
            shortcut.setEnabled(not is_open)
