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


def list_tree(
    columns: Sequence[str], name: str, tip: str, *, heights: tuple[int, int]
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
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    for column in range(1, len(columns)):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    header.setStretchLastSection(False)
    tree.setMinimumHeight(heights[0])
    tree.setMaximumHeight(heights[1])
    return tree
