"""The *SIM* dock: reconstructs raw frames of structured illumination."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import PreviewReady, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.handover import ExpectedRun, RunHandover
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.option_words import fields_of_options, in_words_of_dock
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.sim import texts
from napari_geosr.gui.sim.job import as_job
from napari_geosr.gui.sim.network_preview import NetworkPreview
from napari_geosr.gui.sim.pattern_layers import PatternLayers
from napari_geosr.gui.sim.pattern_table import check_corrected
from napari_geosr.gui.sim.placement import (
    AssumedDistances,
    frames_key,
    give_pixel_size,
    plane_of_frame,
    show_frame,
    visible_part,
)
from napari_geosr.gui.sim.result_layers import SimResultLayers
from napari_geosr.gui.sim.steps import (
    FloatArray,
    FoundPatterns,
    find_steps,
    for_other_frames,
    preview_steps,
    reconstruct_steps,
    refine_steps,
)
from napari_geosr.gui.sim.widgets import DONE, SimWidgets
from napari_geosr.jobs.stopped.sim import StoppedSim
from napari_geosr.operations.sim import (
    METHOD_TITLES,
    FramesConfig,
    PatternError,
    SimConfig,
    SimResult,
)
from napari_geosr.operations.sim.inputs import STEP_ASSUMED

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

#: Settings that affect the patterns; all others affect only the reconstruction.
_OF_PATTERNS = FramesConfig.model_fields.keys() - {"threads"}
#: Names of the operations.
_FIND, _REFINE, _PREVIEW, _RUN = "find", "refine", "preview", "run"


class SimDock(SimWidgets):
    """Reconstructs structured-illumination frames; draws patterns on the spectrum.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "sim"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._found: FoundPatterns | None = None
        self._found_key: tuple[object, ...] = ()
        #: Layer and settings for which the frames in the strip were drawn.
        self._drawn_key: tuple[object, ...] = ()
        #: Result of each method with the current patterns, for comparison.
        self._answers: dict[str, FloatArray] = {}
        #: Function to call after the pattern search, and whether it is due.
        self._next: Callable[[], None] | None = None
        self._is_next_due = False
        self._assumed = AssumedDistances()
        #: Assumptions that were made when the patterns were found.
        self._remarks, self._notes = tuple[str, ...](), list[str]()
        #: Patterns before a correction that has not been confirmed by a search.
        self._before_move: FoundPatterns | None = None
        #: Whether corrected patterns were discarded with the frames or settings.
        self._is_correction_lost = False
        self._progress = OperationProgress(
            self.bar.state.setText,
            show_bar=self.bar.show_progress,
            shows_time_left=True,
        )
        self.patterns = PatternLayers(self._viewer, self)
        self.results = SimResultLayers(self._viewer)
        self.network = NetworkPreview(self._viewer, self)
        self.handover = RunHandover(self.activity, self, "sim")
        self.handover.can_keep_part = False
        config, error = self.recall(SimConfig)
        for form in self.settings_forms():
            form.set_values(for_other_frames(config).model_dump())
        if error is not None:
            self.message.show_error(error)
        # napari changes scale and units one after the other.
        self._rescaled = QTimer(self)
        self._rescaled.setSingleShot(True)
        self._layer_events = Connections(self)
        self._connect()
        self._on_layer()
        self.show_busy("")

    def _connect(self) -> None:
        self._rescaled.timeout.connect(self._on_changed)
        self.combo.layerChanged.connect(self._on_layer)
        for form in self.settings_forms():
            form.changed.connect(self._on_changed)
        self.find_button.clicked.connect(self._on_find)
        self.preview_button.clicked.connect(self._on_preview)
        self.run_button.clicked.connect(self._on_run)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.cluster.set_run(self._run_elsewhere, self.run_button)
        self.patterns.moved.connect(self._on_moved)
        self.table.edited.connect(self._on_moved)
        self.table.failed.connect(self.show_failure)
        self.strip.drawn.connect(self._on_drawn)
        self.strip.frame_chosen.connect(self._show_frame)
        self.compare.failed.connect(self.show_failure)

    def show_settings_error(self, error: Exception) -> None:
        """Show an error about a pattern above the buttons, and scroll to the table."""
        if not isinstance(error, PatternError):
            super().show_settings_error(error)
            return
        self.message.show_error(self.reworded(error))
        self.scroller.show_part(self.table)

    # Settings

    def config(self) -> SimConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        values: AnyDict = {}
        for form in self.settings_forms():
            values |= form.values()
        # A blank field means automatic, even for settings that are not numbers.
        return SimConfig.create(
            **{k: None if v == "" else v for k, v in values.items()}
        )

    def _source(self) -> Image:
        layer = self.combo.layer()
        if layer is None:
            raise ConfigError(
                "Open the raw frames of a SIM acquisition, and choose their layer."
            )
        return layer

    def _key(self, layer: Image, config: SimConfig) -> tuple[object, ...]:
        """Return a key built from the frames and settings that affect the patterns."""
        return frames_key(layer), config.model_dump_json(include=_OF_PATTERNS)

    def _present_key(self) -> tuple[object, ...]:
        """Return the current key; empty if a setting is invalid."""
        try:
            return self._key(self._source(), self.config())
        except GeoSRError:
            return ()

    def _on_layer(self) -> None:
        """Follow the pixel size and the axes of the chosen layer."""
        self._layer_events.end()
        layer = self.combo.layer()
        if layer is not None:
            for name in ("scale", "affine", "units", "axis_labels", "data"):
                event = getattr(layer.events, name)
                self._layer_events.connect(event, self._on_rescaled)
        self._on_changed()

    def _on_rescaled(self, _event: object) -> None:
        self._rescaled.start(0)

    def _on_changed(self) -> None:
        """Discard patterns of another layer or other settings; draw the frames."""
        key: tuple[object, ...] = ()
        try:
            layer, config = self._source(), self.config()
            key = self._key(layer, config)
            self.answers.show_source(key[0])
            if key != self._drawn_key:
                self._notes = []
                self.strip.look(volume_from_layer(layer, whole=True), config)
        except GeoSRError:
            self.strip.look(None, None)
        if key[:1] != self._drawn_key[:1]:  # the figures describe other frames
            self.figures.setVisible(False)
        self._drawn_key = key
        if self._found is not None and key != self._found_key:
            self._is_correction_lost |= self._found.corrected is not None
            if self._is_correction_lost:
                self.show_warning(texts.CORRECTION_LOST)
            self._found = None
            self.patterns.remove()
        self._offer(busy=bool(self.activity.busy))
        if not self.activity.busy:
            self._show_found()

    def _current(self, config: SimConfig) -> FoundPatterns | None:
        """Return the patterns on screen if they match the chosen layer and settings.

        Their frames are at the current position of the layer, which may have moved.
        """
        layer = self._source()
        if self._found is None or self._found_key != self._key(layer, config):
            return None
        return self._found.moved_to(geometry_of_layer(layer).origin)

    # Actions

    def _prepare(self) -> tuple[Image, SimConfig]:
        self._on_changed()  # no event announces that an array was changed in place
        self.clear_errors()
        self._progress.restart()
        layer, config = self._source(), self.config()
        if config.pixel is not None and give_pixel_size(
            self._viewer, layer, config.pixel / 1000
        ):
            self._assumed.add(layer)
        self.remember(for_other_frames(config))
        return layer, config

    def _on_find(self) -> None:
        try:
            layer, config = self._prepare()
            volume = volume_from_layer(layer, whole=True)
        except GeoSRError as error:
            self.show_settings_error(error)
            return
        self._start_find(layer, volume, config)

    def _start_find(
        self,
        layer: Image,
        volume: Volume,
        config: SimConfig,
        then: Callable[[], None] | None = None,
    ) -> None:
        key = self._key(layer, config)
        source = weakref.ref(layer)

        def on_found(found: FoundPatterns) -> None:
            self._on_found(found, key, source())
            if self._next is not None and self._found is found:
                self._is_next_due = True
                self.activity.idle.connect(self._go_on)

        self._next = then
        self.activity.start(
            _FIND,
            lambda stop: find_steps(volume, config, stop),
            on_found,
            on_step=self._progress.show_step,
        )

    def _go_on(self) -> None:
        """Do what was requested before the patterns were known."""
        self.activity.idle.disconnect(self._go_on)
        then, self._next, self._is_next_due = self._next, None, False
        if then is not None:
            then()

    def _is_run_awaited(self) -> bool:
        """Return whether a requested run has yet to begin."""
        return self._next is not None and (
            self.activity.busy == _FIND or self._is_next_due
        )

    def _withdraw_run(self) -> None:
        self._next = None
        self.activity.cancel()

    def _on_found(
        self, found: FoundPatterns, key: tuple[object, ...], layer: Image | None
    ) -> None:
        if layer is None or layer not in self._viewer.layers:
            return
        if key != self._present_key():
            self.show_warning(texts.CHANGED)
            return
        self._found, self._found_key, self._answers = found, key, {}
        self._notes = self._progress.notes
        self.patterns.show(found, layer)
        self._show_found()
        self.scroller.show_part(self.table)
        remarks = list(self._progress.warnings)
        if layer in self._assumed:
            remarks += [STEP_ASSUMED] * (found.frames.n_planes > 1)
        if self._is_correction_lost:
            remarks.append(texts.CORRECTION_LOST)
        self._is_correction_lost = False
        self._remarks = tuple(remarks)
        self._show_warnings([*self._remarks, *found.check.warnings])

    def _show_warnings(self, warnings: Sequence[str]) -> None:
        if warnings:
            self.show_warning(" ".join(dict.fromkeys(warnings)))

    def _show_found(self) -> None:
        found = self._found
        self.table.show_estimate(None if found is None else found.estimate)
        self.hint.setVisible(found is not None)
        shown = self.strip.overview if found is None else found
        text = ""
        if shown and (found is not None or self.strip.shows_raw_frames):
            text = texts.arrangement(shown.frames, self._notes)
        self.arrangement.setText(in_words_of_dock(text, self))
        self.arrangement.setVisible(bool(text))
        self.show_next(None if found is None else found.estimate.problems)

    def _on_drawn(self) -> None:
        overview = self.strip.overview
        if overview is not None:
            text, _ = fields_of_options(overview.remark, self.settings_forms())
            self.strip.show_remark(text)
        if not self.activity.busy:
            self._show_found()

    def _show_frame(self, angle: int, phase: int) -> None:
        """Move the sliders to a frame of the middle slice."""
        overview, layer = self.strip.overview, self.combo.layer()
        if overview is not None and layer is not None:
            show_frame(self._viewer, layer, overview.frames, (angle, phase))

    def _on_moved(self, near: PatternSet) -> None:
        """Find the patterns again, close to a peak that the user has moved."""
        found = self._found
        if found is None:
            return
        if self.activity.busy:
            self._undo_move(found)
            return
        try:
            config = self.config()
            check_corrected(found.estimate, near)
        except GeoSRError as error:
            self._undo_move(found)
            self.show_settings_error(error)
            return
        self.message.clear()
        self._before_move = found
        self.activity.start(
            _REFINE,
            lambda stop: refine_steps(found, near, config, stop),
            self._on_refined,
            on_step=self._progress.show_step,
        )

    def _undo_move(self, found: FoundPatterns) -> None:
        self.patterns.update_patterns(found.estimate.patterns)
        self.table.reset()

    def _on_refined(self, found: FoundPatterns) -> None:
        self._before_move = None
        if self._found is None:
            return
        self._found, self._answers = found, {}
        self.patterns.update_patterns(found.estimate.patterns)
        self._show_found()
        self._show_warnings(found.estimate.problems)

    def _on_preview(self) -> None:
        try:
            layer, config = self._prepare()
            found = self._current(config)
            if found is None:
                volume = volume_from_layer(layer, whole=True)
                self._start_find(layer, volume, config, then=self._on_preview)
                return
            found.estimate.require()
            place = visible_part(self._viewer, layer, found.frames)
            at = plane_of_frame(self._viewer, layer, found.frames)
        except GeoSRError as error:
            self.show_settings_error(error)
            return
        self.activity.start(
            _PREVIEW,
            lambda stop: preview_steps(found, config, place, at, stop),
            lambda volume: self._on_previewed(volume, layer),
            on_step=self._progress.show_step,
        )

    def _on_previewed(self, volume: Volume, source: Image) -> None:
        if source in self._viewer.layers:
            self.results.show_preview(volume, source)

    def _on_run(self) -> None:
        try:
            layer, config = self._prepare()
            found = self._current(config)
            volume = volume_from_layer(layer, whole=True)
            if found is not None:
                found.estimate.require()
        except GeoSRError as error:
            self.show_settings_error(error)
            return
        description = f"{METHOD_TITLES[config.method]} of {layer.name}"
        job = as_job(self._viewer, layer, config, found)
        if found is None:  # show the patterns before they are used
            self._start_find(layer, volume, config, then=self._on_run)
            self.handover.expect(
                description,
                lambda: job,
                ExpectedRun(self._is_run_awaited, self._withdraw_run),
            )
            return
        source, answers, key = weakref.ref(layer), self._answers, frames_key(layer)
        self.answers.show_source(key)
        self.handover.begin(_RUN, description, lambda: job)
        self.network.begin()
        self.activity.start(
            _RUN,
            lambda stop: reconstruct_steps(volume, config, found, answers, stop),
            lambda result: self._on_done(result, source(), key),
            on_step=lambda step: self._on_run_step(step, source()),
            description=description,
        )

    def _on_run_step(self, step: Step, source: Image | None) -> None:
        """Show progress, and the network's current reconstruction of the frames."""
        if not isinstance(step, PreviewReady):
            self._progress.show_step(step)
        elif source is not None and source in self._viewer.layers:
            name = f"{source.name} · network (preview)"
            self.network.show(
                step.volume,
                lambda v: self.results.add(v, source, name, helper="preview"),
            )

    def _run_elsewhere(self) -> StoppedSim:
        layer, config = self._prepare()
        found = self._current(config)
        if found is not None:
            found.estimate.require()
        return as_job(self._viewer, layer, config, found)

    def _on_done(
        self, result: SimResult, source: Image | None, key: tuple[object, ...]
    ) -> None:
        if source is None or source not in self._viewer.layers:
            source = None
        title = METHOD_TITLES[result.method]
        name = title if source is None else f"{source.name} · {title}"
        layer = self.results.add(result.volume, source, name)
        self.answers.add(result.method, layer, key)
        self.results.show_trust(result, source, layer.name)
        if source is not None and self._drawn_key[:1] == (key,):
            self._notes = list(dict.fromkeys([*self._notes, *self._progress.notes]))
            self._show_found()
            self.figures.set_figures(texts.figures(result))
            self.figures.setVisible(True)
            self.bar.state.set_idle(DONE)
        warnings = [*self._remarks, *self._progress.warnings]
        warnings += texts.warnings_of(result)
        self._show_warnings(warnings)
        if not warnings:
            self.message.show_message(f"Added {layer.name}.", "ok")

    def _on_cancel(self) -> None:
        self.bar.state.setText("Stopping…")
        self.activity.cancel()

    def show_busy(self, what: str) -> None:
        busy = bool(what)
        self._offer(busy=busy)
        self.cancel_button.setEnabled(busy)
        self.bar.progress.setVisible(busy)
        if busy:
            self.bar.progress.setRange(0, 0)
        else:
            self.network.end()
            self.bar.state.setText("")
            before, self._before_move = self._before_move, None
            if before is not None and self._found is before:  # no result
                self._undo_move(before)
            if self._found is None:  # perhaps discarded during the operation
                self._show_found()

    def _offer(self, *, busy: bool) -> None:
        for action in (self.find_button, self.preview_button, self.run_button):
            action.setEnabled(not busy and self.combo.layer() is not None)
