"""The Restore dock: choose a layer and a model, preview, run, compare."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.progress import RemainingTime
from napari_geosr.gui.layers import chosen_position, volume_from_layer
from napari_geosr.gui.models.handover import ModelHandover
from napari_geosr.gui.restore import copying
from napari_geosr.gui.restore.activity import RestoreActivity
from napari_geosr.gui.restore.preparation import (
    RunPreparation,
    estimate_text,
    run_estimate,
)
from napari_geosr.gui.restore.source_watch import PointWatch
from napari_geosr.gui.restore.verdict.adapt_button import is_adaptable
from napari_geosr.gui.restore.widgets import RESUME, RUN, RestoreWidgets
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.config import kinds
from napari_geosr.operations.restore.ranking import NONE

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer
    from qtpy.QtCore import QEvent

    from napari_geosr.core.volume import Volume
    from napari_geosr.jobs.handover import StoppedRestoration


class RestoreDock(RestoreWidgets):
    """Restores an image layer with a model (denoising or super-resolution).

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "restore"
    activity: RestoreActivity

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._time_left = RemainingTime()
        self._result: weakref.ref[Image] | None = None
        self._usable: weakref.ref[Image] | None = None  # the chosen layer, if usable
        self._warnings: list[str] = []
        self._volume: Volume | None = None
        self._adapted_to: weakref.ref[Image] | None = None
        self._runs_after_verdict = self._resumes_part = self._is_harmful = False
        self._run_timer = QTimer(self)
        self._run_timer.setSingleShot(True)
        self._run_timer.timeout.connect(self._run_after_verdict)
        self._handover = ModelHandover(self._viewer, self)
        self._points = PointWatch(self._viewer, self)
        self.show_busy("")
        remark = self._recall()
        self._connect()
        self._on_layer_chosen()
        if remark:
            self.message.show_message(remark, "warning")

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Read the model cards and the kinds of uncertainty."""
        yield StageStarted(message="Reading the models")
        catalogue.scan_folders()
        kinds()

    def _make_activity(self) -> RestoreActivity:
        return RestoreActivity(self._viewer, self)

    def _connect(self) -> None:
        self.layer_combo.layerChanged.connect(self._on_layer_chosen)
        self.model_box.modelChanged.connect(self._on_model)
        for part in (self.uncertainty, self.form, self.strength):
            part.changed.connect(self._on_settings)
        self.extent.changed.connect(self._on_extent)
        self.model_box.failed.connect(self.show_failure)
        self.verdict_panel.ranked.connect(self.model_box.set_ranking)
        self.verdict_panel.find_button.clicked.connect(self._on_find)
        self.verdict_panel.failed.connect(self.show_failure)
        adapt = self.verdict_panel.adapt_button
        adapt.progressed.connect(self.message.show_message)
        adapt.unchanged.connect(lambda text: self.message.show_message(text, "ok"))
        adapt.started.connect(self._on_adapting)
        adapt.adapted.connect(self._on_adapted)
        adapt.failed.connect(self.show_failure)
        self._handover.done.connect(lambda text: self.message.show_message(text, "ok"))
        self.verdict_panel.activity.verdictEnded.connect(self._on_verdict_ended)
        self._handover.failed.connect(self.show_failure)
        self.voxel_size.voxelSizeSet.connect(self._on_voxel_size)
        self.frames.answered.connect(lambda _layer: self._on_layer_chosen())
        self.noise_box.changed.connect(self._on_layer_chosen)
        self.preview_button.toggled.connect(self.activity.set_preview)
        self.closed.connect(lambda: self.activity.set_preview(False))
        self.run_button.clicked.connect(lambda: self._start(resumes=False))
        self.finished_part_row.resumed.connect(lambda: self._start(resumes=True))
        self.finished_part_row.discarded.connect(self._on_discard)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.measure_button.clicked.connect(self._on_measure)
        self.copy_command.clicked.connect(lambda: self._copy("command"))
        self.copy_python.clicked.connect(lambda: self._copy("Python script"))
        self.cluster.set_run(self._run_elsewhere, self.run_button)
        self.save_button.saved.connect(
            lambda path: self.message.show_message(f"Saved as {path}.", "ok")
        )
        self.save_button.failed.connect(self.show_failure)
        self.compare.failed.connect(self.show_failure)
        self.check_button.failed.connect(self.show_failure)
        self.activity.ready.connect(self._on_ready)
        self.activity.notReady.connect(self._on_not_ready)
        self._points.moved.connect(self._on_point_moved)
        self.activity.previewed.connect(self.compare.set_preview)
        self.activity.progressed.connect(self._on_progress)
        self.activity.warned.connect(self._on_warned)
        self.activity.finished.connect(self._on_finished)
        removed = self._viewer.layers.events.removed
        self.connections.connect(removed, self._on_layer_removed)

    # Choices

    def _recall(self) -> str:
        """Show the last session's settings; return a remark if some are unavailable."""
        config, error = self.recall(RestoreConfig)
        remark = "" if error is None else f"Default settings are used. {error}"
        self.form.set_values(config.model_dump())
        try:
            self.model_box.set_model(config.model)
        except GeoSRError:
            # The user's own model no longer exists: start with the first one.
            remark = f"The model used last, {config.model}, no longer exists."
        self.model_box.set_user_choice(False)  # the choice was for another scan
        # Do not recall the strength: it was chosen for another scan.
        self.strength.set_card(self.model_box.card())
        self.uncertainty.set_card(self.model_box.card())
        try:
            self.uncertainty.set_values(config)
        except GeoSRError:
            names = ", ".join(config.ensemble_with)
            remark = f"These models of the last ensemble no longer exist: {names}."
        return remark

    def config(self) -> RestoreConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        chosen = self.uncertainty.values()
        config = self.form.config(
            model=self.model_box.model(), strength=self.strength.value(), **chosen
        )
        assert isinstance(config, RestoreConfig)
        return config

    def use_model(self, path: Path) -> None:
        """Choose the model at `path`, e.g. one that was just trained.

        Raises
        ------
        GeoSRError
            If the model cannot be opened or does not fit the layer, or a run is active.
        """
        if self.activity.busy == "run":
            raise ConfigError(
                f"{path.name} was saved, but the Restore dock is busy. Choose the "
                "model there when the current run has finished."
            )
        self.model_box.set_model(str(path))
        if self.model_box.model() != str(path):
            raise ConfigError(
                f"{path.name} was saved but cannot be used for the layer in the "
                "Restore dock, because this model needs a volume. Choose another "
                "layer there, then choose the model."
            )

    def _on_layer_chosen(self) -> None:
        self._runs_after_verdict = False
        layer = self.layer_combo.layer()
        self.clear_errors()
        self.voxel_size.set_layer(None)
        self.frames.set_layer(None)
        volume = None
        if layer is not None:
            try:
                volume = volume_from_layer(layer, self._viewer)
            except GeoSRError as error:
                self.message.show_error(error)
                layer = None
        if layer is not self.activity.source():
            self.model_box.set_user_choice(False)
            self.strength.set_value(1.0)
        self.model_box.set_volume(volume)
        for row in (self.voxel_size, self.frames, self.notes, self.extent):
            row.set_layer(layer)
        self.noise_box.set_layer(layer)
        self.job_row.set_source(None if volume is None else volume.source)
        self._usable = None if layer is None else weakref.ref(layer)
        self._points.set_layer(layer)
        self._volume = volume
        self._offer_adapting()
        self.verdict_panel.set_scan(volume, layer, self.config, self._points.point())
        self.activity.set_source(layer)
        self._on_extent()
        self._on_settings()
        self.show_busy(self.activity.busy)

    def _on_point_moved(self) -> None:
        """Examine the time point or channel that is now on screen."""
        layer = self.layer_combo.layer()
        if layer is None:
            return
        self._volume = volume = volume_from_layer(layer, self._viewer)
        self.model_box.set_volume(volume)
        self._offer_adapting()
        is_kept = self.model_box.is_user_choice or self.extent.wants_all()
        settings, point = None if is_kept else self.config, self._points.point()
        self.verdict_panel.set_scan(volume, layer, settings, point)
        self._on_settings()
        self.activity.prepare_again()

    def _on_model(self) -> None:
        self._runs_after_verdict = False
        self.clear_errors()  # the errors concern the previous model
        self.uncertainty.set_card(self.model_box.card())
        self.strength.set_card(self.model_box.card())
        self._offer_adapting()
        self._on_settings()

    def _on_extent(self) -> None:
        self.activity.set_extent(self.extent.wants_all())

    def _on_settings(self) -> None:
        self.verdict_panel.set_upscale_factor(self.model_box.compared_factor())
        keeps_scan = self.model_box.model() == NONE
        layer = None if keeps_scan or self._usable is None else self._usable()
        if layer is not self.activity.source():
            self.activity.set_source(layer)
        self.show_busy(self.activity.busy)
        if keeps_scan:
            self.verdict_panel.show_unchanged()
            return
        try:
            self.activity.set_config(self.config())
        except ConfigError as error:
            self.show_settings_error(error)

    def _on_voxel_size(self, layer: Layer) -> None:
        self.model_box.set_volume(volume_from_layer(layer, self._viewer))
        for ranking in self.verdict_panel.rankings:  # the voxels are unchanged
            self.model_box.set_ranking(ranking, propose=False)
        self.activity.prepare_again()

    # Actions

    def _start(self, *, resumes: bool) -> None:
        self._resumes_part = resumes
        self._on_run()

    def _on_discard(self) -> None:
        self.activity.discard_finished_part()
        self.finished_part_row.set_part(None)

    def _on_run(self) -> None:
        self._points.check()
        try:
            config = self.config()
            self.remember(config)
        except GeoSRError as error:
            self.show_settings_error(error)
            return
        self.set_user_choice(True)
        if not (self.activity.is_ready and self.verdict_panel.activity.has_verdict):
            # First examine what the run would do; the user may have to confirm it.
            self._runs_after_verdict = True
            self._expect_run()
            self.message.show_message("Checking the model before the run…")
            self.show_busy(self.activity.busy)
            self.activity.set_config(config)
            if not (self.activity.is_ready or self.activity.busy):
                self.activity.prepare_again()
            self.verdict_panel.activity.find_verdict()
            return
        self.clear_errors()
        if not self.verdict_panel.confirm_run(config.model, self._model_name(config)):
            self.show_busy(self.activity.busy)
            return
        self._show_result(None)
        self._is_harmful = self.verdict_panel.expects_harm
        self._time_left.restart()
        self.preview_button.setChecked(False)
        self.activity.set_config(config)
        self.activity.run(resumes_part=self._resumes_part)
        self.show_busy(self.activity.busy)

    def _expect_run(self) -> None:
        """Let the requested run become a job if it has not begun when napari closes."""
        layer, config, whole = self._chosen_run()
        expected = self.activity.handover, self._awaits_run, self._on_cancel
        copying.expect_run(*expected, layer, self._viewer, config, whole=whole)

    def _awaits_run(self) -> bool:
        return self._runs_after_verdict or self.activity.wants_run

    def _model_name(self, config: RestoreConfig) -> str:
        card = self.model_box.card()
        return config.model if card is None else card.name

    def _on_verdict_ended(self) -> None:
        if self._runs_after_verdict:
            # Defer the run, because it may first ask the user a question.
            self._run_timer.start()

    def _run_after_verdict(self) -> None:
        if self._runs_after_verdict:
            self._runs_after_verdict = False
            self._on_run()

    def _on_find(self) -> None:
        self._runs_after_verdict = False
        self.set_user_choice(False)  # accept the proposal
        self.verdict_panel.request_ranking(self.config)

    def _on_cancel(self) -> None:
        if self._runs_after_verdict:
            self._runs_after_verdict = False
            self.message.clear()
        self.preview_button.setChecked(False)
        self.activity.cancel()
        self.show_busy(self.activity.busy)
        self.progress_label.setText("Stopping…")

    def _on_measure(self) -> None:
        layer = None if self._result is None else self._result()
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer
        # Open Porosity as a tab in front of this dock, both at full height.
        open_dock(self._viewer, POROSITY, lambda dock: dock.choose_image(layer))

    def _copy(self, kind: str) -> None:
        result = None if self._result is None else self._result()
        try:
            layer, config, whole = self._chosen_run()
            text = copying.copy_run(
                kind, layer, self._viewer, config, result, whole=whole
            )
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self.message.show_message(text)

    def _chosen_run(self) -> tuple[Image, RestoreConfig, bool]:
        return self.chosen_layer(), self.config(), self.extent.wants_all()

    def _run_elsewhere(self) -> StoppedRestoration | None:
        layer, config, whole = self._chosen_run()
        ready, name = not self.activity.busy, self._model_name(config)
        if not self.verdict_panel.confirm_sending(config.model, name, ready=ready):
            return None
        return copying.run_elsewhere(layer, self._viewer, config, whole=whole)

    # Results

    def _on_not_ready(self) -> None:
        self._name_run_button()
        self.finished_part_row.set_part(None)
        self.show_no_estimate()
        self.cluster.set_estimate(None)
        self.live.set_ready(None, None)
        self.verdict_panel.set_not_ready()
        if self.model_box.model() == NONE:
            self.verdict_panel.show_unchanged()

    def _on_adapting(self) -> None:
        layer = self.layer_combo.layer()
        self._adapted_to = None if layer is None else weakref.ref(layer)

    def _on_adapted(self, bundle: Path) -> None:
        """Choose the adapted model if its scan is still selected."""
        source = None if self._adapted_to is None else self._adapted_to()
        self._handover.use(bundle, lambda: source is self.layer_combo.layer())

    def _offer_adapting(self) -> None:
        can_adapt = is_adaptable(self.model_box.card()) and not self.extent.is_series()
        model = self.model_box.model() if can_adapt else ""
        self.verdict_panel.adapt_button.set_choice(self._volume, model)

    def _on_ready(self, ready: RunPreparation) -> None:
        self.show_estimate(estimate_text(ready))
        self.cluster.set_estimate(run_estimate(ready))
        self.live.set_ready(ready, self.activity.source())
        self.finished_part_row.set_part(ready.finished_part)
        if (source := self.activity.source()) is not None:
            self.verdict_panel.set_ready(
                source, ready, lambda: chosen_position(source, self._viewer)
            )
        if self._runs_after_verdict and self.verdict_panel.activity.has_verdict:
            self._run_timer.start()

    def show_busy(self, what: str) -> None:
        running, awaited = what == "run", self._awaits_run()
        self.verdict_panel.activity.set_paused(bool(what))
        self._points.set_paused(running)
        self.finished_part_row.setEnabled(not (running or awaited))
        if running:
            self.finished_part_row.set_part(None)
        has_layer = self.activity.source() is not None
        self.preview_button.setEnabled(has_layer and not running)
        self.run_button.setEnabled(has_layer and not (running or awaited))
        self._name_run_button()
        self.cancel_button.setEnabled(awaited or what in ("run", "prepare"))
        for widget in (self.layer_combo, self.extent, self.model_box, self.form):
            widget.setEnabled(not running)
        card = self.model_box.card()
        self.uncertainty.setEnabled(not running and (card is None or card.labels == 1))
        self.show_operation(what, awaited=awaited)

    def _name_run_button(self) -> None:
        """Label the button *Run*, or *Resume* for a stopped run."""
        unfinished = self.activity.unfinished()
        text, tip = RUN
        if unfinished is not None:
            text, tip = RESUME[0], RESUME[1].format(unfinished.name)
        elif self.model_box.model() == NONE:
            tip = "The scan is left as it is. Choose a model to restore it."
        self.run_button.setText(text)
        self.run_button.setToolTip(tip)

    def _on_progress(self, stage: str, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        if stage != "tiles":
            if stage:
                self.progress_label.setText(f"{stage.removesuffix('…')}…")
            return
        left = self._time_left.text(done, total)
        self.progress_label.setText(f"Tile {done} of {total}{left}")

    def _on_warned(self, text: str) -> None:
        self._warnings.append(text)
        self.message.show_message(text, "warning")

    def show_failure(self, error: Exception) -> None:
        self._runs_after_verdict = False
        self.preview_button.setChecked(False)
        self.show_busy(self.activity.busy)
        super().show_failure(error)

    def _on_finished(self, layer: Image, restored: Any, seconds: float) -> None:
        warnings, self._warnings = self._warnings, []
        if restored.complete:
            self.show_done(layer, seconds, warnings, harmful=self._is_harmful)
        elif warnings and self.activity.watch.message:
            self.message.show_message(" ".join(["Stopped.", *warnings]), "warning")
        else:
            self.message.show_message(
                "Stopped. Finished tiles are kept; press Resume for the rest."
            )
        source = self.activity.run_source()
        grey = not restored.volume.holds_labels  # labels are not compared
        self._show_result(layer, measurable=restored.complete and grey)
        data_changed = bool(self.activity.watch.message)
        is_there = source is not None and source in self._viewer.layers
        if grey and is_there and not data_changed:
            self.compare.set_pair(source, layer)
            if restored.complete:
                self.set_checked_pair(source, layer)

    def _show_result(self, layer: Image | None, *, measurable: bool = False) -> None:
        """Enable the actions for a result; with None, disable them."""
        self._result = None if layer is None else weakref.ref(layer)
        self.set_checked_pair(None, None)
        self.check_verdict.clear()
        deviation = None if layer is None else self.activity.deviation()
        self.save_button.set_layer(layer, self.activity.run_file, deviation)
        self.offer_measuring(measurable, harmful=self._is_harmful)

    def _on_layer_removed(self, event: QEvent) -> None:
        if self._result is not None and event.value is self._result():
            self._show_result(None)
            self.withdraw_misfit()
        elif event.value is self.activity.run_source():
            self.set_checked_pair(None, None)
        self._name_run_button()
