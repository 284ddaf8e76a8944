"""Metrics of a comparison side by side, and the pores that differ."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QSize, Qt, Signal
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.line_breaks import keep_numbers_whole
from napari_geosr.gui.kit.lists import NUMBERS, list_tree, split_unit
from napari_geosr.gui.kit.widgets import ElidedLabel, combo, text_label
from napari_geosr.operations.measure import number_text

if TYPE_CHECKING:
    from qtpy.QtGui import QFontMetrics, QKeyEvent, QResizeEvent

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
#: Maximum height of the list, which has a tab of its own, in pixels.
_LIST_HEIGHT = 2000
#: Maximum width of the row titles (names of measured values), in pixels; tool tips show
#: them in full.
_LABELS = 100
#: Maximum number of characters in a line of a row title.
_LABEL_CHARACTERS = 14
#: Maximum number of characters in a line of a cell, and of a value with its unit. Three
#: columns of such lines fit into a dock of the usual width.
_CELL_CHARACTERS = 11
_VALUE_CHARACTERS = 10
#: Space at both sides of the title of a column together, in pixels.
_TITLE_MARGIN = 10


class QualityTable(QTableWidget):
    """Table with one row per metric and one column per volume.

    It is as tall as its rows, because it is in a dock that scrolls. Cells are copied as
    tab-separated text.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        #: Names of the volumes by their keys, from left to right.
        self._titles: dict[str, str] = {}
        self.setAccessibleName("Results")
        self.setToolTip("Results of the comparison. Select cells to copy them.")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setCornerButtonEnabled(False)
        corner = self.findChild(QAbstractButton)
        if corner is not None:
            corner.setAccessibleName("Corner of the table")
            corner.setToolTip("Corner of the table.")
        self.setSizeAdjustPolicy(QAbstractScrollArea.SizeAdjustPolicy.AdjustToContents)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # The preferred height includes the scroll bar, if there is one.
        self.horizontalScrollBar().rangeChanged.connect(self.updateGeometry)
        header = self.horizontalHeader()
        header.setResizeContentsPrecision(-1)  # measure all rows
        header.setTextElideMode(Qt.TextElideMode.ElideNone)  # see `_fit_columns`
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
        self._titles = {key: titles[key] for key in keys}
        places = [list(titles).index(key) for key in keys]
        self.setRowCount(len(rows))
        self.setColumnCount(len(titles))
        for column, (key, title) in enumerate(self._titles.items()):
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
            label, texts = _narrowed(row.label, row.texts)
            head = QTableWidgetItem(label)
            head.setToolTip(f"{row.label}. {row.help}")
            self.setVerticalHeaderItem(number, head)
            for column, place in enumerate(places):
                item = QTableWidgetItem(texts[place])
                item.setToolTip(f"{row.label}: {row.texts[place]}. {row.help}")
                item.setTextAlignment(NUMBERS)
                self.setItem(number, column, item)
        self._fit_columns()

    def _fit_columns(self) -> None:
        """Make all columns as wide as their values, and share the remaining width.

        Only titles may be shortened; their tool tips show them in full.
        """
        if not self._titles:
            return
        header, count = self.horizontalHeader(), len(self._titles)
        least = [self.sizeHintForColumn(column) for column in range(count)]
        spare = max(0, self.viewport().width() - sum(least))
        for column, title in enumerate(self._titles.values()):
            width = least[column] + spare // count
            header.resizeSection(column, width)
            shown = _title_lines(title, header.fontMetrics(), width - _TITLE_MARGIN)
            self.horizontalHeaderItem(column).setText(shown)
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Leave enough room for one column of values."""
        self.verticalHeader().setMaximumWidth(min(_LABELS, 2 * self.width() // 5))
        super().resizeEvent(event)
        self._fit_columns()

    def minimumSizeHint(self) -> QSize:
        """Return the preferred height, so that the table itself never scrolls."""
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())

    def show_volume(self, key: str) -> None:
        """Scroll sideways to the column of a volume."""
        if key in self._titles and self.rowCount():
            self.scrollToItem(self.item(0, list(self._titles).index(key)))

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
    text = str(item.text())
    return (
        text.replace("\N{NO-BREAK SPACE}", " ").replace("-\n", "-").replace("\n", " ")
    )


def _narrowed(label: str, texts: list[str]) -> tuple[str, list[str]]:
    """Return the label and the values of a row, broken into lines for a narrow dock."""
    values = [text.split(" (")[0] for text in texts]
    if max(map(len, values)) > _VALUE_CHARACTERS and "(" not in label:
        unit, texts = split_unit(texts)
        label += f" ({unit})" if unit else ""
    # A remark in brackets does not fit next to its value.
    lines = [
        keep_numbers_whole(text).replace(" (", "\n(").split("\n") for text in texts
    ]
    return textwrap.fill(label, _LABEL_CHARACTERS), [
        "\n".join(_wrapped(line, _CELL_CHARACTERS) for line in each) for each in lines
    ]


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _title_lines(title: str, metrics: QFontMetrics, width: int) -> str:
    """Return a title in two lines if they fit, or in one, shortened in the middle."""
    if metrics.horizontalAdvance(title) <= width:
        return title
    lines = _wrapped(title, max(1, len(title) // 2 + 2)).split("\n")
    if len(lines) == 2 and all(metrics.horizontalAdvance(x) <= width for x in lines):
        return "\n".join(lines)
    return str(metrics.elidedText(title, Qt.TextElideMode.ElideMiddle, width))


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
        self._key = ""
        self.image = ElidedLabel("")
        self.image.setAccessibleName("Compared image")
        self.image.setToolTip("The image that is compared with the base.")
        self.kind = combo("Pores to list", "Kind of pores to list.")
        self.list = list_tree(
            ["Position", "Base", "Image"],
            "Pores that differ",
            "Click on a pore to move the viewer to it.",
            heights=(60, _LIST_HEIGHT),
            numbers=(1, 2),
        )
        self.note = text_label(
            "Remark on the list", "Pores that are not listed, if there are any."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.image)
        column.addWidget(self.kind)
        column.addWidget(self.list)
        column.addWidget(self.note)
        column.addStretch(1)
        self.kind.currentIndexChanged.connect(self._show)
        self.list.currentItemChanged.connect(self._on_item)

    def set_volume(self, report: QualityReport, key: str) -> None:
        """List the pores of a compared volume, by the kinds that occur in it."""
        self._report, self._key = report, key
        self.image.setText(f"Image: {report.titles[key]}")
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
        return None if self._report is None else self._report.pores.get(self._key)

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
        left, note = len(changes) - MAX_LISTED, ""
        if left > 0:
            note = f"The {left} smallest pores are not listed; they are exported."
        elif match is not None and kind is None:
            note = "Neither the base nor this image has any pores."
        self.kind.setEnabled(kind is not None)
        self.note.setText(note)
        self.note.setVisible(bool(note))

    def _on_item(self, item: QTreeWidgetItem | None, _before: object = None) -> None:
        if item is not None:
            position = item.data(0, Qt.ItemDataRole.UserRole)
            self.positionChosen.emit(self._key, tuple(position))


def _size(volume: float) -> str:
    return number_text(volume) if volume else "\N{EN DASH}"
