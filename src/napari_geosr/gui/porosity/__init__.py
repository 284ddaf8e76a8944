"""The *Porosity* dock: find, measure and list the pores of an image."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.gui.jobs.handover import RunHandover
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.plots.chart import load_pyqtgraph
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.layers import holds_deviations, volume_from_layer
from napari_geosr.gui.layers.contents import EditWatch
from napari_geosr.gui.layers.position import click_callback
from napari_geosr.gui.porosity.evidence import (
    OUTDATED,
    ExplainedPores,
    evidence_steps,
    explained_source,
)
from napari_geosr.gui.porosity.job_result import JobMeasurement, job_result_steps
from napari_geosr.gui.porosity.measured_layers import MeasuredInputs
from napari_geosr.gui.porosity.measuring import (
    ExportedReport,
    MeasuringInput,
    PoreMeasurement,
    export_dialog,
    stopped_measurement,
    with_edits,
    with_groups_of,
)
from napari_geosr.gui.porosity.minimum_size import RememberedMinimum
from napari_geosr.gui.porosity.pore_layers import features
from napari_geosr.gui.porosity.pores_shown import PoreDisplay
from napari_geosr.gui.porosity.preview.levels_reader import LevelsReader
from napari_geosr.gui.porosity.preview.local_preview import LocalPreview
from napari_geosr.gui.porosity.preview.sample_preview import SamplePreview
from napari_geosr.gui.porosity.preview.threshold_preview import ThresholdPreview
from napari_geosr.gui.porosity.settings import NO_IMAGE, READY, UNUSABLE
from napari_geosr.gui.porosity.widgets import RUNNING, STOPPED, PorosityWidgets
from napari_geosr.operations.measure import MeasureConfig, morphometry_choices
from napari_geosr.operations.measure.grey_levels import GreyLevels

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer
    from qtpy.QtCore import QEvent

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport


class PorosityDock(PorosityWidgets):
    """Thresholds, labels and measures pores; shows a table, histogram and layers."""

    settings_name = "porosity"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._exporting = Activity(self)
        self._opening = Activity(self)
        self.handover = RunHandover(self.activity, self, "measure")
        self.handover.can_keep_part = False
        self._measured: PoreMeasurement | None = None
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self._removed = ""
        self._farewell = ""
        self._complains = False
        self._progress = OperationProgress(
            self.stage.setText,
            show_bar=self.bar.show_progress,
            show_warning=self.show_warning,
            shows_time_left=True,
            spans_stages=True,
        )
        self._edits = EditWatch(self)
        self.levels = LevelsReader(self._viewer, self)
        self._inputs = MeasuredInputs(self.levels, self.settings)
        self.plan.follow(self.levels)
        self.pores = PoreDisplay(self._viewer, self.result, self)
        self.preview = ThresholdPreview(self._viewer, self)
        self.local_preview = LocalPreview(self._viewer, self.levels, self.preview, self)
        self.sample = SamplePreview(self._viewer, self.settings, self.levels, self)
        self._connect()
        self._recall()
        self.show_theme()
        self._on_source()

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Import the statistics and the modules that draw charts."""
        yield from ()
        morphometry_choices()
        load_pyqtgraph()

    def _connect(self) -> None:
        settings, result, viewer = self.settings, self.result, self._viewer
        self.closed.connect(self.preview.hide)
        settings.sourceChanged.connect(self._on_source)
        settings.sample.layerChanged.connect(self._on_sample)
        settings.thresholdChanged.connect(self._update_preview)
        settings.voxel_size.voxelSizeSet.connect(self._on_voxel_size)
        settings.frames.answered.connect(lambda _layer: self._on_source())
        self.tabs.currentChanged.connect(lambda _: self._update_preview())
        self.levels.levelsRead.connect(self._on_levels)
        self.levels.outdated.connect(self._on_outdated)
        self.levels.failed.connect(self._on_levels_error)
        self.measure_button.clicked.connect(self.measure)
        self.cancel_button.clicked.connect(self.cancel)
        self.plan.requested.connect(self.plan_scan)
        self.pores.picked.connect(self.leave_settings)
        self.pores.extended.connect(self._keep)
        for part in (self.pores.measured_layers, self.pores.edited):
            part.changed.connect(self._mark_result)
        settings.thresholdChanged.connect(self._mark_result)
        result.evidenceRequested.connect(self.explain)
        result.reportChosen.connect(lambda _name: self._offer_evidence())
        result.reportChosen.connect(lambda _name: self._mark_result())
        result.exportRequested.connect(self.export)
        self._exporting.idle.connect(lambda: self.result.export.setEnabled(True))
        self.activity.idle.connect(self._on_idle)
        events = viewer.layers.events
        self.connections.connect(events.removed, self._on_removed)
        self.connections.connect(events.inserted, self._on_inserted)
        self.connections.connect(viewer.events.theme, self.show_theme)
        self.connections.connect(viewer.dims.events.ndisplay, self._update_preview)
        pick = click_callback(weakref.ref(self.pores))
        self.connections.add_to(viewer, "mouse_drag_callbacks", pick)

    def _recall(self) -> None:
        config, error = self.recall(MeasureConfig)
        if error is not None:
            self.message.show_error(error)
        if not isinstance(config.threshold, str):
            # A manual threshold is not valid for another image.
            config = config.model_copy(update={"threshold": "otsu"})
        self._minimum = RememberedMinimum(config.min_voxels, self.remember)
        self.settings.set_config(config)

    # The image and its grey values

    def choose_image(self, layer: Layer | None) -> None:
        """Choose the image to measure at the request of another dock."""
        if layer is not None and not self.is_running:
            self.settings.image.set_layer(layer)
            self.tabs.setCurrentIndex(0)

    def _on_source(self) -> None:
        """Handle a new image: ask for an unknown voxel size, read the grey values."""
        layer = self.settings.image.layer()
        self.preview.hide()
        self.settings.choose_deviation()
        self.settings.choose_source()
        self.levels.set_layer(layer)
        volume = self._volume(layer)
        rows = self.settings
        for row in (rows.voxel_size, rows.frames, rows.notes):
            row.set_layer(None if volume is None else layer)
        self._mark_result()
        self.stage.idle = NO_IMAGE if layer is None else READY
        if layer is not None and volume is None:
            self.stage.idle = UNUSABLE
        if not self.is_running:
            self.stage.setText("")
        self.measure_button.setEnabled(volume is not None and not self.is_running)
        self._read_levels(volume)

    def _on_sample(self) -> None:
        """Handle a new sample: determine the threshold from its grey values."""
        self.levels.set_mask(self.settings.sample.layer())
        self.levels.check_data()

    def _read_levels(self, volume: Volume | None) -> None:
        self.settings.set_volume(volume)
        self.levels.read(volume)

    def _on_outdated(self) -> None:
        """Read the grey values again, because those shown are outdated."""
        self._mark_result()
        if not self.is_running:
            self.preview.pause()
            self._read_levels(self._volume(self.levels.layer()))

    def _volume(self, layer: Layer | None) -> Volume | None:
        if layer is None:
            self._clear_message()
            return None
        try:
            volume = volume_from_layer(layer, self._viewer)
        except GeoSRError as error:
            self.message.show_error(error)
            return None
        self._clear_message()
        return volume

    def _clear_message(self) -> None:
        """Clear earlier messages, except the one about a removed layer."""
        self.settings.faults.clear()
        if self.message.text != self._farewell:
            self.message.clear()

    def _on_levels(self, levels: GreyLevels) -> None:
        self.sample.set_levels(levels)
        try:
            self.settings.set_levels(levels)
        except GeoSRError as error:
            self.show_settings_error(error)

    def _on_levels_error(self, error: Exception) -> None:
        self.settings.histogram.empty_text = "No grey values to show."
        self.settings.histogram.update()
        self.show_settings_error(error)

    def _on_voxel_size(self, _layer: object) -> None:
        self._read_levels(self._volume(self.settings.image.layer()))

    def _update_preview(self, _event: object = None) -> None:
        settings = self.settings
        layer, threshold = settings.image.layer(), settings.threshold
        if layer is None or threshold is None:
            self.preview.hide()
            return
        try:
            config, sample = settings.config(), self.sample.of(layer)
        except GeoSRError as error:
            self.preview.pause()
            self.show_settings_error(error)
            self._complains = True
            return
        if self._complains:
            self.clear_errors()
            self._complains = False
        in_3d = self._viewer.dims.ndisplay == 3
        is_local = config.local_window is not None or config.hysteresis is not None
        if not settings.previews:
            self.preview.hide()
        elif self.is_running or in_3d or self.tabs.currentIndex() != 0:
            self.preview.pause()
        elif is_local:
            self.local_preview.show(layer, threshold, config)
            return
        else:
            self.preview.show(layer, threshold, config, sample)
        self.local_preview.stop()

    # Measuring

    @property
    def is_running(self) -> bool:
        """Whether an operation, such as a measurement or a plan, is running."""
        return bool(self.activity.busy)

    def measure(self) -> None:
        """Measure the chosen image and its reference, if any."""
        layers = self.settings.layers()
        layer = layers["data"]
        if self.is_running or layer is None:
            return
        try:
            config = self.settings.config()
            given = MeasuringInput.of(layers, config, self._viewer)
            self._minimum.begin(self.settings.reusable_config)
        except GeoSRError as error:
            self.show_refusal(error)
            return
        self.clear_errors()
        self._removed = ""
        self._progress.restart()
        self._inputs.begin(config)
        self._sources = given.sources
        self._edits.begin(layers.values())
        description = f"Measuring {layer.name}"
        stopped = stopped_measurement(layers, config, self._viewer)
        self.handover.begin("measure", description, lambda: stopped)
        self.activity.start(
            "measure",
            given.steps,
            self._on_measured,
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description=description,
        )

    def plan_scan(self) -> None:
        """Plan how many spots of the chosen image's sample to scan."""
        if not self.is_running:
            self.clear_errors()
            self._removed = ""
            self._progress.restart()
            self.plan.start(self.activity, self._progress.show_step, self._on_error)

    def cancel(self) -> None:
        """Stop the running operation at its next step."""
        if self.is_running:
            self.activity.cancel()
            self.stage.setText("Stopping…")

    def show_busy(self, what: str) -> None:
        running = bool(what)
        self.measure_button.setEnabled(
            not running and self.settings.image.layer() is not None
        )
        self.settings.setEnabled(not running)
        self.cancel_button.setEnabled(running)
        self.progress.setVisible(running)
        self.stage.setText(RUNNING.get(what, ""))
        self._offer_evidence()
        if running:
            self.progress.setRange(0, 0)
            self.preview.pause()

    def _on_idle(self) -> None:
        self._update_preview()
        self.levels.check_data()

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self.show_refusal(error)
        elif self._removed:
            self._farewell = self._removed
            self.message.show_message(self._farewell)
        elif not self.message.text:
            self.message.show_message("Cancelled. Nothing was changed.")

    def _on_measured(self, measured: PoreMeasurement) -> None:
        """Show the results. The layers may have been removed in the meantime."""
        self._minimum.end(measured.reports.values())
        self._inputs.finish()
        measured = with_groups_of(measured, self._measured)
        measured = with_edits(measured, self._edits.end())
        self._show_used(next(iter(measured.reports.values())).threshold)
        self._show_result(measured)
        self._show_notes(measured)
        self.pores.show(measured, self._sources, self.settings.sample.layer())
        self._mark_result()
        self._offer_evidence()

    def _show_result(
        self, measured: PoreMeasurement, folder: Path | None = None
    ) -> None:
        """Show values and a table; for a job, `folder` already holds the files."""
        self._measured = measured.without_labels()
        self.result.set_reports(
            self._measured.reports, measured.position, measured.samples
        )
        self.result.set_exported_to(folder)
        self.show_results()

    def _show_notes(self, measured: PoreMeasurement) -> None:
        """Show the warnings of the reports, and what was kept of earlier results."""
        texts = [*measured.warnings, *measured.notes]
        if texts:
            kind = "warning" if measured.warnings else "info"
            self.message.show_message(" ".join(texts), kind)

    def show_job(self, job: Path, then: Callable[[str], None]) -> None:
        """Show the measurement of a job.

        Parameters
        ----------
        job : Path
            Folder of the job.
        then : callable
            Called with a sentence about the measurement once it is shown.
        """
        if not self._opening.busy:
            self._opening.start(
                "open",
                partial(job_result_steps, job),
                partial(self._on_job_read, then),
                on_error=self.show_failure,
            )

    def _on_job_read(self, then: Callable[[str], None], found: JobMeasurement) -> None:
        self.message.clear()
        self._inputs.forget()
        self._show_result(found.measured, found.page.parent)
        self.pores.show(found.measured, found.layers(self._viewer))
        self._mark_result()
        self._offer_evidence()
        then(f"The pore layers were opened; the report is in {found.page}.")
        self._show_notes(found.measured)

    def _mark_result(self) -> None:
        """Show a note if the result does not match the current image and settings."""
        pores, chosen = self.pores, self.settings.image.layer()
        self.plan.mark()
        edited = "" if self._measured is None else self._measured.edited
        note = pores.measured_layers.note(chosen) or edited or self._inputs.note()
        self.result.set_stale(note or pores.edited.note(pores.layer()))

    def _show_used(self, threshold: float) -> None:
        """Draw the threshold of the measurement if the data are unchanged."""
        if self.levels.layer() is None or self.settings.threshold is None:
            return
        if self._inputs.is_current:
            self.settings.show_used(threshold)

    def _on_inserted(self, event: QEvent) -> None:
        """Choose the image's standard deviations when their layer is added."""
        if holds_deviations(event.value):
            self.settings.choose_deviation()
        self._offer_evidence()

    def _on_removed(self, event: QEvent) -> None:
        """Stop work on a layer that was removed."""
        what = str(self.activity.busy)
        sources = [reference() for reference in self._sources.values()]
        used = [self.plan.image()] if what == "plan" else sources
        if what and event.value in used:
            name = event.value.name
            self._removed = (
                f"Layer {name!r} was removed, so {STOPPED[what]} was stopped."
            )
            self.cancel()
        self._offer_evidence()

    # Evidence for each pore

    def _offer_evidence(self) -> None:
        source = self.pores.source() if self.result.report is not None else None
        found = None if source is None else explained_source(self._viewer, source)
        self.result.set_explicable(found is not None, running=self.is_running)

    def explain(self) -> None:
        """Compute the evidence for each pore of the report that is shown."""
        report, source = self.result.report, self.pores.source()
        measured = self._measured
        if self.is_running or report is None or source is None or measured is None:
            return
        try:
            found = explained_source(self._viewer, source)
            opener = None if found is None else found.opener(self._viewer)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        if found is None or opener is None:
            self._offer_evidence()
            return
        config, name = found.config, self.result.which.currentData()
        self.message.clear()
        self._removed = ""
        self._progress.restart()
        self.activity.start(
            "evidence",
            lambda should_stop: evidence_steps(opener, config, report, should_stop),
            partial(self._on_explained, name, measured),
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description=f"Explaining the pores of {name}",
        )

    def _on_explained(
        self, name: str, measured: PoreMeasurement, found: ExplainedPores
    ) -> None:
        """Add columns to the table, layer and files, unless another result is shown."""
        if self._measured is not measured:
            self.message.show_message(OUTDATED)
            return
        report, table = found.added_to(measured.reports[name])
        self._keep(name, report, table)
        self.result.set_explained(name, report)
        self.pores.set_features(name, table)
        self.message.show_message(
            " ".join([found.sentence, *found.warnings]),
            "warning" if found.warnings else "ok",
        )

    def _keep(self, name: str, report: PorosityReport, table: object = None) -> None:
        """Store a report with new columns, such as a group of pores, for the export."""
        assert self._measured is not None
        self._measured.reports[name] = report
        self._measured.features[name] = features(report) if table is None else table
        self.result.set_exported_to(None)

    # Export

    def export(self) -> None:
        """Ask for the destination, then write CSV, JSON, PNG and HTML in a worker."""
        measured = self._measured
        if measured is None:
            return
        steps = export_dialog(self, measured)
        if steps is None:
            return
        self.result.export.setEnabled(False)
        self._exporting.start(
            "export", steps, self._on_exported, on_error=self.message.show_error
        )

    def _on_exported(self, exported: ExportedReport) -> None:
        self.message.show_message(exported.text, "ok")
