"""The result of the porosity dock: values, histogram, table, colours, export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.text.flat import counted_elements
from napari_geosr.gui.kit.widgets import ElidedLabel, text_label
from napari_geosr.gui.porosity.charts import (
    ProfileChart,
    ReportTable,
    SampleChart,
    SizeHistogram,
)
from napari_geosr.gui.porosity.linked import PorePlot
from napari_geosr.gui.porosity.pore_colours import (
    EVIDENCE,
    VERDICT_COLOURS,
    colour_columns,
)
from napari_geosr.gui.porosity.pore_table import PoreTable

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtGui import QResizeEvent

    from napari_geosr.operations.measure import PorosityReport
    from napari_geosr.operations.measure.sampled import SampledPorosity


_EVIDENCE = (
    "Find out for each pore whether the scan supports it or whether only the model "
    "produces it. Adds a column to the table and colours the pores by it."
)
_NO_EVIDENCE = (
    "Pores can be explained only in a layer restored by a model, and only if the scan "
    "is open or stored in a file."
)
_EXPORT = "Save the results and the table as CSV, JSON, PNG and HTML."
#: Minimum height of the figures, in pixels.
_MIN_FIGURES_HEIGHT = 60
#: Minimum height of the pore table, in pixels.
_MIN_TABLE_HEIGHT = 90
#: Height, in pixels, below which the figures are not shrunk as long as the table can be
#: shrunk instead.
_FIGURES_HEIGHT = 230


class PorosityResult(QWidget):
    """All results of a measurement.

    Signals
    -------
    labelChosen : int
        The user chose this pore in the table.
    reportChosen : str
        The user chose to show the pores of another report.
    colourChosen : str
        The user chose to colour the pores by this column.
    onlySelectedChanged : bool
        Whether to show only the selected pores instead of all.
    evidenceRequested
        The user requested evidence for the pores of the report that is shown.
    exportRequested
        The user requested the export of the results.
    """

    labelChosen = Signal(int)
    reportChosen = Signal(str)
    colourChosen = Signal(str)
    onlySelectedChanged = Signal(bool)
    evidenceRequested = Signal()
    exportRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._reports: dict[str, PorosityReport] = {}
        self._samples: dict[str, SampledPorosity] = {}
        #: Time point and channel of the first image.
        self.position = ""
        self.figures = ReportTable()
        self.image = ElidedLabel("")
        self.stale_note = text_label(
            "About the result", "Warning if the results are outdated."
        )
        self.stale_note.setVisible(False)
        self.which = QComboBox()
        self.which_label = QLabel("P&ores of")
        self.which_label.setBuddy(self.which)
        #: Shown only for the mean of the samples of a diffusion model.
        self.samples = SampleChart()
        self.histogram = SizeHistogram(height=104)
        self.profile = ProfileChart()
        self.histogram.empty_text = "All pores are smaller than the minimum pore size."
        self.colour = QComboBox()
        self.least = QSpinBox()
        self.least.setRange(0, 10**9)
        self.least.setPrefix("≥ ")
        self.least.setSuffix(" voxels")
        self.least.setSpecialValueText("all sizes")
        self.least.setMinimumWidth(84)
        self.least.setKeyboardTracking(False)
        self.only_selected = QCheckBox("Hide other pores in viewer")
        self.table = PoreTable()
        #: Plot of the pores, shown in a separate tab.
        self.plot = PorePlot()
        self.evidence = QPushButton("Evi&dence")
        self.export = QPushButton("E&xport…")
        self._sharing = QTimer(self)
        self._sharing.setSingleShot(True)
        self._sharing.timeout.connect(self._distribute_height)
        self._describe()
        self._lay_out()
        self.which.currentIndexChanged.connect(self._on_which)
        self.colour.currentTextChanged.connect(
            lambda text: self.colourChosen.emit(text.replace(" ", "_"))
        )
        self.least.valueChanged.connect(
            lambda n: self.table.set_minimum("voxels", float(n))
        )
        self.only_selected.toggled.connect(self.onlySelectedChanged)
        self.table.labelChosen.connect(self.labelChosen)
        self.evidence.clicked.connect(self.evidenceRequested)
        self.export.clicked.connect(self.exportRequested)

    def _describe(self) -> None:
        for widget, name, tip in (
            (self.which, "Pores of", "Image the pores belong to."),
            (
                self.histogram,
                "Histogram of pore sizes",
                "Number of pores in each size range, on a logarithmic axis. Drag over "
                "a range, or click a bar, to select its pores; Shift adds to the "
                "selection, Alt removes from it, Escape clears it.",
            ),
            (
                self.colour,
                "Colour by",
                "Property shown by the colour of a pore, from dark (small) to bright "
                "(large). “label” gives every pore its own colour; “evidence” has "
                f"one colour for each verdict ({VERDICT_COLOURS}; grey: not "
                "explained).",
            ),
            (
                self.least,
                "Minimum size listed",
                "List only pores of at least this size. This does not change the "
                "results.",
            ),
            (
                self.only_selected,
                "Hide other pores in viewer",
                "Show only the selected pores in the viewer.",
            ),
            (self.image, "Measured image", "The image that was measured."),
            (self.evidence, "Evidence", _NO_EVIDENCE),
            (
                self.export,
                "Export",
                _EXPORT,
            ),
            (self.which_label, "Pores of", "Image the pores belong to."),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)
        for combo in (self.which, self.colour):
            combo.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            combo.setMinimumContentsLength(4)
            combo.setMinimumWidth(72)

    def _lay_out(self) -> None:
        which = QHBoxLayout()
        which.addWidget(self.which_label)
        which.addWidget(self.which, 1)
        options = QHBoxLayout()
        label = QLabel("Colour &by")
        label.setBuddy(self.colour)
        label.setToolTip(self.colour.toolTip())
        label.setAccessibleName("Colour by")
        options.addWidget(label)
        options.addWidget(self.colour, 1)
        pair = QHBoxLayout()
        pair.addWidget(self.least, 1)
        pair.addWidget(self.evidence, 1)
        last = QHBoxLayout()
        last.addWidget(self.only_selected, 1)
        last.addWidget(self.export)
        content = QWidget()
        above = QVBoxLayout(content)
        above.setContentsMargins(0, 0, 0, 4)
        above.addWidget(self.image)
        above.addWidget(self.stale_note)
        above.addWidget(self.figures)
        above.addWidget(self.samples)
        above.addWidget(self.histogram)
        above.addWidget(self.profile)
        above.addStretch(1)
        self._above = QScrollArea()
        _describe_area(
            self._above,
            "Results and histogram",
            "Measured values and histogram.",
        )
        # Allow scrolling to values that are wider than expected.
        self._above.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self._above.setWidget(content)
        self._above.setMinimumHeight(_MIN_FIGURES_HEIGHT)
        pores = QWidget()
        below = QVBoxLayout(pores)
        below.setContentsMargins(0, 4, 0, 0)
        below.setSpacing(4)
        below.addLayout(which)
        below.addLayout(options)
        below.addLayout(pair)
        below.addWidget(self.table, 1)
        below.addLayout(last)
        self.table.setMinimumHeight(_MIN_TABLE_HEIGHT)
        self._splitter = QSplitter(Qt.Orientation.Vertical)
        self._splitter.setAccessibleName("Results and table")
        self._splitter.setToolTip(
            "Drag the handle to resize the results and the table."
        )
        self._splitter.setChildrenCollapsible(False)
        self._splitter.addWidget(self._above)
        self._splitter.addWidget(pores)
        self._splitter.setStretchFactor(1, 1)
        self._is_split_by_hand = False
        self._splitter.splitterMoved.connect(self._on_handle)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 0, 6)
        # In a window of small height, scroll everything: squeezed rows would overlap.
        self._page = _Page()
        _describe_area(self._page, "Result", "Measured values and pore table.")
        self._page.setWidget(self._splitter)
        layout.addWidget(self._page)

    def _distribute_height(self) -> None:
        """Give the values the height they need, but leave some rows for the table."""
        room = self._splitter.height()
        rows, pores = self._above.widget().layout(), self._splitter.widget(1)
        preferred = rows.sizeHint().height() + 6
        least = min(_FIGURES_HEIGHT, room - pores.minimumSizeHint().height())
        upper = min(preferred, max(room - pores.sizeHint().height(), least))
        self._splitter.setSizes([upper, room - upper])

    def showEvent(self, event: object) -> None:
        """Divide the height between values and table, now that it is known."""
        super().showEvent(event)
        self._sharing.start()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Divide the height again; a message below may have changed it."""
        super().resizeEvent(event)
        is_other = event.size().height() != event.oldSize().height()
        if is_other and not self._is_split_by_hand:
            self._sharing.start()

    def _on_handle(self, *_: int) -> None:
        self._is_split_by_hand = True

    @property
    def report(self) -> PorosityReport | None:
        """The report whose pores are shown."""
        return self._reports.get(self.which.currentData())

    def set_reports(
        self,
        reports: Mapping[str, PorosityReport],
        position: str = "",
        samples: Mapping[str, SampledPorosity] | None = None,
    ) -> None:
        """Show one report, or two to compare; list the pores of the first one.

        Parameters
        ----------
        reports : mapping of PorosityReport
        position : str
            Time point and channel of the first image.
        samples : mapping of SampledPorosity, optional
            Porosities of the samples of which an image is the mean, by key of its
            report.
        """
        self._reports, self.position = dict(reports), position
        self._samples = dict(samples or {})
        self.figures.set_reports(reports)
        image = next(iter(reports))
        # The name in the report says that an image was generated, unlike the layer's.
        name = reports[image].name
        self.image.setText(f"Image: {name}" + (position and f", {position}"))
        self.image.setToolTip("The image that was measured.")
        with QSignalBlocker(self.which):
            self.which.clear()
            for name in reports:
                self.which.addItem(name, name)
        several = len(reports) > 1
        self.which.setVisible(several)
        self.which_label.setVisible(several)
        self.histogram.set_reports(reports, image)
        self.profile.set_reports(reports)
        self._show_pores()
        if self.isVisible():
            self._sharing.start()

    def set_names(self, names: Mapping[str, str]) -> None:
        """Show the images under other names, by key of the report."""
        self.figures.set_reports({names.get(k, k): r for k, r in self._reports.items()})
        self.histogram.set_names(names)
        self.profile.set_names(names)

    def set_explained(self, name: str, report: PorosityReport) -> None:
        """Show a report with new columns of explanations, and colour by them."""
        self.set_extended(name, report)
        if self.which.currentData() != name:
            return
        before = self.colour.currentText()
        self.colour.setCurrentText(EVIDENCE)
        if before == self.colour.currentText():  # same column with different values
            self.colourChosen.emit(self.colour_column)

    def set_extended(self, name: str, report: PorosityReport) -> None:
        """Show a report with new columns."""
        self._reports[name] = report
        if self.which.currentData() != name:
            return
        minimum, label = self.least.value(), self.table.selected_label()
        self._show_pores()
        self.least.setValue(minimum)
        if label is not None:
            self.table.select_label(label)

    def set_explicable(self, can_explain: bool, *, running: bool = False) -> None:
        """Offer *Evidence* if the pores shown can be explained."""
        self.evidence.setEnabled(can_explain and not running)
        self.evidence.setToolTip(_EVIDENCE if can_explain else _NO_EVIDENCE)

    def set_stale(self, note: str) -> None:
        """Show why the results are outdated; hide the note if they are not."""
        if note == self.stale_note.text():
            return
        for label in (self.stale_note, self.plot.stale_note):
            label.setText(note)
            label.setToolTip(note)
            label.setVisible(bool(note))
        if self.isVisible():
            self._sharing.start()

    def set_exported_to(self, folder: Path | None) -> None:
        """Offer *Export* unless the files are already in `folder`."""
        self.export.setEnabled(folder is None)
        self.export.setToolTip(
            _EXPORT if folder is None else f"The files of this report are in {folder}."
        )

    def _on_which(self) -> None:
        self.histogram.set_listed(self.which.currentData())
        self._show_pores()
        self.reportChosen.emit(self.which.currentData())

    def _show_pores(self) -> None:
        report = self.report
        if report is None:
            return
        self.samples.set_samples(self._samples.get(self.which.currentData()))
        with QSignalBlocker(self.least):
            self.least.setValue(0)
        self.least.setSuffix(f" {counted_elements(0, flat=report.is_flat)}")
        self.table.set_table(report.table, report.units, first=(EVIDENCE,))
        self.plot.set_report(report)
        columns = colour_columns(report)
        with QSignalBlocker(self.colour):
            before = self.colour.currentText()
            self.colour.clear()
            self.colour.addItems([name.replace("_", " ") for name in columns])
            if self.colour.findText(before) >= 0:
                self.colour.setCurrentText(before)
        self.colour.setEnabled(len(columns) > 1)

    @property
    def colour_column(self) -> str:
        """Column of the table by which pores are coloured."""
        return str(self.colour.currentText()).replace(" ", "_")


class _Page(QScrollArea):
    """Scrolls only vertically; at least as wide as its content and the scroll bar."""

    def minimumSizeHint(self) -> QSize:
        """Return the width of the whole content."""
        hint = super().minimumSizeHint()
        bar = self.verticalScrollBar().sizeHint().width()
        hint.setWidth(self.widget().minimumSizeHint().width() + bar)
        return hint


def _describe_area(area: QScrollArea, name: str, tip: str) -> None:
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setAccessibleName(name)
    area.setToolTip(tip)
