"""Lists of rows with several columns, and small tables of measured values."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import (
    QContextMenuEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QPainter,
    QPaintEvent,
)
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractScrollArea,
    QGridLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QSizePolicy,
    QStyle,
    QStyleOptionFocusRect,
    QTreeWidget,
    QWidget,
)

from napari_geosr.core.text.figures import Figure
from napari_geosr.gui.kit.line_breaks import keep_numbers_whole
from napari_geosr.gui.kit.widgets import ElidedLabel

#: Alignment of numbers and of the titles of their columns.
NUMBERS = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_TOP_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop
_TOP_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop
#: Space between a label, its value and its unit, in pixels.
_VALUE_GAP = 8
#: Space between the columns of a table that has only values, in pixels.
_COLUMN_GAP = 20
#: The same for a table that also has names, which need more width.
_NAMED_COLUMN_GAP = 12
#: Margins that align the text of a table with that of labels, in pixels.
_MARGINS = (4, 0, 6, 0)
#: Maximum number of characters of a unit that is not wrapped.
_MAX_UNIT = 10
#: Indentation of a remark below a value, in pixels.
_INDENT = 12
#: A number or a range, its unit, and what follows in parentheses, such as a band.
_VALUE = re.compile(
    r"(?P<number>\W?\d[^ ]*(?: to [^ ]+)?) (?P<unit>[^\d(]+?)(?P<rest> \(.*)?"
)


def list_tree(
    columns: Sequence[str],
    name: str,
    tip: str,
    *,
    heights: tuple[int, int],
    numbers: Sequence[int] = (),
    widest: int = 0,
) -> QTreeWidget:
    """Create an empty list.

    Parameters
    ----------
    columns : sequence of str
        Titles of the columns.
    name, tip : str
        Accessible name and tool tip.
    heights : (int, int)
        Minimum and maximum height in pixels.
    numbers : sequence of int
        Columns of numbers; their titles are aligned to the right.
    widest : int
        Column that takes up the remaining width.
    """
    tree = QTreeWidget()
    tree.setHeaderLabels(list(columns))
    tree.setRootIsDecorated(False)
    tree.setUniformRowHeights(True)
    tree.setStyleSheet("QTreeView::item { padding: 2px 0px; }")
    # Make the list as tall as its entries require, within the given limits.
    tree.setSizeAdjustPolicy(QAbstractScrollArea.SizeAdjustPolicy.AdjustToContents)
    tree.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Maximum)
    # Names often differ only at their end.
    tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    tree.setAccessibleName(name)
    tree.setToolTip(tip)
    header = tree.header()
    for column in range(len(columns)):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(widest, QHeaderView.ResizeMode.Stretch)
    for column in numbers:
        tree.headerItem().setTextAlignment(column, NUMBERS)
    header.setStretchLastSection(False)
    tree.setMinimumHeight(heights[0])
    tree.setMaximumHeight(heights[1])
    return tree


class ColumnHider(QObject):
    """Hides columns of a narrow list, so that names are shown in full.

    Parameters
    ----------
    tree : QTreeWidget
        A list made by `list_tree`.
    columns : sequence of int
        Columns that may be hidden, the least important first.
    names : int
        Column of the names, which takes up the remaining width.
    """

    def __init__(
        self, tree: QTreeWidget, columns: Sequence[int], *, names: int = 0
    ) -> None:
        super().__init__(tree)
        self._tree, self._columns, self._names = tree, tuple(columns), names
        tree.viewport().installEventFilter(self)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """Hide or show columns when the width changes."""
        if event.type() == QEvent.Type.Resize:
            self.fit()
        return False

    def fit(self) -> None:
        """Show as many columns as fit; call this after filling the list."""
        tree, header = self._tree, self._tree.header()
        widths = {
            column: max(tree.sizeHintForColumn(column), header.sectionSizeHint(column))
            for column in range(tree.columnCount())
        }
        needed = sum(widths.values())
        for column in self._columns:
            is_hidden = needed > tree.viewport().width()
            needed -= widths[column] if is_hidden else 0
            tree.setColumnHidden(column, is_hidden)


class FiguresTable(QWidget):
    """A small table of measured values, with one label per cell.

    The text of a cell can be selected. Without a selection, the usual shortcut, or an
    entry of the context menu, copies the whole table as tab-separated lines.

    Parameters
    ----------
    name, tip : str
        Accessible name and tool tip.
    """

    def __init__(self, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        #: Texts by row and column, as they are copied.
        self._cells: dict[tuple[int, int], str] = {}
        self.grid = QGridLayout(self)
        self.grid.setContentsMargins(0, 0, 6, 0)  # leave a gap to the scroll bar
        self.grid.setVerticalSpacing(1)
        self.grid.setHorizontalSpacing(_VALUE_GAP)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(name)
        self.setToolTip(tip)
        self.menu = QMenu(self)
        self.menu.addAction("Copy table").triggered.connect(
            lambda: QGuiApplication.clipboard().setText(self.text())
        )

    def clear(self) -> None:
        """Remove all rows, and the widths of their columns."""
        while (item := self.grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._cells = {}
        for column in range(self.grid.columnCount()):
            self.grid.setColumnStretch(column, 0)
        self.grid.setHorizontalSpacing(_VALUE_GAP)

    def set_figures(self, figures: Sequence[Figure]) -> None:
        """Show one row per value: its label, the value, and its unit."""
        self.clear()
        self.grid.setContentsMargins(*_MARGINS)
        row = 0
        for figure in figures:
            tip = figure.help or f"{figure.label}."
            self.add_cell(row, 0, figure.label, tip, wrap=True)
            # Words instead of a number have no unit.
            is_word = not figure.unit and not any(map(str.isdigit, figure.value))
            self.add_cell(row, 1, figure.value, tip, span=1 + is_word)
            if figure.unit:
                wraps = len(figure.unit) > _MAX_UNIT
                label = self.add_cell(row, 2, figure.unit, tip, wrap=wraps)
                label.setAlignment(_TOP_LEFT)
            if figure.remark:
                remark = f"{figure.remark[0].upper()}{figure.remark[1:]}."
                label = self.add_cell(row + 1, 0, remark, tip, wrap=True, span=3)
                label.setContentsMargins(_INDENT, 0, 0, 0)
                # Copy the remark with its value.
                del self._cells[row + 1, 0]
                self._cells[row, 3] = figure.remark
            row += 2
        self.grid.setColumnStretch(0, 1)

    def set_columns(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        has_names: bool = False,
    ) -> None:
        """Show columns of values below their titles.

        Parameters
        ----------
        titles : sequence of str
        rows : sequence of sequence of str
        has_names : bool
            Whether the first column contains names, not values; they are aligned to the
            left, and wrapped.
        """
        self.clear()
        self.grid.setContentsMargins(*_MARGINS)
        for row, texts in enumerate((titles, *rows)):
            for column, text in enumerate(texts):
                is_name = has_names and not column
                label = self.add_cell(
                    row,
                    column,
                    text,
                    f"{titles[column]}.",
                    bold=not row,
                    wrap=is_name,
                )
                label.setAlignment(_TOP_LEFT if is_name else _TOP_RIGHT)
        self.grid.setHorizontalSpacing(_NAMED_COLUMN_GAP if has_names else _COLUMN_GAP)
        self.grid.setColumnStretch(0 if has_names else len(titles), 1)

    def add_cell(
        self,
        row: int,
        column: int,
        text: str,
        help_text: str,
        *,
        elide: bool = False,
        wrap: bool = False,
        bold: bool = False,
        span: int = 1,
    ) -> QLabel:
        """Add one cell, aligned to the right unless it is in the first column."""
        self._cells[row, column] = text
        label = ElidedLabel(text) if elide else QLabel(text)
        label.setToolTip(help_text)
        label.setAccessibleName(text or "no value")
        label.setIndent(0)
        label.setAlignment(_TOP_RIGHT if column else _TOP_LEFT)
        if not elide:
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
            label.installEventFilter(self)
        if bold:
            font = label.font()
            font.setBold(True)
            label.setFont(font)
        self.grid.addWidget(label, row, column, 1, span)
        if wrap:
            label.setText(keep_numbers_whole(text))
            label.setWordWrap(True)
            label.ensurePolished()  # use the font of the window
            widths = map(label.fontMetrics().horizontalAdvance, text.split())
            label.setMinimumWidth(max(widths, default=0) + 4)
        return label

    def text(self) -> str:
        """Return the table as tab-separated lines."""
        lines = []
        for row in sorted({row for row, _ in self._cells}):
            columns = {c: text for (r, c), text in self._cells.items() if r == row}
            texts = [columns.get(c, "") for c in range(max(columns) + 1)]
            lines.append("\t".join(text.replace("\n", " ") for text in texts))
        return "\n".join(lines)

    def copy(self, cell: QLabel | None = None) -> None:
        """Copy the text selected in `cell`; without a selection, the whole table."""
        chosen = "" if cell is None else cell.selectedText()
        # Numbers and units are separated by ordinary spaces, as in the table.
        chosen = chosen.replace("\N{NO-BREAK SPACE}", " ")
        QGuiApplication.clipboard().setText(chosen or self.text())

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Offer to copy the table."""
        self.menu.popup(event.globalPos())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Show whether the table has the keyboard focus."""
        super().paintEvent(event)
        if self.hasFocus():
            painter, option = QPainter(self), QStyleOptionFocusRect()
            option.initFrom(self)
            kind = QStyle.PrimitiveElement.PE_FrameFocusRect
            self.style().drawPrimitive(kind, option, painter, self)
            painter.end()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Copy with the usual shortcut."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Copy also while a cell has the focus."""
        is_key = isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress
        if is_key and event.matches(QKeySequence.StandardKey.Copy):
            self.copy(watched if isinstance(watched, QLabel) else None)
            return True
        return bool(super().eventFilter(watched, event))


def split_unit(texts: Sequence[str]) -> tuple[str, list[str]]:
    """Return the unit that the values of a row share, and the values without it.

    If they do not share one unit, it is empty, and the texts are unchanged. A dash is
    not a value.
    """
    found = [_VALUE.fullmatch(text) for text in texts]
    units = {
        None if one is None else one["unit"]
        for one, text in zip(found, texts, strict=True)
        if text != "\N{EN DASH}"
    }
    unit = units.pop() if len(units) == 1 else None
    if unit is None:
        return "", list(texts)
    return unit, [
        text if one is None else one["number"] + (one["rest"] or "")
        for one, text in zip(found, texts, strict=True)
    ]
