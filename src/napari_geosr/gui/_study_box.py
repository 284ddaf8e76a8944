"""Study projections: how few of them still give the right pores, and by what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path
from qtpy.QtCore import QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import StageStarted, Step, Warned
from napari_geosr.gui._elided import ElidedLabel
from napari_geosr.gui._form import ConfigForm
from napari_geosr.gui._labelled import button, small_button, text_label
from napari_geosr.gui._projection_layers import OpenedScan
from napari_geosr.gui._reconstruct_steps import study_steps
from napari_geosr.gui._section import Section
from napari_geosr.gui._worker import Run
from napari_geosr.operations.reconstruct_config import ReconstructConfig
from napari_geosr.operations.study_config import StudyConfig

if TYPE_CHECKING:
    from napari_geosr.operations.study import Studied

#: What is asked first; energy and CO2eq stand by themselves, all else under *More*.
_ABOVE = ("counts", "algorithms", "acquisition", "steps")
_FACTORS = (
    "scan_hours",
    "synchrotron_kilowatts",
    "laboratory_kilowatts",
    "computer_kilowatts",
    "kilograms_per_kilowatt_hour",
)
#: As they are in the dock.
_FROM_DOCK = ("centre", "filter", "stripes", "device", "threads", "memory")
_ABOUT = (
    "Reconstructs from fewer projections, by several algorithms, and compares "
    "porosity, pores and image with what all projections give."
)


class StudyBox(QWidget):
    """Settings of a study, its progress, and its report.

    A study runs in a worker: it ends with the window, but what is finished is kept in
    its folder, and the next start goes on from there.

    Signals
    -------
    wanted
        *Start* was pressed: the dock calls :meth:`start` with what it has.
    failed : object
        An error.
    said : str, str
        A sentence for the person, and its kind.
    """

    wanted = Signal()
    failed = Signal(object)
    said = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._run: Run | None = None
        self._has_scan = False
        self.report: Path | None = None
        self.folder = user_data_path("napari-geosr", appauthor=False) / "studies"
        self.above = ConfigForm(StudyConfig, skip=_all_but(_ABOVE))
        self.above.set_values(_as_text(StudyConfig().model_dump()))
        self.factors = ConfigForm(StudyConfig, skip=_all_but(_FACTORS))
        self.more = ConfigForm(StudyConfig, skip=(*_ABOVE, *_FACTORS, *_FROM_DOCK))
        self.folder_label = ElidedLabel(str(self.folder))
        self.folder_label.setAccessibleName("Folder for studies")
        self.folder_button = small_button(
            "Folder…",
            "Choose the folder for studies",
            "Choose where the folders of studies are made",
            "Alt+Shift+F",
        )
        self.start_button = button("Start study", f"{_ABOUT} (Alt+Shift+S)")
        self.start_button.setShortcut("Alt+Shift+S")
        self.stop_button = button(
            "Stop study",
            "Stop; what is finished is kept, and gone on with (Alt+Shift+T).",
        )
        self.stop_button.setShortcut("Alt+Shift+T")
        self.report_button = button(
            "Loo&k at report", "Show tables, curves and savings in the web browser."
        )
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress of the study")
        self.progress.setToolTip("Reconstructions that are judged, of all.")
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(10)
        self.stage = text_label("What the study does", "What the study does now.")
        self._lay_out()
        self.folder_button.clicked.connect(self._on_folder)
        self.start_button.clicked.connect(self.wanted)
        self.stop_button.clicked.connect(self.stop)
        self.report_button.clicked.connect(self._on_report)
        self._show()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(text_label("About studies", _ABOUT, _ABOUT))
        column.addWidget(self.above)
        for title, form, tip in (
            (
                "Energy &budget and CO₂eq",
                self.factors,
                "Published factors; set your own.",
            ),
            (
                "Ot&her settings of the study",
                self.more,
                "Threshold, sample, trainings, seed.",
            ),
        ):
            column.addWidget(Section(title, form, tool_tip=tip))
        place = QHBoxLayout()
        place.addWidget(self.folder_label, 1)
        place.addWidget(self.folder_button)
        column.addLayout(place)
        buttons = QHBoxLayout()
        for each in (self.start_button, self.stop_button, self.report_button):
            buttons.addWidget(each, 1)
        column.addLayout(buttons)
        column.addWidget(self.progress)
        column.addWidget(self.stage)

    @property
    def is_running(self) -> bool:
        """Whether a study runs."""
        return self._run is not None

    def set_scan(self, opened: OpenedScan | None) -> None:
        """Another scan was chosen; what runs goes on with its own."""
        self._has_scan = opened is not None
        self.report = None
        self._show()

    def config(self, dock: ReconstructConfig) -> StudyConfig:
        """Return the settings of the study, some of them as in the dock.

        Raises
        ------
        ConfigError
            If one of them is wrong.
        """
        values = self.above.values() | self.factors.values() | self.more.values()
        shared = {name: getattr(dock, name) for name in _FROM_DOCK}
        given = {name: value for name, value in shared.items() if value is not None}
        return StudyConfig.create(**(values | given))

    def start(self, opened: OpenedScan, dock: ReconstructConfig) -> None:
        """Begin, or go on with, the study of a scan."""
        if self._run is not None:
            return
        try:
            config = self.config(dock)
        except ConfigError as error:
            self.failed.emit(error)
            return
        out = self.folder / opened.scan.name
        self._run = Run(
            lambda stop: study_steps(opened.scan, out, config, stop),
            owner=self,
            on_step=self._on_step,
            on_result=self._on_studied,
            on_error=self._on_error,
            on_finished=self._on_finished,
            description=f"Studying {opened.scan.name}",
        )
        self.stage.setText("Starting…")
        self._show()

    def stop(self) -> None:
        """Stop at the next block; finished reconstructions are kept."""
        if self._run is not None:
            self.stage.setText("Stopping…")
            self._run.cancel()

    def _on_step(self, step: Step) -> None:
        if isinstance(step, StageStarted):
            self.stage.setText(f"{step.message}…")
        elif isinstance(step, Warned):
            self.said.emit(step.message, "warning")
        elif type(step).__name__ == "CellDone":
            self.progress.setRange(0, step.total)
            self.progress.setValue(step.done)

    def _on_studied(self, done: Studied) -> None:
        self.report = done.files["html"]
        found = [
            f"{name} {count}"
            for name, count in done.fewest.items()
            if count is not None
        ]
        words = ", ".join(found) if found else "none of these numbers"
        self.stage.setText(f"Fewest projections with the right porosity: {words}.")
        self.said.emit(f"The study is done: {self.report}", "ok")

    def _on_error(self, error: Exception) -> None:
        self.stage.setText("")
        if isinstance(error, Cancelled):
            self.said.emit(
                "Stopped. The next start goes on from what is finished.", "info"
            )
        else:
            self.failed.emit(error)

    def _on_finished(self) -> None:
        self._run = None
        self._show()

    def _show(self) -> None:
        running = self._run is not None
        self.start_button.setEnabled(self._has_scan and not running)
        self.stop_button.setVisible(running)
        self.progress.setVisible(running)
        if running:
            self.progress.setRange(0, 0)
        self.report_button.setVisible(self.report is not None and not running)
        for widget in (self.above, self.factors, self.more, self.folder_button):
            widget.setEnabled(not running)

    def _on_folder(self) -> None:
        text = QFileDialog.getExistingDirectory(
            self, "Folder for studies", str(self.folder)
        )
        if text:
            self.set_folder(Path(text))

    def set_folder(self, path: Path) -> None:
        """Make the folders of studies in `path` from now on."""
        self.folder = path
        self.folder_label.setText(str(path))
        self.folder_label.setToolTip(str(path))

    def _on_report(self) -> None:
        if self.report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report)))


def _all_but(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in StudyConfig.model_fields if name not in names)


def _as_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as a person types them."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
