"""Texts in empty fields, with enough contrast in every theme."""

from __future__ import annotations

import re

from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QComboBox, QLineEdit

#: Opacity of placeholder texts. Qt's default of 50 % gives a contrast of 2.8 : 1 with
#: the field in napari's light theme; the value below gives more than 4.5 : 1 in both
#: themes.
_OPACITY = 0.78
#: Declaration of the colour in a style sheet.
_DECLARATION = re.compile(r"\s*placeholder-text-color:[^;]*;")


def show_placeholder(edit: QLineEdit | QComboBox, text: str) -> None:
    """Show a text while a field is empty.

    The field of a menu keeps Qt's colour: a style of its own would displace its text.
    """
    edit.setPlaceholderText(text)
    is_field = isinstance(edit, QLineEdit) and not isinstance(edit.parent(), QComboBox)
    if is_field and edit.findChild(_PlaceholderColour) is None:
        _PlaceholderColour(edit)


class _PlaceholderColour(QObject):
    """Keeps the colour of a field's placeholder close to the colour of its text."""

    def __init__(self, edit: QLineEdit) -> None:
        super().__init__(edit)
        self._edit = edit
        edit.installEventFilter(self)

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Set the colour again when the style has changed, e.g. to another theme."""
        if event is not None and event.type() == QEvent.Type.StyleChange:
            self._set_colour()
        return False

    def _set_colour(self) -> None:
        color = self._edit.palette().color(QPalette.ColorRole.Text)
        red, green, blue, _ = color.getRgb()
        other = _DECLARATION.sub("", self._edit.styleSheet())
        wanted = f"rgba({red}, {green}, {blue}, {_OPACITY:.0%})"
        style = f"{other} placeholder-text-color: {wanted};".lstrip()
        if style != self._edit.styleSheet():
            self._edit.setStyleSheet(style)
