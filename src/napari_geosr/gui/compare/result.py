"""Metrics of a comparison side by side, and the pores that differ."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.lists import NUMBERS, list_tree
from napari_geosr.gui.kit.widgets import combo, text_label
from napari_geosr.operations.measure import number_text

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent, QResizeEvent

    from napari_geosr.operations.compare import QualityReport
    from napari_geosr.operations.compare.pores import PoreMatch, Status

#: Entries of the menu of pores, by status.
KINDS: dict[Status, str] = {
    "lost": "Lost pores",
    "invented": "Invented pores",
    "split": "Split pores",
    "merged": "Merged pores",
    "changed": "Regrouped pores",
    "matched": "Matched pores",
}
#: Maximum number of pores listed, largest first; more would make the window slow.
MAX_LISTED = 1000
_MIN_HEIGHT = 160
#: Maximum width of the row titles (names of measured values), in pixels; tool tips show
#: them in full.
_LABELS = 100
#: Maximum number of characters in a line of a row title.
_LABEL_CHARACTERS = 14
#: Maximum width, in pixels, to which a column is widened for its title, so that two
#: columns fit into the dock; values are never truncated.
_COLUMN = 105


class QualityTable(QTableWidget):
    """Table with one row per metric and one column per volume.

    Cells are copied as tab-separated text.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        #: Keys of the volumes, from left to right.
        self._keys: list[str] = []
        self.setAccessibleName("Results")
        self.setToolTip("Results of the comparison. Select cells to copy them.")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setCornerButtonEnabled(False)
        corner = self.findChild(QAbstractButton)
        if corner is not None:
            corner.setAccessibleName("Corner of the table")
            corner.setToolTip("Corner of the table.")
        self.setMinimumHeight(_MIN_HEIGHT)
        header = self.horizontalHeader()
        header.setResizeContentsPrecision(-1)  # measure all rows
        header.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        rows = self.verticalHeader()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        rows.setTextElideMode(Qt.TextElideMode.ElideNone)  # eliding joins lines
        rows.setMaximumWidth(_LABELS)
        rows.setDefaultAlignment(
            Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        )

    def set_report(self, report: QualityReport | None) -> None:
        """Show the metrics of a report; None clears the table."""
        rows = [] if report is None else report.rows()
        titles = {} if report is None else dict(report.titles)
        base = "" if report is None else report.base
        # In a narrow dock, the last columns may be out of view. The base has the fewest
        # figures, so it comes last.
        keys = sorted(titles, key=lambda key: key == base)
        self._keys = keys
        places = [list(titles).index(key) for key in keys]
        self.setRowCount(len(rows))
        self.setColumnCount(len(titles))
        for column, key in enumerate(keys):
            title = titles[key]
            head = QTableWidgetItem(title)
            head.setToolTip(
                f"{title}: the base, with which the others are compared."
                if key == base
                else title
            )
            if key == base:
                font = head.font()
                font.setItalic(True)
                head.setFont(font)
            head.setTextAlignment(NUMBERS)
            self.setHorizontalHeaderItem(column, head)
        for number, row in enumerate(rows):
            head = QTableWidgetItem(textwrap.fill(row.label, _LABEL_CHARACTERS))
            head.setToolTip(f"{row.label}. {row.help}")
            self.setVerticalHeaderItem(number, head)
            for column, place in enumerate(places):
                # A remark in brackets does not fit next to its value.
                item = QTableWidgetItem(row.texts[place].replace(" (", "\n("))
                item.setToolTip(f"{row.label}: {row.texts[place]}. {row.help}")
                item.setTextAlignment(NUMBERS)
                self.setItem(number, column, item)
        header = self.horizontalHeader()
        for column in range(len(keys)):
            for_title = min(header.sectionSizeHint(column), _COLUMN)
            width = max(self.sizeHintForColumn(column), for_title)
            header.resizeSection(column, width)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Leave enough room for one column of values."""
        self.verticalHeader().setMaximumWidth(min(_LABELS, 2 * self.width() // 5))
        super().resizeEvent(event)

    def show_volume(self, key: str) -> None:
        """Scroll sideways to the column of a volume."""
        if key in self._keys and self.rowCount():
            top = max(0, self.rowAt(0))
            self.scrollToItem(self.item(top, self._keys.index(key)))

    def selected_text(self) -> str:
        """Return the selected cells (if none, all cells) as tab-separated lines."""
        chosen = {(i.row(), i.column()) for i in self.selectedIndexes()} or {
            (row, column)
            for row in range(self.rowCount())
            for column in range(self.columnCount())
        }
        lines = []
        for row in sorted({row for row, _ in chosen}):
            texts = [
                one_line(self.item(row, column))
                for column in range(self.columnCount())
                if (row, column) in chosen
            ]
            lines.append("\t".join([one_line(self.verticalHeaderItem(row)), *texts]))
        return "\n".join(lines)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Copy the selected cells when the usual shortcut is pressed."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            QGuiApplication.clipboard().setText(self.selected_text())
            return
        super().keyPressEvent(event)


def one_line(item: QTableWidgetItem) -> str:
    """Return the text of a cell without the line breaks inserted for a narrow dock."""
    return str(item.text()).replace("-\n", "-").replace("\n", " ")


class PoreChanges(QWidget):
    """Lists the pores of one kind, such as lost, invented, split or merged pores.

    Signals
    -------
    positionChosen : str, tuple
        Key of the volume, and a pore's centroid in the unit of the comparison.
    """

    positionChosen = Signal(str, tuple)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report: QualityReport | None = None
        self.kind = combo("Pores to list", "Kind of pores to list.")
        self.of = combo(
            "Image for which pores are listed", "The image compared with the base."
        )
        self.list = list_tree(
            ["Position", "Base", "Image"],
            "Pores that differ",
            "Click on a pore to move the viewer to it.",
            heights=(100, 260),
            numbers=(1, 2),
        )
        self.note = text_label(
            "Number of unlisted pores", "Number of pores that are not listed."
        )
        self.note.hide()
        choices = QHBoxLayout()
        choices.addWidget(self.kind, 1)
        choices.addWidget(self.of, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(choices)
        column.addWidget(self.list)
        column.addWidget(self.note)
        self.kind.currentIndexChanged.connect(self._show)
        self.of.currentIndexChanged.connect(self._on_of)
        self.list.currentItemChanged.connect(self._on_item)

    def set_report(self, report: QualityReport | None) -> None:
        """List the pores of a report; hide the list if pores were not measured."""
        self._report = report
        matches = {} if report is None else dict(report.pores)
        with QSignalBlocker(self.of):
            self.of.clear()
            for key in matches:
                assert report is not None
                self.of.addItem(report.titles[key], key)
        self.of.setVisible(len(matches) > 1)
        self.setVisible(bool(matches))
        self._on_of()

    def _on_of(self, _index: int = 0) -> None:
        """Offer the kinds of pores that occur in the report."""
        match = self._match()
        counts: Mapping[str, int] = (
            {} if match is None else {kind: match.count(kind) for kind in KINDS}
        )
        before = self.kind.currentData()
        with QSignalBlocker(self.kind):
            self.kind.clear()
            for kind, title in KINDS.items():
                if counts.get(kind):
                    self.kind.addItem(f"{title} ({counts[kind]})", kind)
            # Choose matched pores only if there are no others.
            kept = -1 if before == "matched" else self.kind.findData(before)
            self.kind.setCurrentIndex(max(0, kept))
        self._show()

    def _match(self) -> PoreMatch | None:
        key = self.of.currentData()
        return None if self._report is None or key is None else self._report.pores[key]

    def _show(self, _index: int = 0) -> None:
        match, kind = self._match(), self.kind.currentData()
        if match is not None and self._report is not None:
            unit = self._report.frame.length_unit
            self.list.setHeaderLabels(
                [
                    f"Position\n({unit})",
                    f"Base\n({match.unit})",
                    f"Image\n({match.unit})",
                ]
            )
        with QSignalBlocker(self.list):
            self.list.clear()
            changes = () if match is None or kind is None else match.of(kind)
            for change in changes[:MAX_LISTED]:
                place = ", ".join(number_text(x) for x in change.position)
                item = QTreeWidgetItem(
                    [place, _size(change.base_volume), _size(change.volume)]
                )
                item.setData(0, Qt.ItemDataRole.UserRole, change.position)
                for column in (1, 2):
                    item.setTextAlignment(column, NUMBERS)
                self.list.addTopLevelItem(item)
        left = len(changes) - MAX_LISTED
        self.note.setText(
            f"The {left} smallest pores are not listed; they are "
            "included in the export."
        )
        self.note.setVisible(left > 0)

    def _on_item(self, item: QTreeWidgetItem | None, _before: object = None) -> None:
        if item is not None:
            position = item.data(0, Qt.ItemDataRole.UserRole)
            self.positionChosen.emit(self.of.currentData(), tuple(position))


def _size(volume: float) -> str:
    return number_text(volume) if volume else "\N{EN DASH}"
