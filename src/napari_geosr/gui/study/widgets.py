"""The widgets of a study and their layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.gui.kit.action_bar import progress_bar
from napari_geosr.gui.kit.form import ConfigForm, FieldFaults
from napari_geosr.gui.kit.lists import NUMBERS, ColumnHider, list_tree
from napari_geosr.gui.kit.widgets import (
    FolderRow,
    Section,
    add_row,
    button,
    combo,
    fit_entries,
    form_layout,
    text_label,
)
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.study.plot import METRICS, StudyPlot
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.subset import ScanSubset

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

#: Settings shown first; energy and CO2eq have their own group, and all others are in
#: *Other*.
_ABOVE = ("counts", "exposure", "algorithms", "acquisition", "steps")
_FACTORS = (
    "scan_hours",
    "synchrotron_kilowatts",
    "laboratory_kilowatts",
    "computer_kilowatts",
    "kilograms_per_kilowatt_hour",
)
_ABOUT = (
    "Reconstruct from fewer projections or shorter exposures with several algorithms, "
    "and compare porosity, pores and images with the full scan or a reference. The "
    "study runs in the background and continues after napari is closed."
)
_COLUMNS = (
    ("Projections", "Number of projections, and their exposure if it is shortened."),
    ("Algorithm", "Reconstruction algorithm."),
    ("Porosity", "Porosity of the sample."),
    ("Error", "Porosity error, relative to the reference."),
    (
        "PSNR",
        "Peak signal-to-noise ratio in dB, relative to the contrast between "
        "solid and pores.",
    ),
)
#: Columns that contain only numbers.
_NUMBERS = (0, 2, 3, 4)
#: Columns that a narrow dock has no room for, the least important first.
_OMITTED = (4, 2)
#: Limits of the height of the table, in pixels. The dock scrolls, so the table is as
#: tall as its rows: a table that also scrolled would catch the mouse wheel.
_HEIGHTS = (60, 10_000)


class StudyWidgets(QWidget):
    """The widgets of a study.

    Parameters
    ----------
    accept : callable
        Returns whether a layer can be a reference or a mask.
    skip : sequence of str
        Settings that the dock shows elsewhere.

    Attributes
    ----------
    actions : tuple of QPushButton
        Buttons for the action bar of the dock.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        accept: Callable[[Layer], bool],
        skip: tuple[str, ...],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._make_settings(viewer, accept, skip)
        self._make_actions()
        self._lay_out()

    def _make_settings(
        self,
        viewer: napari.viewer.Viewer,
        accept: Callable[[Layer], bool],
        skip: tuple[str, ...],
    ) -> None:
        self.above = ConfigForm(StudyConfig, skip=_all_but(_ABOVE))
        self.above.set_values(as_text(StudyConfig().model_dump()))
        self.factors = ConfigForm(StudyConfig, skip=_all_but(_FACTORS))
        self.more = ConfigForm(StudyConfig, skip=(*_ABOVE, *_FACTORS, *skip))
        self.reference = LayerCombo(viewer, accept, fixed=("all projections",))
        self.reference.setAccessibleName("Study reference")
        self.reference.setToolTip(
            "Reference for the results: the reconstruction from all projections, or a "
            "ground-truth layer with the same slices."
        )
        self.mask = LayerCombo(viewer, accept, fixed=("none",))
        self.mask.setAccessibleName("Study mask")
        self.mask.setToolTip(
            "Sample mask (a layer that is non-zero inside the sample); pores are "
            "counted inside it. Without a mask, the setting Sample under Other study "
            "settings is used."
        )

    def _make_actions(self) -> None:
        self.folder = FolderRow("studies", shortcut="Alt+Shift+F")
        self.start_button = button(
            "Start study",
            "Start the study (Alt+Shift+S). Earlier results are kept if you only add "
            "algorithms or numbers of projections.",
        )
        self.start_button.setShortcut("Alt+Shift+S")
        self.pause_button = button(
            "Pause", "Stop and keep the finished results (Alt+Shift+T)."
        )
        self.pause_button.setShortcut("Alt+Shift+T")
        self.pause_button.setAccessibleName("Pause the study")
        self.resume_button = button(
            "Resume", "Resume the study with the same settings (Alt+Shift+G)."
        )
        self.resume_button.setShortcut("Alt+Shift+G")
        self.resume_button.setAccessibleName("Resume the study")
        self.jobs_button = button("Jobs…", "Open the list of all jobs (Alt+Shift+L).")
        self.jobs_button.setShortcut("Alt+Shift+L")
        self.report_button = button(
            "Open report",
            "Open tables, curves, and the savings in time, data and energy "
            "in the web browser (Alt+Shift+M).",
        )
        self.report_button.setShortcut("Alt+Shift+M")
        self.open_report = QCheckBox("Open the report at the end")
        self.open_report.setShortcut("Alt+Shift+R")
        self.open_report.setChecked(True)
        self.open_report.setAccessibleName("Open the report at the end")
        self.open_report.setToolTip(
            "Show the report in the web browser as soon as it is ready (Alt+Shift+R)."
        )
        self.progress = progress_bar(
            "Study progress", "Number of reconstructions compared so far."
        )
        self.stage = text_label("Study status", "Current stage of the study.")
        self.result = StudyResult()

    def clear_faults(self) -> None:
        """Remove the messages below fields."""
        for form in (self.above, self.factors, self.more):
            form.clear_faults()
        self.layer_faults.clear()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(text_label("About studies", _ABOUT, _ABOUT))
        column.addWidget(self.above)
        layers = form_layout()
        self.layer_faults = FieldFaults(layers)
        for menu in (self.reference, self.mask):
            menu.layerChanged.connect(self.layer_faults.clear)
        add_row(layers, "Reference", self.reference)
        add_row(layers, "Mask", self.mask)
        column.addLayout(layers)
        self.sections: list[Section] = []
        for title, form, tip, keys in (
            (
                "Energy &budget and CO₂eq",
                self.factors,
                "Published values, which you can replace with your own.",
                "",
            ),
            (
                "Other study settings",
                self.more,
                "Threshold, sample, training and seed.",
                "Alt+Shift+H",
            ),
        ):
            section = Section(title, form, tool_tip=tip, shortcut=keys)
            self.sections.append(section)
            column.addWidget(section)
        place = form_layout()
        add_row(place, "Folder", self.folder, self.folder.button)
        column.addLayout(place)
        column.addWidget(self.open_report)
        self.actions = self.start_button, self.pause_button, self.resume_button
        views = QHBoxLayout()
        for view in (self.jobs_button, self.report_button):
            views.addWidget(view, 1)
        column.addLayout(views)
        for widget in (self.progress, self.stage, self.result):
            column.addWidget(widget)


