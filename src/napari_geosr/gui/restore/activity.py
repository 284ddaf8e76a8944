"""Operations of the Restore dock, without widgets: prepare, preview, run, stop."""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import (
    Step,
    TargetReady,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.handover import RunHandover
from napari_geosr.gui.kit.activity import PREVIEW, Activity, Key
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import (
    METADATA,
    add_result,
    chosen_position,
    layer_metadata,
    part_of_file,
    series_alignment_with,
    volume_from_layer,
)
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.layers.explained import source_entry
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.questions.noise import known_noise_of
from napari_geosr.gui.layers.questions.record import is_answered
from napari_geosr.gui.layers.refresh import Refresher, rename
from napari_geosr.gui.restore.deviation_layer import DeviationLayer, with_upper_limit
from napari_geosr.gui.restore.preparation import (
    RunPreparation,
    prepare_run_steps,
    preview_edge,
    steps_factory,
    stopped_run,
    with_layer_name,
    with_new_strength,
)
from napari_geosr.gui.restore.preview import (
    PREVIEW_EDGES,
    PreviewLayer,
    Region,
    region_on_screen,
)
from napari_geosr.gui.restore.source_watch import SourceWatch
from napari_geosr.operations import restore as operation
from napari_geosr.operations import storage
from napari_geosr.operations.restore import RestorationResult, RestoreConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Labels, Layer
    from napari.utils.events import Event

    from napari_geosr.operations.restore.resume import FinishedPart

#: Names of the operations other than previews.
PREPARE, RUN = "prepare", "run"


class RestoreActivity(Activity):
    """Prepares, previews and restores for one dock, one operation at a time.

    Attributes
    ----------
    run_file : Path or None
        File with the data that the last run restored.
    watch : SourceWatch
        Reports changes to the source during the last run.

    Signals
    -------
    ready : RunPreparation
        The prepared run: layer and model are compatible, and the run time has been
        estimated.
    notReady
        Layer, model or settings changed: the prepared run is no longer valid.
    previewed : Image, Layer
        A layer, and the preview of its visible part.
    finished : object, object, float
        The result layer, the `RestorationResult`, and its duration in seconds.
    """

    ready = Signal(object)
    notReady = Signal()
    previewed = Signal(object, object)
    finished = Signal(object, object, float)

    _debounce_ms = 120

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: weakref.ref[Image] | None = None
        self._config = RestoreConfig()
        self._wants_all = False
        self._ready: RunPreparation | None = None
        self._is_announced = False  # whether `ready` was emitted since the last change
        self._doubts: list[str] = []  # from the preparation; shown when the run starts
        self._preview = PreviewLayer(viewer, self)
        self._preview_key: Key | None = None
        self._preview_edge = PREVIEW_EDGES[0]
        self._previewing: tuple[Region, dict[str, int]] = ((), {})
        self._run_key: Key | None = None
        self._stopped: Volume | None = None  # partial result of the last run
        self._run_source: weakref.ref[Image] | None = None
        self.run_file: Path | None = None
        self._target: weakref.ref[Image | Labels] | None = None
        self._deviation = DeviationLayer(viewer)
        self._restored_from: AnyDict = {}
        self.handover = RunHandover(self, parent, "restore")
        self._run_result: RestorationResult | None = None
        self._resumes_part = False
        self.watch = SourceWatch()
        self._original_name = ""  # name of the target; the user may rename it
        self._refreshers: list[Refresher] = []
        # Defer removals: the layer list must not change while a layer is being removed.
        self._preview_timer = QTimer(self)
        self._preview_timer.setSingleShot(True)
        self._preview_timer.timeout.connect(self._remove_orphaned_preview)
        connections = Connections(parent)
        for emitter, slot in (
            (viewer.layers.events.removed, self._on_removed),
            (viewer.dims.events.point, self._on_moved),
            (viewer.dims.events.order, self._on_moved),
            (viewer.dims.events.ndisplay, self._on_moved),
            (viewer.scene.camera.events.center, self._on_moved),
            (viewer.scene.camera.events.zoom, self._on_moved),
        ):
            connections.connect(emitter, slot)

    # User requests.

    @property
    def is_ready(self) -> bool:
        """Whether the run is prepared with these settings and `ready` was emitted."""
        layer = self.source()
        if self._ready is None or layer is None or not self._is_announced:
            return False
        try:
            return self._ready.key == self._key(layer)
        except GeoSRError:
            return False

    @property
    def wants_run(self) -> bool:
        """Whether a run has been requested but has not yet begun."""
        return RUN in self._requests

    def source(self) -> Image | None:
        """Return the layer to restore, if it still exists."""
        return None if self._source is None else self._source()

    def run_source(self) -> Image | None:
        """Return the layer that the last run restored, if it still exists.

        This layer differs from `source` if another one has been chosen since then.
        """
        return None if self._run_source is None else self._run_source()

    def target(self) -> Image | Labels | None:
        """Return the layer that the last run filled, if it still exists."""
        return None if self._target is None else self._target()

    def deviation(self) -> Image | None:
        """Return the layer of standard deviations of the last run, if there is one."""
        return self._deviation.layer()

    def unfinished(self) -> Image | Labels | None:
        """Return the partial result that `run` would resume, if there is one.

        There is one if the last run was stopped and nothing has changed since.
        """
        layer, target = self.source(), self.target()
        if self._stopped is None or layer is None or self._busy == RUN:
            return None
        if target is None or target not in self._viewer.layers:
            return None
        if not self._deviation.can_resume():
            return None
        try:
            same = self._key(layer) == self._run_key
        except GeoSRError:
            return None
        # If the layer was given other data, it is no longer the partial result.
        return target if same and target.data is self._stopped.data else None

    def set_source(self, layer: Image | None) -> None:
        """Choose the layer to restore."""
        if layer is not self.source():
            self._requests.discard(RUN)  # the run was requested for the previous layer
        self._source = None if layer is None else weakref.ref(layer)
        self._restart_later()

    def set_config(self, config: RestoreConfig) -> None:
        """Choose the model and settings."""
        if config != self._config:
            self._config = config
            self._restart_later()

    def set_extent(self, wants_all: bool) -> None:
        """Choose to restore all time points and channels, or only those on screen."""
        if wants_all != self._wants_all:
            self._wants_all = wants_all
            self._restart_later()

    def prepare_again(self) -> None:
        """Prepare again after the layer's voxel size or data have changed."""
        self._restart_later()

    def set_preview(self, enabled: bool) -> None:
        """Keep a restored copy of the region on screen up to date, or remove it."""
        if enabled:
            self._request_operation(PREVIEW)
            return
        self._requests.discard(PREVIEW)
        self._preview.remove()
        self._preview_key = None
        if self._busy == PREVIEW:
            self.cancel()

    def finished_part(self) -> FinishedPart | None:
        """Return the finished part of an earlier run that was killed, if any."""
        if self._ready is None or not self.is_ready:
            return None
        return self._ready.finished_part

    def discard_finished_part(self) -> None:
        """Delete the finished part from the disk."""
        part = self.finished_part()
        if part is not None and self._ready is not None:
            self._ready = replace(self._ready, finished_part=None)
            storage.discard(part.volume)

    def run(self, *, resumes_part: bool = False) -> None:
        """Restore the whole layer, or complete an unfinished run.

        Parameters
        ----------
        resumes_part : bool
            Whether to resume a run that was killed; see `finished_part`.
        """
        self._resumes_part = resumes_part
        self._request_operation(RUN)
        if self._busy == PREVIEW:
            self.cancel(keep_requests=True)

    def _restart_later(self) -> None:
        if self._busy in (PREPARE, PREVIEW):
            self.cancel(keep_requests=True)
        self._is_announced = False
        self.notReady.emit()
        super()._restart_later()

    def _on_moved(self, _event: object = None) -> None:
        if PREVIEW in self._requests and self._busy != RUN:
            self._timer.start(self._debounce_ms)

    def _on_removed(self, event: Event) -> None:
        layer: Layer = event.value
        if layer is self._preview.layer:
            self._preview.layer = self._preview_key = None
        elif layer is self._preview.source:
            self._preview_timer.start(0)
        if layer is self.source():
            self._ready = None  # releases the layer's data
        if layer is self.target():
            self._stopped = self._deviation.stopped = None  # releases the result's data
        if self._busy == RUN:
            if layer is self.run_source():
                self.warned.emit(self.watch.end(layer))
                self.cancel()
            elif layer is self.target():
                self.cancel()
        elif layer is self.source():
            self.cancel()  # also drops a requested run

    def _remove_orphaned_preview(self) -> None:
        """Remove a preview of a layer that no longer exists."""
        source = self._preview.source
        if source is None or source not in self._viewer.layers:
            self._preview.remove()
            self._preview_key = None

    def _key(self, layer: Image) -> Key:
        """Build a key from everything that affects statistics, verdict and estimate."""
        place = geometry_of_layer(layer)
        return (
            id(layer),
            contents_key(layer),
            (place.axes, place.voxel_size, place.origin, place.unit),
            (is_answered(layer), known_noise_of(layer)),
            self._wants_all or tuple(chosen_position(layer, self._viewer).items()),
            self._config,
        )

    def _cancel_if_outdated(self) -> None:
        layer = self._usable_source()
        if layer is not None and self._busy == PREVIEW and self._is_outdated(layer):
            self.cancel(keep_requests=True)

    def _usable_source(self) -> Image | None:
        layer = self.source()
        return layer if layer is not None and layer in self._viewer.layers else None

    def _start_next(self) -> None:
        layer = self._usable_source()
        if layer is None:
            return
        key = self._attempted_key = self._key(layer)
        if self._ready is not None and self._ready.key != key:
            other = with_new_strength(self._ready, key)
            if other is not None:
                self._announce(other)
        if self._ready is None or self._ready.key != key:
            if key != self._failed_key:
                self._start_prepare(layer, key)
            return
        if not self._is_announced:  # a setting was changed and then changed back
            self._announce(self._ready)
        if RUN in self._requests:
            self._start_run(layer, self._ready)
        elif PREVIEW in self._requests:
            self._start_preview(layer, self._ready)

    def _start_prepare(self, layer: Image, key: Key) -> None:
        self._ready = None
        self._doubts = []
        config = self._config
        volume = volume_from_layer(layer, self._viewer, whole=self._wants_all)
        self.start(
            PREPARE,
            lambda should_stop: prepare_run_steps(volume, config, should_stop),
            lambda result: self._on_prepared(RunPreparation(key, *result)),
        )

    def _on_prepared(self, ready: RunPreparation) -> None:
        layer = self.source()
        if layer is not None and self._key(layer) == ready.key:
            self._preview_edge = preview_edge(ready)
            self._announce(ready)

    def _announce(self, ready: RunPreparation) -> None:
        self._ready, self._is_announced = ready, True
        self.ready.emit(ready)

    def _start_preview(self, layer: Image, ready: RunPreparation) -> None:
        region, position = self._on_screen(layer)
        places = ((part.start, part.stop) for part in region)
        key = (ready.key, *position.items(), *places)
        if key == self._preview_key:
            return
        self._previewing = region, position
        shown = with_layer_name(ready.at(position), layer)
        self.start(
            PREVIEW,
            lambda stop: operation.preview_steps(shown, region, should_stop=stop),
            lambda volume: self._on_previewed(volume, layer, key),
        )

    def _is_outdated(self, layer: Image) -> bool:
        return self._on_screen(layer) != self._previewing

    def _on_screen(self, layer: Image) -> tuple[Region, dict[str, int]]:
        region = region_on_screen(layer, self._viewer, self._preview_edge)
        return region, chosen_position(layer, self._viewer)

    def _on_previewed(self, volume: Volume, layer: Image, key: Key) -> None:
        if PREVIEW not in self._requests or layer not in self._viewer.layers:
            return
        if not self._is_outdated(layer):
            self._preview_key = key
            self._preview.show(volume, layer)
            self.previewed.emit(layer, self._preview.layer)

    def _start_run(self, layer: Image, ready: RunPreparation) -> None:
        self._requests.discard(RUN)
        self._preview.remove()
        self._preview_key = None
        first = region_on_screen(layer, self._viewer)
        position = chosen_position(layer, self._viewer)
        make_steps = steps_factory(ready, layer, first, position)
        stopped = stopped_deviation = None
        if self.unfinished() is not None:
            stopped, stopped_deviation = self._stopped, self._deviation.stopped
        else:
            self._target = None
            self._deviation.forget()
            if self._resumes_part and ready.finished_part is not None:
                stopped = ready.finished_part.volume
                self._ready = replace(ready, finished_part=None)
        self._resumes_part = False
        self._stopped = self._deviation.stopped = None
        self._run_key = self._key(layer)
        self._run_source = weakref.ref(layer)
        self.watch.begin(layer)
        self.run_file = part_of_file(layer, self._viewer)[0].source
        part = {"position": position} if ready.series is None else {"series": True}
        self._restored_from = source_entry(layer) | part
        stopped_as = stopped_run(ready, layer, self._viewer, stopped, stopped_deviation)
        for doubt in ready.untold(self._doubts):
            self.warned.emit(doubt)
        description = f"Restoring {layer.name}"
        self.handover.begin(RUN, description, lambda: stopped_as(self._run_result))
        self.start(
            RUN,
            lambda stop: with_upper_limit(
                make_steps(
                    unfinished=stopped,
                    unfinished_deviation=stopped_deviation,
                    should_stop=stop,
                )
            ),
            lambda result: self._on_restored(*result),
            on_step=self._on_run_step,
            description=description,
        )

    def _on_run_step(self, step: Step) -> None:
        self._check_source()  # at every step, since tiles may take minutes
        if isinstance(step, TargetReady):
            layer = self.run_source()
            if layer is None or layer not in self._viewer.layers:
                self.cancel()
                return
            target = self.target()
            if target is None or target not in self._viewer.layers:
                options = {"name": f"{step.volume.name} (unfinished)"}
                if "series" in self._restored_from:
                    options |= series_alignment_with(step.volume, layer)
                target = add_result(self._viewer, step.volume, layer, **options)
                self._original_name = target.name
                target.metadata[METADATA] |= self._restored_from
                self._target = weakref.ref(target)
            self._refreshers = [Refresher(self._viewer, target)]
            if step.deviation is not None:
                deviation = self._deviation.show(
                    step.deviation, target, layer, self._restored_from
                )
                self._refreshers.append(Refresher(self._viewer, deviation))
        elif isinstance(step, TileDone):
            for refresher in self._refreshers:
                refresher.tile_done(step.slices)
            self.handover.set_progress(step.done, step.total)
            self.progressed.emit("tiles", step.done, step.total)
        else:
            self._on_step(step)

    def _on_restored(self, restored: RestorationResult, limit: float) -> None:
        self._run_result = restored
        for refresher in self._refreshers:
            refresher.finish()
        target = self.target()
        if target is None or target not in self._viewer.layers:
            return
        self._check_source(now=True)
        run = restored.volume.provenance[-1]
        if change := self.watch.message or run.get("source_change"):
            self._restored_from["source_change"] = change
        record = layer_metadata(restored.volume)[METADATA]
        target.metadata[METADATA] = record | self._restored_from
        if not restored.complete:
            self._stopped = restored.volume
        elif target.name == self._original_name:
            earlier = " (of earlier data)" if change else ""
            rename(self._viewer, target, f"{restored.volume.name}{earlier}")
        if restored.deviation is not None:
            self._deviation.finish(
                restored.deviation,
                self._restored_from,
                limit,
                complete=restored.complete,
            )
        self.finished.emit(target, restored, time.monotonic() - self._began)

    def _check_source(self, *, now: bool = False) -> None:
        if message := self.watch.check(now=now):
            self.warned.emit(message)

    def _on_step(self, step: Step) -> None:
        if not isinstance(step, WarningIssued) or self._busy == RUN:
            super()._on_step(step)
        elif self._busy == PREPARE:
            self._doubts.append(step.message)

    def _on_finished(self) -> None:
        self._refreshers = []
        super()._on_finished()
        self._run_result = None
