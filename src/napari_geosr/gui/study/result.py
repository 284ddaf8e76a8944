"""What a study has found up to now: curves and a table."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.types import AnyMapping
from napari_geosr.gui.kit.widgets import add_row, combo, form_layout
from napari_geosr.gui.study.plot import METRICS, StudyPlot
from napari_geosr.operations.study.subset import ScanSubset

_COLUMNS = (
    ("Views", "Number of projections, and their exposure where it is shorter."),
    ("Algorithm", "Algorithm."),
    ("Porosity", "Share of pores in the sample."),
    ("Error", "Relative to the reference."),
    ("PSNR", "Of the contrast between solid and pores, in dB."),
)


class StudyResult(QWidget):
    """Curves of one figure, which a person chooses, above a table of the main ones."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[AnyMapping] = []
        self._tolerance = 0.0
        self._over_exposure = False
        self.which = combo("Curves", "The figure that is drawn.")
        for name, metric in METRICS.items():
            self.which.addItem(metric.title, name)
        self.plot = StudyPlot()
        self.table = QTreeWidget()
        self.table.setHeaderLabels([title for title, _ in _COLUMNS])
        for column, (_, tip) in enumerate(_COLUMNS):
            self.table.headerItem().setToolTip(column, tip)
        self.table.setRootIsDecorated(False)
        self.table.setUniformRowHeights(True)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.setAccessibleName("Table of the study")
        self.table.setToolTip("All figures are in the report, and in study.csv.")
        header = self.table.header()
        header.setStretchLastSection(False)
        for column in range(len(_COLUMNS)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.setMinimumHeight(110)
        self.table.setMaximumHeight(190)
        choice = form_layout()
        add_row(choice, "Curves", self.which)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(choice)
        column.addWidget(self.plot)
        column.addWidget(self.table)
        self.which.currentIndexChanged.connect(self._draw)

    def set_rows(
        self,
        rows: Sequence[AnyMapping],
        tolerance: float,
        over_exposure: bool = False,
    ) -> None:
        """Show rows of a study, by number of projections.

        Parameters
        ----------
        tolerance : float
            Relative error of the porosity that is called right.
        over_exposure : bool
            Draw over the exposure: one number of projections is tried.
        """
        given = list(rows), tolerance, over_exposure
        if given == (self._rows, self._tolerance, self._over_exposure):
            return  # what is selected stays so
        self._rows, self._tolerance, self._over_exposure = given
        self.table.clear()
        for row in self._rows:
            item = QTreeWidgetItem(_texts(row))
            for column in (0, 2, 3, 4):
                item.setTextAlignment(column, Qt.AlignmentFlag.AlignRight)
            if "failed" in row:
                item.setToolTip(1, str(row["failed"]))
            self.table.addTopLevelItem(item)
        self._draw()

    def _draw(self, _index: int = 0) -> None:
        name = str(self.which.currentData())
        tolerance = 100 * self._tolerance if name == "porosity_error" else None
        self.plot.set_rows(self._rows, name, tolerance, self._over_exposure)


def _texts(row: AnyMapping) -> list[str]:
    """The cells of a row; a dash where nothing is known."""
    start = [ScanSubset.of(row).short, str(row["title"])]
    if "failed" in row:
        return [*start, "failed", "", ""]
    return [
        *start,
        _number(row.get("porosity"), "{:.1%}"),
        _number(row.get("porosity_error"), "{:+.1%}"),
        _number(row.get("psnr"), "{:.1f}"),
    ]


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"
