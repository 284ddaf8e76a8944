"""The *Segment* dock: paint a few strokes, view the classes, segment the scan."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QTreeWidgetItem

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.handover import RunHandover
from napari_geosr.gui.kit.activity import Key
from napari_geosr.gui.kit.dock_tabs import POROSITY, TRAIN
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.lifetime import Connections, unwrapped
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.layers import (
    chosen_position,
    finest,
    volume_beside,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import centre_on
from napari_geosr.gui.layers.geometry import check_same_transform
from napari_geosr.gui.segment.activity import (
    ANSWER,
    COMPARE,
    FINE_TUNE,
    LONG,
    SEGMENT,
    SUGGEST,
    StrokesActivity,
)
from napari_geosr.gui.segment.fine_tuning import fill_train_dock, read_settings_steps
from napari_geosr.gui.segment.job import as_job
from napari_geosr.gui.segment.layers import (
    SegmentedScan,
    SegmentTarget,
    SliceLayers,
    add_class_as_pores,
    add_strokes,
    show_result,
    slice_on_screen,
    warm_up,
)
from napari_geosr.gui.segment.widgets import CLASSES, UNCERTAINTY, SegmentWidgets
from napari_geosr.operations import segment
from napari_geosr.operations.segment import SegmentConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Labels

    from napari_geosr.core.types import AnyDict
    from napari_geosr.jobs.stopped.segmentation import StoppedSegmentation
    from napari_geosr.operations.segment import (
        PretrainingComparison,
        Segmenter,
        StrokeAnswer,
        Suggestion,
    )

#: Message when the segmentation of the whole scan was cancelled.
_NO_LAYER = "Cancelled. No layer was added."


class SegmentDock(SegmentWidgets):
    """Segments a scan from strokes, and predicts the current slice after each stroke.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "segment"
    activity: StrokesActivity

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.shown_layers = SliceLayers(self._viewer)
        self._segmenter: Segmenter | None = None
        self._segmenter_key: Key | None = None
        self._scan_key: Key = ()
        self._answer: StrokeAnswer | None = None
        self._revision, self._is_done = 0, False
        self._history: tuple[int, int] = (0, 0)
        self._result: weakref.ref[Labels] | None = None
        self._painted = Connections(self)
        self._progress = OperationProgress(
            self.bar.state.setText,
            show_bar=self.bar.show_progress,
            show_warning=self.show_warning,
            shows_time_left=True,
        )
        self.activity.key, self.activity.begin = self.answer_key, self._begin
        self.handover = RunHandover(self.activity, self, SEGMENT)
        self.handover.can_keep_part = False
        config, error = self.recall(SegmentConfig)
        self.form.set_values(config.model_dump())
        if error is not None:
            self.message.show_error(error)
        self._connect()
        self._on_layers()

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Compile the random forest, which takes seconds the first time."""
        yield from ()
        segment.warm_up()
        warm_up()

    def _make_activity(self) -> StrokesActivity:
        return StrokesActivity(self)

    def _connect(self) -> None:
        self.scan.layerChanged.connect(self._on_layers)
        self.strokes.layerChanged.connect(self._on_layers)
        self.new_button.clicked.connect(self.add_labels)
        self.live.toggled.connect(self._on_live)
        self.shown.currentIndexChanged.connect(self._show_answer)
        self.form.changed.connect(self.activity.on_change)
        self.suggest_button.clicked.connect(lambda: self._request(SUGGEST))
        self.slices.itemClicked.connect(self._on_slice)
        self.slices.itemActivated.connect(self._on_slice)
        self.segment_button.clicked.connect(lambda: self._request(SEGMENT))
        self.cluster.set_run(self._run_elsewhere, self.segment_button)
        self.cancel_button.clicked.connect(self.cancel)
        self.porosity_button.clicked.connect(self.open_porosity)
        self.compare_button.clicked.connect(lambda: self._request(COMPARE))
        self.tune_button.clicked.connect(lambda: self._request(FINE_TUNE))
        self.form.changed.connect(self._on_form)
        self.connections.connect(self._viewer.dims.events.current_step, self._on_view)
        self.connections.connect(self._viewer.dims.events.ndisplay, self._on_view)

    # Choices

    def settings_forms(self) -> tuple[ConfigForm, ...]:
        """Return the form with the settings."""
        return (self.form,)

    def config(self) -> SegmentConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If one of them is invalid.
        """
        return SegmentConfig.create(**self.form.values())

    def add_labels(self) -> None:
        """Add an empty Labels layer on the scan's grid, and propose slices to paint."""
        scan = self.scan.layer()
        if scan is None:
            return
        try:
            volume = volume_from_layer(scan, self._viewer)
        except GeoSRError as error:
            self.show_failure(error)
            return
        self.message.clear()
        self.strokes.set_layer(add_strokes(self._viewer, scan, volume))
        self._on_layers()
        if volume.axes == "ZYX":
            self.activity.request(SUGGEST)

    def slice_on_screen(self) -> int | None:
        """Return the index of the current slice; None if the view shows no slice."""
        layer = self.strokes.layer()
        return None if layer is None else slice_on_screen(self._viewer, layer)

    def answer_key(self) -> Key | None:
        """Return a key built from everything that affects the prediction.

        None if there is nothing to predict.
        """
        scan, strokes, z = (
            self.scan.layer(),
            self.strokes.layer(),
            self.slice_on_screen(),
        )
        if scan is None or strokes is None or z is None or not self.live.isChecked():
            return None
        position = sorted(chosen_position(scan, self._viewer).items())
        settings = repr(self.form.values())
        return (id(scan), *position, id(strokes), self._revision, z, settings)

    def _on_layers(self) -> None:
        """Handle another scan or other strokes."""
        self.shown_layers.clear()
        self.comparison.hide()  # the sentence is about other layers
        self._answer = None
        self._painted.end()
        layer = self.strokes.layer()
        if layer is not None:
            events = layer.events
            for emitter in (events.paint, events.labels_update, events.data):
                self._painted.connect(emitter, self._on_stroke)
            self._painted.connect(events.set_data, self._on_refreshed)
        self._on_stroke()
        self.show_busy(self.activity.busy)

    def _on_stroke(self, _event: object = None) -> None:
        self._revision += 1
        self._is_done = False
        self.comparison.hide()  # the sentence is about earlier strokes
        self.activity.on_change()

    def _on_refreshed(self, _event: object = None) -> None:
        """Handle undo and redo, which napari reports only as a redraw."""
        layer = self.strokes.layer()
        history = tuple(
            len(getattr(layer, name, ())) for name in ("_undo_history", "_redo_history")
        )
        if history != self._history:
            self._history = (history[0], history[1])
            self._on_stroke()

    def _on_view(self, _event: object = None) -> None:
        self.activity.on_change()

    def _on_live(self, is_live: bool) -> None:
        if is_live:
            self.activity.answer_again()
        else:
            self.shown_layers.clear()

    # Running

    def _request(self, what: str) -> None:
        self.clear_errors()
        self.activity.request(what)

    def cancel(self) -> None:
        """Stop the running operation at its next step."""
        if self.activity.busy:
            self.activity.cancel()
            self.bar.state.setText("Stopping…")

    def show_busy(self, what: str) -> None:
        """Enable the controls that can be used while `what` is running."""
        scan, strokes = self.scan.layer(), self.strokes.layer()
        has_both = scan is not None and strokes is not None
        is_long = what in LONG
        for widget in (self.scan, self.strokes, self.advanced):
            widget.setEnabled(not is_long)
        self.new_button.setEnabled(scan is not None and not is_long)
        self.suggest_button.setEnabled(scan is not None and not is_long)
        self.segment_button.setEnabled(has_both and not is_long)
        self.tune_button.setEnabled(has_both and not is_long)
        has_model = bool(self.form.values().get("model"))
        self.compare_button.setEnabled(has_both and has_model and not is_long)
        self.cancel_button.setEnabled(what in (*LONG, SUGGEST))
        self._show_next()
        self.bar.state.setText("Segmenting this slice…" if what == ANSWER else "")
        if not what:
            self.bar.progress.setVisible(False)

    def _show_next(self) -> None:
        self.show_next(has_answer=self._answer is not None, is_done=self._is_done)

    def _begin(self, what: str) -> None:
        scan = self.scan.layer()
        if scan is None:
            return
        volume = volume_from_layer(scan, self._viewer)
        position = sorted(chosen_position(scan, self._viewer).items())
        # The segmenter holds a reference to the array, so that no other array can have
        # the same id.
        self._scan_key = (id(finest(scan)), *position)
        config = self.config()
        self._progress.restart()
        if what == SUGGEST:
            self._start_suggesting(volume, config)
            return
        painted = self._painted_volume(scan)
        if what == SEGMENT:
            self.remember(config)
            self._start_segmenting(scan, volume, painted, config)
        elif what == COMPARE:
            self._start_comparing(volume, painted, config)
        elif what == FINE_TUNE:
            self._start_fine_tuning(painted, config)
        elif (z := self.slice_on_screen()) is not None:
            self._start_answering(volume, painted, config, z)

    def _painted_volume(self, scan: Image) -> Volume:
        """Return the painted labels, which must be aligned with the scan."""
        layer = self.strokes.layer()
        if layer is None:
            raise ConfigError("Choose the labels, or press New labels.")
        check_same_transform(layer, scan, what="labels")
        return volume_beside(layer, scan, self._viewer)

    def _run_elsewhere(self) -> StoppedSegmentation | None:
        self.clear_errors()
        scan = self.scan.layer()
        if scan is None:
            return None
        config, painted = self.config(), self._painted_volume(scan)
        self.remember(config)
        return self._as_job(scan, painted, config)

    def _as_job(
        self, scan: Image, painted: Volume, config: SegmentConfig
    ) -> StoppedSegmentation:
        keeps = self.probabilities.isChecked()
        return as_job(self._viewer, scan, painted, config, keeps_probabilities=keeps)

    def _start_answering(
        self, volume: Volume, painted: Volume, config: SegmentConfig, z: int
    ) -> None:
        def steps(stop: ShouldStop) -> Generator[Step, None, StrokeAnswer]:
            segmenter = self._segmenter_for(volume, config)
            yield from ()
            return (
                yield from segment.answer_steps(segmenter, painted, z, config, stop)
            )

        self.activity.start(
            ANSWER,
            steps,
            lambda answer: self._on_answer(answer, volume),
            on_step=lambda _step: None,
            on_error=self._on_answer_error,
        )

    def _start_suggesting(self, volume: Volume, config: SegmentConfig) -> None:
        def steps(stop: ShouldStop) -> Generator[Step, None, list[Suggestion]]:
            segmenter = self._segmenter_for(volume, config)
            return (yield from segment.suggest_steps(segmenter, stop))

        self.activity.start(
            SUGGEST, steps, self.show_suggestions, on_step=self._progress.show_step
        )

    def _start_segmenting(
        self, scan: Image, volume: Volume, painted: Volume, config: SegmentConfig
    ) -> None:
        target = SegmentTarget.of(scan, segment.name_of_result(volume), self._viewer)
        source = weakref.ref(unwrapped(scan))
        job, what = self._as_job(scan, painted, config), f"Segmenting {volume.name}"
        self.handover.begin(SEGMENT, what, lambda: job)

        def steps(stop: ShouldStop) -> Generator[Step, None, SegmentedScan]:
            segmenter = self._segmenter_for(volume, config)
            made = yield from segment.segmented_layer_steps(
                segmenter, painted, config, stop
            )
            return SegmentedScan.of(made, target, stop)

        self.activity.start(
            SEGMENT,
            steps,
            lambda made: self._on_segmented(made, source()),
            on_step=self._progress.show_step,
            on_error=lambda error: self._on_long_error(error, _NO_LAYER),
            description=what,
        )

    def _start_comparing(
        self, volume: Volume, painted: Volume, config: SegmentConfig
    ) -> None:
        def steps(stop: ShouldStop) -> Generator[Step, None, PretrainingComparison]:
            segmenter = self._segmenter_for(volume, config)
            return (yield from segment.compare_steps(segmenter, painted, config, stop))

        self.comparison.hide()
        revision = self._revision
        self.activity.start(
            COMPARE,
            steps,
            lambda found: self._on_compared(found, revision),
            on_step=self._progress.show_step,
            on_error=self._on_long_error,
        )

    def _start_fine_tuning(self, painted: Volume, config: SegmentConfig) -> None:
        self.activity.start(
            FINE_TUNE,
            lambda stop: read_settings_steps(painted, config.model, stop),
            self._on_settings_read,
            on_step=self._progress.show_step,
            on_error=self._on_long_error,
        )

    def _segmenter_for(self, volume: Volume, config: SegmentConfig) -> Segmenter:
        """Return the segmenter of a scan, with its features; called in a worker."""
        key: Key = (self._scan_key, config)
        if self._segmenter is None or self._segmenter_key != key:
            self._segmenter = segment.open_segmenter(volume, config)
            self._segmenter_key = key
        return self._segmenter

    # Results

    def _on_answer(self, answer: StrokeAnswer, volume: Volume) -> None:
        self._answer = answer
        self._answered_volume = volume
        self.message.clear()
        self._show_next()
        self.offer_classes(answer.classes)
        self._show_answer()

    def _on_answer_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self.activity.answer_again()
        elif isinstance(error, segment.TooFewClassesError):
            self._answer = None
            self.shown_layers.clear()
            self._show_next()
        else:
            self.show_failure(error)

    def _show_answer(self, _index: int = 0) -> None:
        """Show the prediction of the slice, and the chosen overlay."""
        scan, strokes, answer = self.scan.layer(), self.strokes.layer(), self._answer
        if scan is None or strokes is None or answer is None:
            return
        place = answer.z, self._answered_volume, scan, strokes
        found = answer.found
        self.shown_layers.show_labels(found.labels, *place)
        chosen, index = self.shown.currentText(), self.shown.currentIndex() - 2
        if chosen == CLASSES or index >= len(answer.classes):
            self.shown_layers.hide_values()
        elif chosen == UNCERTAINTY:
            self.shown_layers.show_values(found.entropy, *place)
        else:
            self.shown_layers.show_values(found.probabilities[index], *place)

    def _on_slice(self, item: QTreeWidgetItem, _column: int = 0) -> None:
        """Go to a proposed slice."""
        layer = self.strokes.layer() or self.scan.layer()
        if layer is not None:
            z, (height, width) = int(item.text(0)), layer.data.shape[-2:]
            centre_on(self._viewer, layer, (z, height / 2, width / 2))

    def _on_form(self) -> None:
        self.comparison.hide()  # the sentence is about other settings
        self.show_busy(self.activity.busy)

    def _on_compared(self, found: PretrainingComparison, revision: int) -> None:
        if revision != self._revision:
            self.message.show_message("The labels have changed. Compare again.")
            return
        self.comparison.setText(found.sentence())
        self.comparison.show()
        self.scroller.show_part(self.comparison)

    def _on_settings_read(self, settings: AnyDict) -> None:
        scan, strokes = self.scan.layer(), self.strokes.layer()
        if scan is None or strokes is None:
            self.message.show_message("Choose a scan and its labels.", "warning")
            return
        open_dock(
            self._viewer,
            TRAIN,
            lambda dock: fill_train_dock(dock, scan, strokes, settings),
        )

    def _on_long_error(self, error: Exception, cancelled: str = "Cancelled.") -> None:
        if isinstance(error, Cancelled):
            self.message.show_message(cancelled)
        else:
            self.show_failure(error)

    def _on_segmented(self, made: SegmentedScan, scan: Image | None) -> None:
        self.shown_layers.clear()
        layer = show_result(self._viewer, made, scan, self.strokes.layer())
        self._result, self._result_volume = weakref.ref(layer), made.volume
        self.show_fractions(made.fractions)
        self._is_done = True
        self.scroller.show_part(self.results)
        if self._progress.warnings:
            texts = filter(None, (*self._progress.warnings, made.note))
            self.show_warning("\n".join(texts))
            return
        texts = filter(None, (f"The result is in the layer {layer.name!r}.", made.note))
        self.message.show_message(" ".join(texts), "info" if made.note else "ok")

    def open_porosity(self) -> None:
        """Open the Porosity dock with the chosen class as pores."""
        result = None if self._result is None else self._result()
        if result is None or result not in self._viewer.layers:
            self.message.show_message(
                "The segmented layer was removed. Segment the scan again.", "warning"
            )
            return
        number = int(self.of_class.currentData())
        layer = add_class_as_pores(self._viewer, result, self._result_volume, number)
        open_dock(self._viewer, POROSITY, lambda dock: dock.choose_image(layer))
