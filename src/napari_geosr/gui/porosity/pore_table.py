"""Table of pores, which shows, sorts and filters arrays as columns without copies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QKeySequence, QPainter
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QHeaderView,
    QTableView,
    QWidget,
)

from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

LABEL = "label"
#: Number of rows sampled to choose a column's decimals.
_SAMPLE_ROWS = 10_000
#: Maximum number of decimals, which is the same for all numbers of a column.
_MAX_DECIMALS = 6
#: Width of a cell in addition to its text, in pixels: with the usual units, the columns
#: up to the diameter fit into a dock of 360 pixels.
_CELL_PADDING = 16
#: Text shown if there are no selected pores to list.
_NONE_SELECTED = "No selected pores. To list all, clear “List only selected pores”."
#: Decimal points are not aligned in a column with a number of at least this magnitude.
_MAX_ALIGNED = 1e10


class PoreTableModel(QAbstractTableModel):
    """Table of pores: rows are pores, columns are arrays.

    A cell is formatted as text only when it is shown.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._names: list[str] = []
        self._columns: dict[str, AnyArray] = {}
        self._units: Mapping[str, str] = {}
        self._order = np.zeros(0, np.int64)
        self._row_of: AnyArray = np.zeros(0, np.int64)
        self._decimals: dict[str, int | None] = {}
        self._minimum = (LABEL, 0.0)
        self._sorted = (0, Qt.SortOrder.AscendingOrder)
        #: All rows in the order of the sorted column.
        self._all_rows = np.zeros(0, np.int64)
        self._marked: AnyArray = np.zeros(0, bool)
        #: Whether only selected pores are listed.
        self.lists_only_marked = False

    def set_table(
        self, columns: Mapping[str, AnyArray], units: Mapping[str, str]
    ) -> None:
        """Show other pores; clear the filter and keep the sorting if possible."""
        self.beginResetModel()
        self._names, self._columns, self._units = list(columns), dict(columns), units
        self._decimals = {name: decimals_of(values) for name, values in columns.items()}
        self._minimum = (LABEL, 0.0)
        self._marked = np.zeros(len(columns[LABEL]), bool)
        if self._sorted[0] >= len(self._names):
            self._sorted = (0, Qt.SortOrder.AscendingOrder)
        self._sort_rows()
        self._filter_rows()
        self.endResetModel()

    def set_minimum(self, column: str, value: float) -> None:
        """Show only pores with a value of at least `value` in `column`."""
        self.beginResetModel()
        self._minimum = (column, value)
        self._filter_rows()
        self.endResetModel()

    def set_marked(self, mask: AnyArray, *, only: bool) -> None:
        """Highlight the rows of selected pores; with `only`, list only these rows."""
        if not only and not self.lists_only_marked:
            self._marked = mask
            return
        self.beginResetModel()
        self._marked, self.lists_only_marked = mask, only
        self._filter_rows()
        self.endResetModel()

    def is_marked(self, row: int) -> bool:
        """Whether the pore in `row` is selected."""
        index = self._order[row]
        return bool(index < len(self._marked) and self._marked[index])

    def first_marked(self) -> int | None:
        """Return the first row of a selected pore; None if none is listed."""
        if not self._marked.any():
            return None
        marked = self._marked[self._order]
        return int(marked.argmax()) if marked.any() else None

    def _sort_rows(self) -> None:
        if not self._names:
            self._all_rows = np.zeros(0, np.int64)
            return
        column, order = self._sorted
        values = self._columns[self._names[column]]
        rows = np.argsort(values, kind="stable")
        if order == Qt.SortOrder.DescendingOrder:
            rows = np.roll(rows[::-1], -np.count_nonzero(values != values))  # NaN last
        self._all_rows = rows

    def _filter_rows(self) -> None:
        rows = self._all_rows
        if not self._names:
            self._order, self._row_of = rows, np.zeros(0, np.int64)
            return
        if self.lists_only_marked:
            rows = rows[self._marked[rows]]
        name, least = self._minimum
        if name in self._columns and least > 0:
            rows = rows[self._columns[name][rows] >= least]
        self._order = rows
        labels = self._columns[LABEL]
        self._row_of = np.full(int(labels.max(initial=0)) + 1, -1, np.int64)
        self._row_of[labels[rows]] = np.arange(len(rows))

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Sort by a column; selected pores stay selected."""
        if not 0 <= column < len(self._names):
            return
        self.layoutAboutToBeChanged.emit()
        kept = self.persistentIndexList()
        labels = [self.label_at(index.row()) for index in kept]
        self._sorted = (column, order)
        self._sort_rows()
        self._filter_rows()
        rows = [self.row_of(label) for label in labels]
        moved = [
            self.index(-1 if row is None else row, index.column())
            for row, index in zip(rows, kept, strict=True)
        ]
        self.changePersistentIndexList(kept, moved)
        self.layoutChanged.emit()

    def decimals(self, name: str) -> int | None:
        """Return the number of decimals of a column; see `decimals_of`."""
        return self._decimals.get(name)

    def as_text(self) -> str:
        """Return the rows shown as tab-separated text, below column names and units."""
        units = self._units
        head = [f"{n} ({units[n]})" if units.get(n) else n for n in self._names]
        columns = [self._columns[name][self._order].tolist() for name in self._names]
        rows = ["\t".join(map(str, row)) for row in zip(*columns, strict=True)]
        return "\n".join(["\t".join(head), *rows])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self._names)

    @property
    def shown_labels(self) -> AnyArray:
        """Labels in the order of the rows."""
        return self._columns[LABEL][self._order] if self._names else self._order

    def label_at(self, row: int) -> int:
        """Return the label of the pore that is shown in `row`."""
        return int(self._columns[LABEL][self._order[row]])

    def row_of(self, label: int) -> int | None:
        """Return the row that shows `label`; None if it is missing or filtered out."""
        if not 0 <= label < len(self._row_of) or self._row_of[label] < 0:
            return None
        return int(self._row_of[label])

    def index_of(self, label: int) -> int | None:
        """Return the index of `label` in the unsorted columns; None if not shown."""
        row = self.row_of(label)
        return None if row is None else int(self._order[row])

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if role == Qt.ItemDataRole.DisplayRole:
            name = self._names[index.column()]
            value = self._columns[name][self._order[index.row()]]
            return cell_text(value, self._decimals.get(name))
        if role == Qt.ItemDataRole.BackgroundRole and self.is_marked(index.row()):
            return QApplication.palette().highlight()
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal or section >= len(self._names):
            return None
        name = self._names[section]
        unit = self._units.get(name, "")
        if role == Qt.ItemDataRole.DisplayRole:
            return column_title(name, unit)
        if role == Qt.ItemDataRole.ToolTipRole:
            return (
                f"{name.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")
            )
        return None


def decimals_of(values: AnyArray) -> int | None:
    """Return the number of decimals for all numbers in a column, so that they align.

    A number as small as the 10th percentile then has four significant digits; whole
    numbers have no decimals. Returns None for columns of integers or of very large
    numbers, and for columns that would need more than six decimals.
    """
    if values.dtype.kind != "f":
        return None
    # A sample is enough, and reading every value would block the event loop.
    some = np.abs(values[:: max(1, len(values) // _SAMPLE_ROWS)])
    some = some[np.isfinite(some) & (some > 0)]
    if not len(some) or some.max() >= _MAX_ALIGNED:
        return None
    if (some == np.round(some)).all():
        return 0
    digits = 3 - math.floor(math.log10(float(np.quantile(some, 0.1, method="lower"))))
    return max(0, digits) if digits <= _MAX_DECIMALS else None


def cell_text(value: object, decimals: int | None = None) -> str:
    """Format a value for display.

    Integers are shown in full; other numbers have the decimals of their column, or at
    least four significant digits if `decimals` is None.
    """
    if isinstance(value, np.bool_ | bool):
        return "yes" if value else "no"
    if isinstance(value, np.integer | int):
        return _grouped(int(value))
    if isinstance(value, np.floating | float):
        number = float(value)
        if not np.isfinite(number):
            return "–"
        if decimals is not None:
            text = f"{number:,.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
            return text.replace("-", "\N{MINUS SIGN}")
        if 1e3 <= abs(number) < 1e10:
            return _grouped(round(number))
        return f"{number:.4g}".replace("-", "\N{MINUS SIGN}", 1)
    return str(value) or "–"


def _grouped(number: int) -> str:
    text = f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return text.replace("-", "\N{MINUS SIGN}")


def column_title(name: str, unit: str) -> str:
    """Return the header of a column: name and unit on two lines."""
    words = name.replace("_", " ").split(" ")
    if unit and unit not in name:
        words.append(f"({unit})")
    # Two lines of about the same length keep the column narrow.
    if len(words) < 2:
        return words[0]
    half = min(
        range(1, len(words)),
        key=lambda i: max(len(" ".join(words[:i])), len(" ".join(words[i:]))),
    )
    return " ".join(words[:half]) + "\n" + " ".join(words[half:])


class PoreTable(QTableView):
    """Lists pores, and emits the label of a pore that the user chooses.

    Signals
    -------
    labelChosen : int
        The user chose the row of this pore by mouse or keyboard.
    labelsMarked : ndarray
        The user selected the rows of these pores.
    """

    labelChosen = Signal(int)
    labelsMarked = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pores = PoreTableModel(self)
        self.setModel(self.pores)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSortingEnabled(True)
        self.setAccessibleName("Pore table")
        self.setToolTip(
            "One row per pore. Click a row to go to that pore; hold Shift or Ctrl to "
            "select several. Click a column header to sort. Ctrl+C copies all rows."
        )
        self.setCornerButtonEnabled(False)
        corner = self.findChild(QAbstractButton)
        if corner is not None:
            corner.setAccessibleName("Corner of the table")
            corner.setToolTip("Corner of the table")
        rows = self.verticalHeader()
        rows.setVisible(False)
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(self.fontMetrics().height() + 6)
        columns = self.horizontalHeader()
        columns.setDefaultSectionSize(84)
        columns.setHighlightSections(False)
        columns.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.selectionModel().currentRowChanged.connect(self._on_row_changed)
        self.selectionModel().selectionChanged.connect(self._on_selection_changed)
        columns.sectionResized.connect(self._on_column_resized)
        self._quiet = False
        # Minimum widths of the columns; empty after the user has changed one.
        self._widths: list[int] = []

    def set_table(
        self,
        columns: Mapping[str, AnyArray],
        units: Mapping[str, str],
        *,
        first: Sequence[str] = (),
    ) -> None:
        """Show these pores; column widths fit the headers and a sample of cells.

        Parameters
        ----------
        first : sequence of str
            Columns shown next to the labels, if the table has them.
        """
        self._quiet = True
        self.pores.set_table(columns, units)
        metrics = self.fontMetrics()
        self._widths, widths = [], list[int]()
        for i, name in enumerate(columns):
            words = column_title(name, units.get(name, "")).split("\n")
            # A sample is enough, and reading every cell would block the event loop.
            some = [*columns[name][:50]]
            if columns[name].dtype.kind in "fiu":
                some.append(columns[name].max(initial=0))
            decimals = self.pores.decimals(name)
            cells = [cell_text(value, decimals) for value in some]
            widest = max(metrics.horizontalAdvance(w) for w in [*words, *cells])
            widths.append(widest + _CELL_PADDING)
            self.setColumnWidth(i, widths[-1])
        self._show_first([LABEL, *(name for name in first if name in columns)])
        self._widths = widths
        self._fill_width()
        self._quiet = False

    def _fill_width(self) -> None:
        """Widen the first columns, so that no header is truncated at the right edge."""
        header, room = self.horizontalHeader(), self.viewport().width()
        order = [header.logicalIndex(place) for place in range(len(self._widths))]
        whole, used = 0, 0
        for i in order:
            if used + self._widths[i] > room:
                break
            whole, used = whole + 1, used + self._widths[i]
        if not whole or whole == len(order):
            return
        share, rest = divmod(room - used, whole)
        widths, self._widths = self._widths, []
        for place, i in enumerate(order):
            extra = share + (place < rest) if place < whole else 0
            self.setColumnWidth(i, widths[i] + extra)
        self._widths = widths

    def _on_column_resized(self, *_: object) -> None:
        self._widths = []

    def resizeEvent(self, event: QEvent) -> None:
        """Show complete columns, unless the user has changed their widths."""
        super().resizeEvent(event)
        self._fill_width()

    def _show_first(self, names: list[str]) -> None:
        """Show these columns first, the others in the order of the table."""
        header, known = self.horizontalHeader(), list(self.pores.names)
        order = names + [name for name in known if name not in names]
        for place, name in enumerate(order):
            header.moveSection(header.visualIndex(known.index(name)), place)

    def select_label(self, label: int) -> bool:
        """Select the row of `label`, if any, without emitting `labelChosen`."""
        row = self.pores.row_of(label)
        was_quiet = self._quiet
        if row is None:
            self._quiet = True
            self.clearSelection()
            self._quiet = was_quiet
            return False
        self._quiet = True
        self.selectRow(row)
        column = self.currentIndex().column()
        index = self.pores.index(row, max(column, 0))
        self.scrollTo(index, QAbstractItemView.ScrollHint.PositionAtCenter)
        self._quiet = was_quiet
        return True

    def selected_label(self) -> int | None:
        """Return the label of the selected pore, or of one of several."""
        ranges = self.selectionModel().selection()
        return self.pores.label_at(ranges[0].top()) if len(ranges) else None

    def set_marked(self, mask: AnyArray, *, only: bool = False) -> None:
        """Show which pores are selected, without emitting `labelsMarked`.

        Several rows are drawn as selected, but are not a Qt selection, which takes
        seconds for thousands of separate rows.

        Parameters
        ----------
        mask : ndarray of bool, shape (n,)
            The selected pores, in the original order of the rows.
        only : bool
            List only the selected pores.
        """
        self._quiet = True
        self.pores.set_marked(mask, only=only)
        chosen = np.sort(self._chosen_labels())
        labels = np.flatnonzero(mask) + 1
        if not np.array_equal(chosen, labels):
            if len(labels) == 1:
                self.select_label(int(labels[0]))
            else:
                self.clearSelection()
                row = self.pores.first_marked()
                if row is not None:
                    self.scrollTo(self.pores.index(row, 0))
        self._quiet = False
        self.viewport().update()

    def _chosen_labels(self) -> AnyArray:
        """Return the labels of the rows in Qt's selection."""
        ranges = self.selectionModel().selection()
        rows = [np.arange(r.top(), r.bottom() + 1) for r in ranges]
        none = np.zeros(0, np.int64)
        labels: AnyArray = self.pores.shown_labels[np.concatenate([none, *rows])]
        return labels

    def set_minimum(self, column: str, value: float) -> None:
        """Hide pores with a value below `value` in `column`; keep the selection."""
        label = self.selected_label()
        self._quiet = True
        self.pores.set_minimum(column, value)
        self._quiet = False
        if label is not None:
            self.select_label(label)

    def paintEvent(self, event: QEvent) -> None:
        """Draw the table, and state why it is empty if no pores are selected."""
        super().paintEvent(event)
        if self.pores.lists_only_marked and not self.pores.rowCount():
            painter, view = QPainter(self.viewport()), self.viewport().rect()
            painter.setPen(self.palette().windowText().color())
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(view, int(flags), _NONE_SELECTED)
            painter.end()

    def keyPressEvent(self, event: QEvent) -> None:
        """Copy the table when the usual shortcut is pressed."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
            return
        super().keyPressEvent(event)

    def copy(self) -> None:
        """Copy all listed rows to the clipboard, with tabs between columns."""
        QApplication.clipboard().setText(self.pores.as_text())

    def _on_row_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid() and not self._quiet:
            self.labelChosen.emit(self.pores.label_at(current.row()))

    def _on_selection_changed(self, *_: object) -> None:
        if self._quiet or self.pores.lists_only_marked:
            return
        labels = self._chosen_labels()
        if len(labels):
            self.labelsMarked.emit(labels)
