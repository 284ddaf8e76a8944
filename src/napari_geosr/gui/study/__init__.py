"""Find how few projections still give the correct porosity and pore sizes.

The study compares several reconstruction algorithms.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import QTimer, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import GeoSRError, JobError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs import queue_actions
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.gui.kit.form import error_in_fields, show_in_fields
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.layers import is_helper, volume_from_layer
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.geometry import check_same_rotation, is_turned
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.study.start import StudyPlan as StudyPlan
from napari_geosr.gui.study.start import find_job_steps, start_steps
from napari_geosr.gui.study.watch import StudyWatch
from napari_geosr.gui.study.widgets import StudyWidgets, as_text
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.index import describe_state
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.study.config import StudyConfig, counts_for

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

#: Milliseconds between status checks of the job.
_PAUSE = 700
#: Settings that are taken from the Reconstruct dock.
FROM_DOCK = ("centre", "filter", "stripes", "device", "threads", "memory")


class StudyBox(StudyWidgets):
    """Settings of a study, its progress, its curves and its report.

    The study runs as a job in a separate process, which continues after napari is
    closed.

    Signals
    -------
    startRequested
        *Start* was pressed: the dock calls `start` with its data.
    failed : object
        An error that concerns none of the fields.
    faulty : object
        The first field with an error below it.
    reported : str, str
        A message for the user, and its kind.
    """

    startRequested = Signal()
    failed = Signal(object)
    faulty = Signal(object)
    reported = Signal(str, str)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(viewer, _may_be_chosen, FROM_DOCK, parent)
        self._viewer = viewer
        self.activity = Activity(self)
        self._scan: OpenedScan | None = None
        self._path_to_search: Path | None = None
        self._watch: StudyWatch | None = None
        self._was_alive = False
        self._counts = self.above.values()["counts"]  # proposed counts
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._update_status)
        self.activity.busyChanged.connect(self._show)
        self.activity.failed.connect(self._on_failed)
        self.activity.idle.connect(self._on_idle)
        self.start_button.clicked.connect(self.startRequested)
        self.pause_button.clicked.connect(self._on_pause)
        self.resume_button.clicked.connect(self._on_resume)
        self.jobs_button.clicked.connect(self._on_jobs)
        self.report_button.clicked.connect(self._on_report)
        self._show()

    @property
    def job(self) -> Path | None:
        """Folder of the study shown."""
        return None if self._watch is None else self._watch.path

    @property
    def report(self) -> Path | None:
        """The report page with all results, if there is one."""
        return None if self._watch is None else self._watch.report

    @property
    def is_running(self) -> bool:
        """Whether the study shown is running, waiting or being started."""
        alive = self._watch is not None and self._watch.status.is_alive
        return alive or bool(self.activity.busy)

    def set_scan(self, opened: OpenedScan | None) -> None:
        """Set another scan and show its newest study; a running study continues."""
        self._scan = opened
        self._propose_counts()
        self.clear_faults()
        self._path_to_search = None if opened is None else opened.path
        self.show_job(None)
        self._find_study()

    def _propose_counts(self) -> None:
        """Propose projection counts that suit the scan, unless the user set them."""
        if self._scan is None or self.above.values()["counts"] != self._counts:
            return
        self._counts = ", ".join(map(str, counts_for(self._scan.scan.n_angles)))
        self.above.set_values({"counts": self._counts})

    def _find_study(self) -> None:
        """Search for the newest study of the scan once nothing else is running."""
        path = self._path_to_search
        if path is not None and not self.activity.busy:
            self._path_to_search = None
            self.activity.start(
                "find",
                lambda _stop: find_job_steps(path),
                lambda status: self._on_found(path, status),
            )

    def config(self, dock: ReconstructConfig, column: float | None) -> StudyConfig:
        """Return the settings of the study, some of them taken from the dock.

        Parameters
        ----------
        column : float, optional
            The rotation axis, if known.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        values = self.above.values() | self.factors.values() | self.more.values()
        shared = {name: getattr(dock, name) for name in FROM_DOCK}
        if dock.centre == "auto" and column is not None:
            shared["centre"] = column
        shared = {name: value for name, value in shared.items() if value is not None}
        return StudyConfig.create(**(values | shared))

    def start(
        self, opened: OpenedScan, dock: ReconstructConfig, column: float | None
    ) -> None:
        """Start the study of a scan, or extend the one shown."""
        if self.is_running:
            return
        plan = self.plan(opened, dock, column)
        if plan is None:
            return
        folder, before = self.folder.path, self.job
        self.activity.start(
            "start",
            lambda stop: start_steps(plan, folder, before, stop),
            lambda job: self._on_started(opened, job),
        )
        self.stage.setText("Starting…")

    def plan(
        self, opened: OpenedScan, dock: ReconstructConfig, column: float | None
    ) -> StudyPlan | None:
        """Return the study of a scan; None, with the error shown, if it is invalid."""
        self.clear_faults()
        try:
            config = self.config(dock, column)
            self._check_rotation()
            reference = self._volume(self.reference)
            mask = self._volume(self.mask)
        except GeoSRError as error:
            self._on_failed(error)
            return None
        return StudyPlan(opened, config, reference, mask)

    def _on_failed(self, error: Exception) -> None:
        """Show the error, with titles of fields, below the fields that it concerns."""
        forms = (self.above, self.factors, self.more)
        shown = show_in_fields(error, forms) or self._show_layer_fault(error)
        if shown:
            self.faulty.emit(shown[0])
        else:
            self.failed.emit(error_in_fields(error, forms))

    def _show_layer_fault(self, error: Exception) -> list[QWidget]:
        """Show errors about the reference or mask below its menu."""
        for word, combo in (("reference", self.reference), ("mask", self.mask)):
            layer = combo.layer()
            if str(error).startswith(f"The {word} ") and layer is not None:
                self.layer_faults.add(word, combo, str(error))
                return [combo]
        return []

    def _check_rotation(self) -> None:
        """Refuse a mask that is rotated relative to the reference or reconstruction."""
        mask, reference = self.mask.layer(), self.reference.layer()
        if mask is None:
            return
        if reference is not None:
            check_same_rotation(mask, reference)
        elif is_turned(mask):
            raise VolumeError(
                f"The mask {mask.name!r} is rotated, sheared or mirrored, but "
                "reconstructions are not. Reset the rotation, shear and scale of its "
                "layer, or resample it."
            )

    def _volume(self, combo: LayerCombo) -> Volume | None:
        layer = combo.layer()
        return None if layer is None else volume_from_layer(layer, self._viewer)

    def _on_idle(self) -> None:
        self._find_study()
        self._update_status()

    def _on_found(self, path: Path, status: JobStatus | None) -> None:
        if status is None or self._scan is None or self._scan.path != path:
            return
        self.show_job(status.path)
        if self._watch is not None:
            values = as_text(self._watch.config.model_dump())
            for form in (self.above, self.factors, self.more):
                form.set_values(values)

    def _on_started(self, opened: OpenedScan, job: Path) -> None:
        if opened is self._scan:
            self.show_job(job)
        self.reported.emit(
            "The study continues after napari is closed. You will find it here and in "
            "the Jobs dock.",
            "ok",
        )

    # The job

    def show_job(self, job: Path | None) -> None:
        """Show a study of the scan by its folder; with None, no study."""
        self._watch, self._was_alive = None, False
        self._timer.stop()
        if job is not None:
            try:
                self._watch = StudyWatch(job)
            except GeoSRError as error:
                self.failed.emit(error)
        self._update_status()

    def _update_status(self) -> None:
        """Read new data from the job's folder."""
        watch = self._watch
        if watch is None:
            self._show()
            return
        try:
            watch.read()
        except GeoSRError:
            self.show_job(None)  # deleted in the meantime
            return
        alive = watch.status.is_alive
        if alive and (closing := closing_of(self)) is not None:
            closing.watch(watch.path, self)
        self._show()
        ended, self._was_alive = self._was_alive and not alive, alive
        if ended:
            self._on_ended(watch)
        # A job that has ended may be resumed elsewhere, so it is polled, but less
        # often.
        self._timer.start(_PAUSE if alive else 4 * _PAUSE)

    def _on_ended(self, watch: StudyWatch) -> None:
        status = watch.status
        if status.state == "done":
            opens = self.open_report.isChecked()
            where = (
                "The report is open in the web browser."
                if opens
                else "Press Open report to see all results."
            )
            self.reported.emit(f"The study is done. {where}", "ok")
            if opens:
                self._on_report()
        elif status.state == "failed":
            self._on_failed(JobError(status.message))
        else:
            self.reported.emit(
                "Stopped. Finished reconstructions are kept; press Resume to compute "
                "the others.",
                "info",
            )

    def _show(self, _what: str = "") -> None:
        watch, running = self._watch, self.is_running
        alive = watch is not None and watch.status.is_alive
        self.start_button.setEnabled(self._scan is not None and not running)
        stops = watch is not None and watch.is_stop_requested
        self.pause_button.setEnabled(alive and not stops)
        can_resume = watch is not None and watch.status.can_resume
        self.resume_button.setEnabled(can_resume and not running)
        self.report_button.setEnabled(self.report is not None)
        self.progress.setVisible(alive)
        for widget in (self.above, self.factors, self.more, self.reference, self.mask):
            widget.setEnabled(not running)
        self.folder.button.setEnabled(not running)
        self.result.setVisible(watch is not None and bool(watch.rows))
        if watch is None:
            self.stage.setText("")
        else:
            self._show_progress(watch)
        self.stage.setVisible(self.stage.text() != "")

    def _show_progress(self, watch: StudyWatch) -> None:
        config = watch.config
        over_exposure = len(config.counts) == 1 < len(config.exposure)
        self.result.set_rows(watch.rows, config.tolerance, over_exposure)
        status, done = watch.status, len(watch.rows)
        cells = watch.n_cells
        self.progress.setRange(0, cells if done else 0)
        self.progress.setValue(done)
        if status.state == "done":
            try:
                self.stage.setText(watch.conclusion())
            except GeoSRError as error:
                self.stage.setText(str(error))
            return
        words = describe_state(status)
        if status.state == "running" and watch.stage:
            words = watch.stage
        if watch.is_stop_requested:
            words = "Stopping"
        text = f"{status.name}: {words}{'…' if status.is_alive else '.'}"
        failed = f" {status.message}" if status.state == "failed" else ""
        self.stage.setText(f"{text} {done} of {cells} reconstructions done.{failed}")

    # Actions

    def _on_pause(self) -> None:
        if self._watch is not None:
            watch = self._watch
            try:
                if queue_actions.is_without_process(watch.status):
                    folder = JobFolder(watch.path)
                    queue_actions.stop(folder, self, self.failed.emit)
                else:
                    watch.pause()
            except GeoSRError as error:
                self.failed.emit(error)
            self._update_status()

    def _on_resume(self) -> None:
        if self._watch is not None:
            try:
                folder = JobFolder(self._watch.path)
                queue_actions.resume(
                    folder, self, self.failed.emit, self._update_status
                )
            except (GeoSRError, OSError) as error:
                self.failed.emit(error)
            self._update_status()

    def _on_jobs(self) -> None:
        job = self.job
        show = None if job is None else lambda jobs: jobs.show_job(job)
        open_dock(self._viewer, JOBS, show)

    def _on_report(self) -> None:
        if self.report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report)))


def _may_be_chosen(layer: Layer) -> bool:
    """Whether a layer can be a reference or a sample mask."""
    if not isinstance(layer, Image | Labels) or is_helper(layer):
        return False
    return layer.ndim == 3 and not getattr(layer, "rgb", False)
