"""A list with columns, the first as wide as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTreeWidget


def list_tree(
    columns: Sequence[str], name: str, tip: str, *, heights: tuple[int, int]
) -> QTreeWidget:
    """Make an empty list.

    Parameters
    ----------
    columns : sequence of str
        Their titles.
    name, tip : str
        Accessible name, tool tip.
    heights : (int, int)
        Least and most, in pixels.
    """
    tree = QTreeWidget()
    tree.setHeaderLabels(list(columns))
    tree.setRootIsDecorated(False)
    tree.setUniformRowHeights(True)
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
