"""Finds texts of a dock that do not fit their widget."""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtCore import Qt
from qtpy.QtGui import QFontMetrics
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QHeaderView,
    QLabel,
    QScrollArea,
    QStyle,
    QStyleOptionComboBox,
    QWidget,
)

from napari_geosr.gui.kit.widgets import ElidedLabel
from napari_geosr.gui.layers.combo import ElidingCombo, LayerCombo

#: Pixels within a line edit at either side of its text.
_LINE_MARGIN = 2
#: Pixels at both sides of the title of a column together.
_HEADER_MARGIN = 8


def cut_texts(dock: QWidget) -> list[str]:
    """Texts of visible widgets that are wider than the available space.

    Names of layers, files and models are shortened on purpose, with an ellipsis;
    other entries of their menus are not.
    """
    found = [
        f"{area.accessibleName()!r}: needs {least}, has {room}"
        for area in dock.findChildren(QScrollArea)
        if area.isVisibleTo(dock) and area.widget() is not None
        for least in [area.widget().minimumSizeHint().width()]
        for room in [area.viewport().width()]
        if least > room
    ]
    for menu in dock.findChildren(LayerCombo):
        entry = menu.fixed_entry()
        if entry and menu.isVisibleTo(dock) and menu.shown_text() != entry:
            found.append(f"{menu.accessibleName()!r}: {menu.shown_text()!r}")
    for widget in dock.findChildren(QWidget):
        if not widget.isVisibleTo(dock) or isinstance(
            widget, ElidingCombo | ElidedLabel
        ):
            continue
        for text, needed, room in _places(widget):
            if needed > room:
                kind = type(widget).__name__
                name = widget.accessibleName() or widget.objectName()
                found.append(f"{kind} {name!r}: {text!r} needs {needed}, has {room}")
    return found


def _places(widget: QWidget) -> Iterator[tuple[str, int, int]]:
    """Texts of a widget, with the required and the available width of each."""
    metrics = widget.fontMetrics()
    if isinstance(widget, QComboBox):
        yield from _entries(widget, metrics)
    elif isinstance(widget, QAbstractSpinBox):
        line = widget.lineEdit()
        room = line.contentsRect().width() - 2 * _LINE_MARGIN
        yield widget.text(), metrics.horizontalAdvance(widget.text()), room
    elif isinstance(widget, QHeaderView):
        yield from _sections(widget)
    elif isinstance(widget, QCheckBox):
        yield widget.text(), widget.sizeHint().width(), widget.width()
    elif isinstance(widget, QAbstractButton):
        text = widget.text().replace("&", "")
        yield text, metrics.horizontalAdvance(text), widget.width()
    elif isinstance(widget, QLabel) and widget.textFormat() != Qt.TextFormat.RichText:
        words = widget.text().replace("\u200b", " ")
        if "<b>" in words:
            return
        parts = words.split() if widget.wordWrap() else words.splitlines()
        room = widget.contentsRect().width()
        for part in parts:
            part = part.replace("&", "") if widget.buddy() else part
            yield part, metrics.horizontalAdvance(part), room
        if widget.wordWrap() and words.strip():
            yield (
                f"(height) {words}",
                widget.heightForWidth(widget.width()),
                (widget.height()),
            )


def _entries(menu: QComboBox, metrics: QFontMetrics) -> Iterator[tuple[str, int, int]]:
    """The entries of a menu, because any of them may be chosen."""
    option = QStyleOptionComboBox()
    menu.initStyleOption(option)
    control, part = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl
    room = menu.style().subControlRect(control, option, part.SC_ComboBoxEditField, menu)
    for i in range(menu.count()):
        text = menu.itemText(i)
        yield text, metrics.horizontalAdvance(text), room.width()


def _sections(header: QHeaderView) -> Iterator[tuple[str, int, int]]:
    """The titles of the columns of a table."""
    model = header.model()
    if model is None or header.orientation() != Qt.Orientation.Horizontal:
        return
    metrics = header.fontMetrics()
    for i in range(header.count()):
        if not header.isSectionHidden(i):
            text = str(model.headerData(i, Qt.Orientation.Horizontal) or "")
            for part in text.splitlines():
                needed = metrics.horizontalAdvance(part)
                yield part, needed, header.sectionSize(i) - _HEADER_MARGIN
