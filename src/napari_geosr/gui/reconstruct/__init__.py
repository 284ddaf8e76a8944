"""The Reconstruct dock: open projections, find the axis, preview, reconstruct."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.core.units import PIXEL
from napari_geosr.gui.jobs.cluster import RunEstimate
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.kit.form import ConfigForm, error_in_fields
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.kit.plots.chart import load_pyqtgraph
from napari_geosr.gui.kit.progress import RemainingTime, format_duration
from napari_geosr.gui.layers.projections import (
    OpenedScan,
    opened_scan,
    row_on_screen,
    show_row,
)
from napari_geosr.gui.reconstruct.activity import ReconstructActivity
from napari_geosr.gui.reconstruct.widgets import (
    NO_ESTIMATE,
    RESUME,
    RUN,
    ReconstructWidgets,
)
from napari_geosr.jobs.handover import StoppedReconstruction
from napari_geosr.operations.reconstruct.config import ReconstructConfig, algorithms_for

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from qtpy.QtCore import QEvent

    from napari_geosr.core.projections import Projections
    from napari_geosr.gui.study import StudyBox, StudyPlan
    from napari_geosr.operations.reconstruct import Centre
    from napari_geosr.operations.reconstruct.preview import TrialSlice


#: Settings that apply only to the current scan.
_NOT_REMEMBERED = ("centre", "rows", "size", "every", "half", "incident", "saturation")
#: Text of the status line when an operation starts.
_STARTING = {
    "loading": "Reading the projections…",
    "centre": "Finding the rotation axis…",
    "preview": "Reconstructing a slice…",
    "run": "Preparing the projections…",
}


class ReconstructDock(ReconstructWidgets):
    """Reconstructs volumes from projections.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "reconstruct"
    activity: ReconstructActivity

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._time_left = RemainingTime()
        self._result: weakref.ref[Image] | None = None
        self._warnings: list[str] = []
        remark = self._recall()
        self._connect()
        self._on_layer_chosen()
        if remark:
            self.message.show_message(remark, "warning")

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Import the algorithms and the chart modules."""
        yield from ()
        algorithms_for("parallel")
        load_pyqtgraph()

    def _make_activity(self) -> ReconstructActivity:
        return ReconstructActivity(self._viewer, self)

    def _connect(self) -> None:
        self.open.opened.connect(self._on_opened)
        self.layer_combo.layerChanged.connect(self._on_layer_chosen)
        for part in (self.algorithm, self.above, self.form, self.centre):
            part.changed.connect(self._on_settings)
        self.centre.findRequested.connect(self._on_find)
        self.row.valueChanged.connect(self._on_row)
        self.preview_button.toggled.connect(self._on_preview)
        self.run_button.clicked.connect(self._on_run)
        self.cluster.set_run(self._run_elsewhere, self.run_button)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.measure_button.clicked.connect(self._on_measure)
        self.save_button.saved.connect(self._on_saved)
        self.save_button.failed.connect(self.show_failure)
        self.denoise.startRequested.connect(self._on_denoise)
        self.denoise.failed.connect(self.show_failure)
        self.denoise.reported.connect(
            lambda text: self.message.show_message(text, "ok")
        )
        self.closed.connect(lambda: self.preview_button.setChecked(False))
        working = self.activity
        working.centreFound.connect(self._on_centre)
        working.progressed.connect(self._on_progress)
        working.warned.connect(self._on_warned)
        working.previewed.connect(self._on_previewed)
        working.stopped.connect(self._on_stopped)
        working.finished.connect(self._on_finished)
        layers = self._viewer.layers
        self.connections.connect(self._viewer.dims.events.point, self._on_moved)
        self.connections.connect(layers.events.removed, self._on_removed)
        self.connections.connect(layers.selection.events.active, self._on_active)

    # Choices

    def _recall(self) -> str:
        config, error = self.recall(ReconstructConfig)
        self.algorithm.set_config(config)
        self.above.set_values(config.model_dump())
        self.form.set_values(config.model_dump())
        return "" if error is None else f"Default settings are used. {error}"

    def config(self) -> ReconstructConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        column, known = self.centre.value(), self.activity.known_centre()
        if (
            column is not None
            and known is not None
            and round(known.column, 2) == column
        ):
            column = None  # use the known axis, so that its source is also recorded
        return ReconstructConfig.create(
            **self.algorithm.values(),
            **self.above.values(),
            **self.form.values(),
            centre="auto" if column is None else column,
        )

    def opened(self) -> OpenedScan | None:
        """Return the chosen scan."""
        return opened_scan(self.layer_combo.layer())

    def _on_active(self, _event: object = None) -> None:
        if self.opened() is None:
            self.open.suggest(self._viewer.layers.selection.active)

    def _connect_study(self, study: StudyBox) -> None:
        study.startRequested.connect(self._on_study)
        study.failed.connect(self.show_failure)
        study.faulty.connect(self.scroller.show_part)
        study.reported.connect(self.message.show_message)
        self.study_cluster.set_run(self._study_elsewhere, study.start_button)
        self.study_cluster.submitted.connect(study.show_job)
        study.set_scan(self.opened())

    def _on_opened(self, layer: Image) -> None:
        self.layer_combo.set_layer(unwrapped(layer))
        self._on_layer_chosen()  # at once: the combo box emits its signal later

    def _on_layer_chosen(self) -> None:
        opened = self.opened()
        if opened is self.activity.opened() and opened is not None:
            return
        self._show_result(None)
        self._show_estimate(None)
        self.activity.set_scan(opened)
        self.denoise.set_scan(opened)
        if self._study is not None:
            self._study.set_scan(opened)
        self.job_row.set_source(None if opened is None else opened.path)
        if opened is None:
            self.preview_button.setChecked(False)
            self.facts.setText("")  # the status line shows what to do
            self._on_active()
        else:
            scan = opened.scan
            self.open.hide_suggestion()
            self.message.clear()
            if notes := scan.metadata.get("notes"):
                harmless = set(notes) <= set(scan.metadata.get("remarks", ()))
                self.message.show_message(
                    " ".join(notes), "info" if harmless else "warning"
                )
            self.facts.setText(_describe_scan(scan))
            self.algorithm.set_beam(scan.geometry)
            self.centre.set_columns(scan.n_columns, scan.centre)
            self.row.blockSignals(True)
            self.row.setRange(0, scan.n_rows - 1)
            self.row.setValue(row_on_screen(self._viewer, self.layer_combo.layer()))
            self.row.blockSignals(False)
            self.activity.set_row(self.row.value())
        self.facts.setVisible(opened is not None)
        self._on_settings()
        self.show_busy(self.activity.busy)

    def _on_settings(self) -> None:
        try:
            config = self.config()
        except ConfigError as error:
            self.show_settings_error(error)
            return
        for form in self.settings_forms():
            form.clear_faults()
        if self.activity.set_config(config):
            self._show_estimate(None)
        self._name_run_button()

    # The slice on screen

    def _on_row(self, row: int) -> None:
        self.activity.set_row(row)
        layer = self.layer_combo.layer()
        if layer is not None:
            show_row(self._viewer, layer, row)

    def _on_moved(self, _event: object = None) -> None:
        layer = self.layer_combo.layer()
        if layer is None:
            return
        row = row_on_screen(self._viewer, layer)
        self.row.blockSignals(True)
        self.row.setValue(row)
        self.row.blockSignals(False)
        self.activity.set_row(row)

    # Actions

    def _on_find(self) -> None:
        self.clear_errors()
        self.activity.find_centre()

    def _on_preview(self, checked: bool) -> None:
        if checked:
            self.clear_errors()
        self.activity.set_preview(checked)

    def _on_run(self) -> None:
        try:
            config = self.config()
            default = {n: getattr(ReconstructConfig(), n) for n in _NOT_REMEMBERED}
            self.remember(config.model_copy(update=default))
        except GeoSRError as error:
            self.show_settings_error(error)
            return
        self.clear_errors()
        self._warnings = []
        self._show_result(None)
        self._time_left.restart()
        self.activity.set_config(config)
        self.activity.run()
        self.preview_button.setChecked(False)

    def _on_cancel(self) -> None:
        self.progress_label.setText("Stopping…")
        self.preview_button.setChecked(False)
        self.activity.cancel()

    def _on_measure(self) -> None:
        layer = None if self._result is None else self._result()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer
        open_dock(self._viewer, POROSITY, lambda dock: dock.choose_image(layer))

    def _run_elsewhere(self) -> StoppedReconstruction:
        opened = self.opened()
        if opened is None:
            raise ConfigError("No projections are selected. Open projections first.")
        if opened.path is None:
            raise ConfigError(
                f"The projections {opened.scan.name} are not stored in a file that "
                "another computer can read. Save them first."
            )
        config = self.config()
        return StoppedReconstruction(
            opened.scan.name, opened.path, opened.reading, config
        )

    def _study_elsewhere(self) -> StudyPlan | None:
        opened = self.opened()
        if opened is None:
            raise ConfigError("Open projections first: none are selected.")
        known = self.activity.known_centre()
        column = None if known is None else known.column
        self.clear_errors()
        try:
            return self.study.plan(opened, self.config(), column)
        except ConfigError as error:
            self.show_settings_error(error)
            return None

    def _on_denoise(self) -> None:
        self._start_in_section(self.denoise.start)

    def _on_study(self) -> None:
        self._start_in_section(self.study.start)

    def _start_in_section(
        self, start: Callable[[OpenedScan, ReconstructConfig, float | None], None]
    ) -> None:
        """Start a study or denoising with the dock's scan, settings and axis."""
        opened = self.opened()
        if opened is None:
            return
        known = self.activity.known_centre()
        self.clear_errors()
        try:
            start(opened, self.config(), None if known is None else known.column)
        except GeoSRError as error:
            self.show_settings_error(error)

    def settings_forms(self) -> list[ConfigForm]:
        """Return the forms with the settings of a reconstruction, top to bottom."""
        forms = self.algorithm.form, self.above, self.form
        return [form for form in forms if form is not None]

    def reworded(self, error: Exception) -> Exception:
        """Return the error with names of settings replaced by titles of fields."""
        forms = [*self.settings_forms(), *self.findChildren(ConfigForm)]
        return error_in_fields(error, forms)

    # Results

    def show_busy(self, what: str) -> None:
        running = what == "run"
        has_scan = self.activity.opened() is not None
        self.preview_button.setEnabled(has_scan and not running)
        self.run_button.setEnabled(has_scan and not running)
        self.cancel_button.setEnabled(what not in ("", "loading"))
        self.centre.setEnabled(has_scan and not running)
        self.centre.find_button.setEnabled(has_scan and what not in ("run", "centre"))
        for widget in (self.layer_combo, self.algorithm, self.above, self.form):
            widget.setEnabled(not running)
        self._name_run_button()
        # A preview is computed whenever another slice is shown, so a progress bar would
        # flicker.
        shown = what in ("run", "centre")
        self.progress.setVisible(shown)
        self.show_next(has_scan=has_scan)
        self.progress.setRange(0, 0 if what else 1)
        self.progress_label.setText(_STARTING.get(what, ""))

    def _name_run_button(self) -> None:
        """Label the button *Reconstruct*, or *Resume* for a stopped run."""
        unfinished = self.activity.unfinished()
        text, tip = RUN
        if unfinished is not None:
            text, tip = RESUME[0], RESUME[1].format(unfinished.name)
        self.run_button.setText(text)
        self.run_button.setToolTip(tip)

    def _on_centre(self, centre: Centre, asked: bool) -> None:
        source = centre.method
        if source != "from the file":
            source = f"determined from the projections ({centre.method})"
        self.centre.set_known(centre.column, source)
        if centre.notes:
            self.message.show_message(" ".join(centre.notes), "warning")
        if asked:
            self.centre.set_value(round(centre.column, 2))

    def _on_previewed(self, tried: TrialSlice, is_coarse: bool) -> None:
        opened = self.activity.opened()
        assert opened is not None
        estimate = _estimate(opened.scan, tried, is_coarse)
        text = _estimate_text(opened.scan, estimate)
        if is_coarse:
            seconds = _approximately(tried.seconds)
            text = f"Coarse preview; a slice at full resolution takes {seconds}. {text}"
        self._show_estimate(estimate, text)
        self._on_row(self.row.value())

    def _show_estimate(
        self, estimate: RunEstimate | None, text: str = NO_ESTIMATE
    ) -> None:
        self.estimate.setText(text)
        self.cluster.set_estimate(estimate)

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        if stage != "slices":
            if stage:
                self.progress_label.setText(f"{stage}…")
            return
        percent = 100 * done // max(total, 1)
        left = self._time_left.text(done, total)
        iteration = f", {self.activity.iteration}" if self.activity.iteration else ""
        self.progress_label.setText(f"{percent} % done{iteration}{left}")

    def _on_warned(self, text: str) -> None:
        opened = self.activity.opened()
        if opened is not None and text in opened.scan.metadata.get("remarks", ()):
            return  # already shown when the scan was chosen
        if text not in self._warnings:
            self._warnings.append(text)
        self.message.show_message(" ".join(self._warnings), "warning")

    def show_failure(self, error: Exception) -> None:
        self.preview_button.setChecked(False)
        super().show_failure(error)

    def _on_finished(self, layer: Image, done: Any, seconds: float) -> None:
        warnings, self._warnings = self._warnings, []
        if done.complete:
            message = f"Done in {format_duration(seconds)}."
            kind = "warning" if warnings else "ok"
            self.message.show_message(" ".join([*warnings, message]), kind)
        else:
            boxes = done.volume.provenance[-1]["finished"]
            n_kept = sum(int(box[0][1]) - int(box[0][0]) for box in boxes)
            self.message.show_message(
                f"Stopped: {n_kept} of {done.volume.shape[0]} slices are finished and "
                "kept. Press Resume to reconstruct the others."
            )
        self._on_row(self.row.value())
        self._show_result(layer, measurable=done.complete)

    def _on_stopped(self) -> None:
        unfinished = self.activity.target()
        self.message.show_message(
            "Stopped before the first slice was finished. Nothing is kept."
            if unfinished is None
            else f"Stopped before another slice was finished; {unfinished.name!r} is "
            "unchanged."
        )

    def _show_result(self, layer: Image | None, *, measurable: bool = False) -> None:
        """Offer to save and measure the result; with None, hide these actions."""
        self._result = None if layer is None else weakref.ref(layer)
        opened = self.activity.opened()
        self.save_button.set_layer(layer, None if opened is None else opened.path)
        self.is_done = layer is not None and measurable
        self.measure_button.setVisible(self.is_done)
        self.show_next(has_scan=opened is not None)

    def _on_saved(self, path: object) -> None:
        self.message.show_message(f"Saved as {path}.", "ok")

    def _on_removed(self, event: QEvent) -> None:
        if self._result is not None and event.value is self._result():
            self._show_result(None)
        self._name_run_button()