def _all_but(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in StudyConfig.model_fields if name not in names)


def as_text(values: AnyMapping) -> AnyDict:
    """Format lists as the user types them."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in values.items()
    }


class StudyResult(QWidget):
    """Curves of a selectable metric above a table of the main values."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[AnyMapping] = []
        self._tolerance = 0.0
        self._over_exposure = False
        self.metric_combo = combo("Curves", "Quantity shown in the plot.")
        for name, metric in METRICS.items():
            self.metric_combo.addItem(metric.title, name)
        fit_entries(self.metric_combo)
        self.plot = StudyPlot()
        self.table = list_tree(
            [title for title, _ in _COLUMNS],
            "Study table",
            "All results are in the report and in study.csv.",
            heights=_HEIGHTS,
            numbers=_NUMBERS,
            widest=1,
        )
        for column, (_, tip) in enumerate(_COLUMNS):
            self.table.headerItem().setToolTip(column, tip)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self._hider = ColumnHider(self.table, _OMITTED, names=1)
        choice = form_layout()
        add_row(choice, "Curves", self.metric_combo)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(choice)
        column.addWidget(self.plot)
        column.addWidget(self.table)
        self.metric_combo.currentIndexChanged.connect(self._draw)

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
            Maximum relative error at which the porosity counts as correct.
        over_exposure : bool
            Whether to plot values against the exposure instead of the projection count.
        """
        values = list(rows), tolerance, over_exposure
        if values == (self._rows, self._tolerance, self._over_exposure):
            return  # keep the selection
        self._rows, self._tolerance, self._over_exposure = values
        self.table.clear()
        for row in self._rows:
            item = QTreeWidgetItem(_texts(row))
            for column in _NUMBERS:
                item.setTextAlignment(column, NUMBERS)
            if "failed" in row:
                item.setToolTip(1, str(row["failed"]))
            self.table.addTopLevelItem(item)
        self._hider.fit()
        self._draw()

    def _draw(self, _index: int = 0) -> None:
        name = str(self.metric_combo.currentData())
        tolerance = 100 * self._tolerance if name == "porosity_error" else None
        self.plot.set_rows(self._rows, name, tolerance, self._over_exposure)


def _texts(row: AnyMapping) -> list[str]:
    """Return the cells of a row; a dash for unknown values."""
    start = [ScanSubset.of(row).short, str(row["title"])]
    if "failed" in row:
        return [*start, "failed", "", ""]
    return [
        *start,
        _percentage(row.get("porosity"), "{:.1f} %"),
        _percentage(row.get("porosity_error"), "{:+.1f} %"),
        _number(row.get("psnr"), "{:.1f}"),
    ]


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"


def _percentage(value: object, form: str) -> str:
    if isinstance(value, int | float):
        value = 100 * value
        if abs(value) >= 100:  # the columns are narrow
            form = form.replace(".1f", ".0f")
    text = _number(value, form)
    return text.replace("-", "\N{MINUS SIGN}")
