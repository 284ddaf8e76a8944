"""Lists of rows with several columns."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
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
        Columns of numbers, whose titles are aligned to the right.
    widest : int
        Column that takes up the remaining width.
    """
    tree = QTreeWidget()
    tree.setHeaderLabels(list(columns))
    tree.setRootIsDecorated(False)
    tree.setUniformRowHeights(True)
    tree.setStyleSheet("QTreeView::item { padding: 2px 0px; }")
    # As tall as the entries require, within the given heights.
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
