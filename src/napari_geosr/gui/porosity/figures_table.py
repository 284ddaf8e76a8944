"""Values of one measurement, or of two side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from napari_geosr.gui.kit.widgets import ElidedLabel
from napari_geosr.operations.measure import figure_rows, reference_first

if TYPE_CHECKING:
    from napari_geosr.operations.measure import PorosityReport

#: A number or a range, its unit, and what follows in parentheses, such as a band.
_VALUE = re.compile(
    r"(?P<number>\W?\d[^ ]*(?: to [^ ]+)?) (?P<unit>[^\d(]+?)(?P<rest> \(.*)?"
)


class FiguresTable(QWidget):
    """Values of one report, or of two side by side with their difference."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 6, 0)  # leave a gap to the scroll bar
        self._grid.setVerticalSpacing(1)
        self._grid.setHorizontalSpacing(8)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.setAccessibleName("Results")
        self.setToolTip("Results of the measurement. Select cells to copy them.")

    def set_reports(self, reports: Mapping[str, PorosityReport]) -> None:
        """Show one column per report, with the reference first."""
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.deleteLater()
        several = len(reports) > 1
        if several:
            reports = reference_first(reports)
            self._add(
                0,
                0,
                "value,\nchange",
                f"Second line: the change relative to {next(iter(reports))}.",
            )
            for column, name in enumerate(reports, start=1):
                self._add(0, column, name, name, elide=True, bold=True)
        for i, row in enumerate(figure_rows(reports), start=1):
            help_text = row.help or row.label
            help_text = help_text[0].upper() + help_text[1:]
            title = row.label.split(" (")[0]
            # A remark in parentheses does not fit next to its value.
            shown = [text.replace(" (", "\n(") for text in row.texts]
            if several:
                title, shown = _unit_to_label(_shortened_label(row.label), row.texts)
                # Two ranges do not fit next to each other in a narrow dock.
                shown = [
                    text.replace(" (", "\n(").replace(" to ", " to\n") for text in shown
                ]
                shown = [
                    f"{text}\n{change}" if change else text
                    for text, change in zip(shown, row.differences, strict=True)
                ]
            self._add(i, 0, title, help_text, wrap=True)
            for column, text in enumerate(shown, start=1):
                self._add(i, column, text, help_text, bold=row.label == "Porosity")
        # With one report, the labels take the remaining width; with two, all columns
        # share it.
        for column in range(3):
            self._grid.setColumnStretch(column, int(several or not column))

    def _add(
        self,
        row: int,
        column: int,
        text: str,
        help_text: str,
        *,
        elide: bool = False,
        wrap: bool = False,
        bold: bool = False,
    ) -> None:
        label = ElidedLabel(text) if elide else QLabel(text)
        label.setToolTip(help_text)
        label.setAccessibleName(text or "no value")
        label.setIndent(0)
        label.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        if column:
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
        if not elide:
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        if bold:
            font = label.font()
            font.setBold(True)
            label.setFont(font)
        self._grid.addWidget(label, row, column)
        if wrap:
            label.setWordWrap(True)
            label.ensurePolished()  # use the font of the window
            widths = map(label.fontMetrics().horizontalAdvance, text.split())
            label.setMinimumWidth(max(widths, default=0) + 4)


def _unit_to_label(label: str, texts: list[str]) -> tuple[str, list[str]]:
    """Move a unit shared by all values into the label, to save space."""
    found = [_VALUE.fullmatch(text) for text in texts]
    units = {
        None if one is None else one["unit"]
        for one, text in zip(found, texts, strict=True)
        if text != "–"
    }
    unit = units.pop() if len(units) == 1 else None
    if unit is None:
        return label, texts
    between = "\n" if len(label) > 9 else " "
    return f"{label}{between}({unit})", [
        text if one is None else one["number"] + (one["rest"] or "")
        for one, text in zip(found, texts, strict=True)
    ]


def _shortened_label(label: str) -> str:
    """Shorten a label for a narrow dock."""
    label = label.split(" (")[0].replace(" pore ", " ").replace(" per ", "/")
    label = label.replace("equivalent ", "").replace("surface area", "surface")
    return label.removesuffix(" porosity")
