"""Denoising with Noise2Inverse: start a job, follow it and open its result."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from platformdirs import user_data_path
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLineEdit, QSpinBox, QVBoxLayout, QWidget

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.latest import latest_job_steps
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.gui.kit.form import AUTOMATIC, FieldFaults, texts_by_field
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.widgets import add_row, button, form_layout, text_label
from napari_geosr.gui.layers import METADATA, add_image_result, layer_metadata
from napari_geosr.gui.layers.camera import fit_camera, is_in_view
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.jobs import local
from napari_geosr.jobs.data import new_folder, removed_on_failure
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.index import STATE_WORDS
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.preview import contrast
from napari_geosr.operations.train.from_projections import ProjectionsTrainJob
from napari_geosr.operations.train.scans import RECONSTRUCTION_FIELDS, ScansConfig

if TYPE_CHECKING:
    import napari.viewer

#: Milliseconds between status checks of the job.
_PAUSE = 1000
#: Value of the spin box for which the number of parts is chosen automatically.
_AUTO = 1
_ABOUT = (
    "Train a network on the noisy projections alone: the scan is split, each part is "
    "reconstructed, and the network learns to predict one from the others. Training "
    "runs in the background and continues after napari is closed."
)
METHOD = "noise2inverse"
#: File name of the denoised volume in the folder of its job.
DENOISED = "denoised.ome.tif"
_ANGLES = "angles.txt"
#: Fields of `ScansConfig`, and the corresponding fields of `ProjectionsInput`.
_READING = {
    "angles": "angles",
    "angle_range": "angle_range",
    "pixel_size": "pixel_size",
    "pixel_unit": "unit",
    "scan_dataset": "dataset",
    "flats": "flats",
    "darks": "darks",
    "line_integrals": "line_integrals",
    "geometry": "geometry",
    "source_distance": "source_distance",
    "detector_distance": "detector_distance",
}


class DenoiseBox(QWidget):
    """Settings, state and result of a denoising job.

    Signals
    -------
    startRequested
        *Start* was pressed: the dock calls `start` with its scan and settings.
    failed : object
        The error that an action caused.
    reported : str
        A message for the user.
    """

    startRequested = Signal()
    failed = Signal(object)
    reported = Signal(str)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.activity = Activity(self)
        self.folder = user_data_path("napari-geosr", appauthor=False) / "jobs"
        self.job: Path | None = None
        self.name = QLineEdit("denoised")
        self.name.setAccessibleName("Model name")
        self.name.setToolTip("Model name: lower-case letters, digits, - and _.")
        about = "Number of projection subsets; automatic: two to four."
        self.parts = _spin("Parts", about, _AUTO)
        self.parts.setMaximum(64)
        self.parts.setSpecialValueText(AUTOMATIC)
        self.steps = _spin(
            "Training steps",
            "More steps take longer and usually give a better model.",
            1,
        )
        self.steps.setValue(3000)
        self.start_button = button("Star&t denoising", _ABOUT)
        self.jobs_button = button("Jobs…", "Open the list of all jobs.", "Alt+Shift+J")
        self.jobs_button.setAccessibleName("Jobs")
        self.state = text_label("Denoising status", "Current status of the job.")
        self.open_button = button(
            "Open denoised volume",
            "Add the denoised volume as a layer.",
            "Alt+Shift+V",
        )
        self.about = text_label("About Noise2Inverse", _ABOUT, _ABOUT)
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._update_state)
        self.start_button.clicked.connect(self.startRequested)
        self.jobs_button.clicked.connect(self._on_jobs)
        self.open_button.clicked.connect(self._on_open)
        self.activity.busyChanged.connect(self._show_busy)
        self.activity.failed.connect(self._on_failed)
        self.name.textEdited.connect(lambda _: self.faults.clear())
        self._show_job(None)

    def _lay_out(self) -> None:
        form = form_layout()
        self.faults = FieldFaults(form)
        add_row(form, "Model name", self.name)
        add_row(form, "Parts", self.parts)
        add_row(form, "Steps", self.steps)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start_button, 1)
        buttons.addWidget(self.jobs_button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.about)
        column.addLayout(form)
        column.addLayout(buttons)
        column.addWidget(self.state)
        column.addWidget(self.open_button)

    def set_scan(self, opened: OpenedScan | None) -> None:
        """Show the newest job that denoises this scan."""
        self._show_job(None)
        self.start_button.setEnabled(opened is not None)
        path = None if opened is None else opened.path
        if path is not None and not self.activity.busy:
            self.activity.start(
                "find", lambda _stop: find_job_steps(path), self._on_found
            )

    def start(
        self,
        opened: OpenedScan,
        config: ReconstructConfig,
        column: float | None,
    ) -> None:
        """Create the job, start it, and show it in the Jobs dock."""
        if self.activity.busy:
            return
        training: AnyDict = {
            "name": self.name.text().strip(),
            "steps": self.steps.value(),
            "device": config.device,
            "threads": config.threads,
        }
        self.faults.clear()
        parts, folder = self.parts.value(), self.folder
        splits: int | str = "auto" if parts == _AUTO else parts
        self.activity.start(
            "start",
            lambda stop: denoise_steps(
                opened, config, column, training, splits, folder, stop
            ),
            self._on_started,
        )

    def _on_failed(self, error: Exception) -> None:
        """Show errors about the name below its field, and other errors in the dock."""
        if text := texts_by_field(error).get("name"):
            self.faults.add("name", self.name, text)
        else:
            self.failed.emit(error)

    def _show_busy(self, what: str) -> None:
        self.start_button.setEnabled(not what)

    def _on_found(self, status: JobStatus | None) -> None:
        if status is not None and self.job is None:
            self._show_job(status.path)

    def _on_started(self, job: Path) -> None:
        self._show_job(job)
        self._on_jobs()
        self.reported.emit(
            "Denoising continues after napari is closed. You will find it under Jobs."
        )

    def _on_jobs(self) -> None:
        job = self.job
        show = None if job is None else lambda jobs: jobs.show_job(job)
        open_dock(self._viewer, JOBS, show)

    # The job

    def _show_job(self, job: Path | None) -> None:
        self.job = job
        self.state.setText("")
        self.state.setVisible(job is not None)
        self.open_button.setVisible(False)
        if job is None:
            self._timer.stop()
        else:
            self._timer.start()
            self._update_state()

    def _update_state(self) -> None:
        if self.job is None:
            return
        try:
            status = JobFolder(self.job).status()
            done = status.state == "done" and denoised_file(self.job).exists()
        except GeoSRError:
            self._show_job(None)  # deleted in the meantime
            return
        words = STATE_WORDS.get(status.state, status.state)
        steps = f", step {status.done} of {status.total}" if status.total else ""
        message = f" {status.message}" if status.message else ""
        self.state.setText(f"{status.name}: {words}{steps}.{message}")
        self.open_button.setVisible(done)
        if not status.is_alive:
            self._timer.setInterval(4 * _PAUSE)  # the job may be resumed in Jobs

    def _on_open(self) -> None:
        if self.job is None or self.activity.busy:
            return
        try:
            path = denoised_file(self.job)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.activity.start("open", lambda _stop: read_steps(path), self._on_opened)

    def _on_opened(self, opened: tuple[Any, tuple[float, float]]) -> None:
        volume, limits = opened
        layer = add_image_result(
            self._viewer,
            volume,
            like=None,
            contrast_limits=limits,
            metadata={
                METADATA: layer_metadata(volume)[METADATA]
                | {"info": dict(volume.metadata)}
            },
        )
        self._viewer.layers.selection.active = layer
        if not is_in_view(self._viewer, layer):
            fit_camera(self._viewer, layer)
        self.reported.emit(f"{layer.name} was opened.")


def _spin(name: str, tool_tip: str, low: int) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, 10**7)
    box.setAccessibleName(name)
    box.setToolTip(tool_tip)
    for inner in box.findChildren(QLineEdit):
        inner.setAccessibleName(name)
        inner.setToolTip(tool_tip)
    return box


def scans_config(
    opened: OpenedScan,
    config: ReconstructConfig,
    column: float | None,
    folder: Path,
    **more: Any,
) -> ScansConfig:
    """Derive the settings of a job's scans from those of the dock and the file.

    Parameters
    ----------
    column : float, optional
        Detector column of the rotation axis, if known.
    folder : Path
        Folder of the job; angles that settings cannot describe are written there.
    """
    path = opened.path_for_job()
    reading = {k: opened.reading.get(v) for k, v in _READING.items()}
    if {"endpoint", "angle_unit"} & set(opened.reading):
        np.savetxt(folder / _ANGLES, opened.scan.angles)
        reading |= {"angles": str(folder / _ANGLES), "angle_range": None}
    settings = {name: getattr(config, name) for name in RECONSTRUCTION_FIELDS}
    known = config.centre if config.centre != "auto" else column
    return ScansConfig.create(
        projections=path,
        centre="auto" if known is None else known,
        filter=config.filter or "ramp",
        padding=config.options.get("padding", "zero"),
        **settings,
        **{name: value for name, value in reading.items() if value is not None},
        **more,
    )


def denoise_steps(
    opened: OpenedScan,
    config: ReconstructConfig,
    column: float | None,
    training: AnyMapping,
    splits: int | str,
    parent: Path,
    should_stop: ShouldStop,
) -> Generator[Step, None, Path]:
    """Create the job in a new folder in `parent` and start its process.

    Parameters
    ----------
    opened : OpenedScan
    config : ReconstructConfig
    column : float or None
        Detector column of the rotation axis, if known.
    training : mapping
        Training settings.
    splits : int or str
        Number of subsets of the projections, or ``"auto"``.
    parent : Path
        Parent of the job's folder.
    should_stop : callable

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    GeoSRError
        If the job cannot be created or started; the folder is then removed.
    """
    yield StageStarted(message="Inspecting the projections")
    name = str(training["name"])
    with removed_on_failure(new_folder(parent, name)) as folder:
        scans = scans_config(
            opened, config, column, folder, splits=splits, restore=folder / DENOISED
        )
        job = ProjectionsTrainJob.create_for(METHOD, scans, training)
        job.check()
        job_folder = JobFolder.create(
            folder, job.to_values(), name=name, allow_existing=True
        )
        local.start(job_folder)
    return folder


def find_job_steps(path: Path) -> Generator[Step, None, JobStatus | None]:
    """Find the newest job that denoises the scan of a file; see `latest_job_steps`."""
    return latest_job_steps(path, lambda job: job.method == METHOD, _scan_denoised)


def _scan_denoised(settings: AnyDict) -> Any:
    scans = settings.get("scans")
    if not isinstance(scans, dict) or not scans.get("restore"):
        return None
    return str(Path(str(scans.get("projections"))))


def denoised_file(job: Path) -> Path:
    """Return the file of a job's denoised volume.

    Raises
    ------
    GeoSRError
        If the folder cannot be read.
    """
    return Path(str(JobFolder(job).values()["scans"]["restore"]))


def read_steps(path: Path) -> Generator[Step, None, tuple[Volume, tuple[float, float]]]:
    """Open a denoised volume; return it with its contrast limits."""
    yield StageStarted(message=f"Opening {path.name}")
    volume = io.read(path)
    middle = volume.shape[0] // 2
    plane = np.asarray(volume.data[middle : middle + 1])
    return volume, contrast(plane)
