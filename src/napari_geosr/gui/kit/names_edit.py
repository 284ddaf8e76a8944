"""A line of names, some with a weight, and a menu of all that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QMenu, QToolButton, QWidget


class NamesEdit(QWidget):
    """Shows ``one,two:0.3``; typed, or ticked in the menu, which keeps the weights.

    Parameters
    ----------
    names : callable
        Gives the names with a line about each; called when the menu opens.

    Signals
    -------
    edited
        A person changed the text, or it was set.
    """

    edited = Signal()

    def __init__(
        self, names: Callable[[], Mapping[str, str]], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._names = names
        self.line = QLineEdit()
        self.line.setMinimumWidth(80)
        self.line.editingFinished.connect(self.edited)
        self.menu = QMenu(self)
        self.menu.aboutToShow.connect(self._fill)
        self.button = QToolButton()
        self.button.setArrowType(Qt.ArrowType.DownArrow)
        self.button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.button.setMenu(self.menu)
        self.button.setAccessibleName("Choose from a list")
        self.button.setToolTip("Choose from a list what there is.")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, stretch=1)
        layout.addWidget(self.button)
        self.setFocusProxy(self.line)

    def text(self) -> str:
        """The names and weights as they stand there."""
        return str(self.line.text())

    def setText(self, text: str) -> None:
        """Show other names and weights."""
        if text != self.line.text():
            self.line.setText(text)
            self.edited.emit()

    def _fill(self) -> None:
        """Offer what there is, with a tick at what is chosen."""
        self.menu.clear()
        chosen = {_name(part) for part in self._parts()}
        for name, about in self._names().items():
            action = self.menu.addAction(f"{name}: {about}")
            action.setCheckable(True)
            action.setChecked(name in chosen)
            action.toggled.connect(partial(self._choose, name))

    def _choose(self, name: str, wanted: bool) -> None:
        kept = [part for part in self._parts() if _name(part) != name]
        self.setText(",".join([*kept, name] if wanted else kept))

    def _parts(self) -> list[str]:
        parts = (part.strip() for part in self.line.text().split(","))
        return [part for part in parts if part]


def _name(part: str) -> str:
    return part.partition(":")[0].strip()
