"""Lists of rows with several columns."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QAbstractScrollArea,
    QHeaderView,
    QSizePolicy,
    QTreeWidget,
)

#: Alignment of numbers and of the titles of their columns.
NUMBERS = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


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