def _describe_scan(scan: Projections) -> str:
    """Describe a scan: projections, angular range, pixels, beam and flat fields."""
    height, width = scan.pixel_size
    size = f"{width:g}" if height == width else f"{height:g} × {width:g}"
    pixels = "" if scan.unit == PIXEL else f" of {size} {scan.unit}"
    parts = [
        f"{scan.n_angles} projections over {scan.angular_range:.4g}°",
        f"{scan.n_rows} × {scan.n_columns} pixels{pixels}",
        f"{scan.geometry} beam",
    ]
    if scan.is_line_integrals:
        parts.append("line integrals")
    for frames, word in ((scan.flats, "flat"), (scan.darks, "dark")):
        if frames is not None:
            parts.append(f"{int(frames.shape[0])} {word} fields")
    return ", ".join(parts) + "."


def _estimate(scan: Projections, tried: TrialSlice, is_coarse: bool) -> RunEstimate:
    """Estimate the time and memory for the whole volume from one slice."""
    edge = tried.volume.shape[-1]
    if is_coarse:
        edge *= round(tried.volume.voxel_size[-1] / scan.pixel_size[1])
    seconds = tried.seconds * (1 if scan.geometry == "cone" else scan.n_rows)
    return RunEstimate(seconds, 4 * scan.n_rows * edge**2)


def _estimate_text(scan: Projections, estimate: RunEstimate) -> str:
    seconds, size = estimate.seconds, format_bytes(estimate.memory or 0)
    bound = "" if seconds < 1 else "up to "
    return (
        f"All {scan.n_rows} slices: {bound}{_approximately(seconds)}, {size} in memory."
    )


def _approximately(seconds: float) -> str:
    return (
        format_duration(seconds) if seconds < 1 else f"about {format_duration(seconds)}"
    )
