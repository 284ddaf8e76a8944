"""What the Reconstruct dock does, without its widgets: find, try a slice, run, stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import (
    CentreFound,
    IterationDone,
    StageStarted,
    Step,
    TargetReady,
    TileDone,
    Warned,
)
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import MakeSteps, Run
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.reconstruct.coarse_slice import CoarseSlice
from napari_geosr.gui.reconstruct.ready import is_ready, ready_steps
from napari_geosr.gui.reconstruct.slice_preview import SlicePreview, ViewsAside
from napari_geosr.gui.reconstruct.steps import (
    Kept,
    centre_steps,
    slice_steps,
    volume_steps,
)
from napari_geosr.gui.reconstruct.volume_layer import VolumeLayer
from napari_geosr.operations.reconstruct.config import ReconstructConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.operations.reconstruct import Reconstructed
    from napari_geosr.operations.reconstruct.preview import SliceTried
    from napari_geosr.tomography.centre import Centre

T = TypeVar("T")

#: Wait so long after the last move of a slider before a preview starts.
_DEBOUNCE_MS = 60
#: A preview that nobody wants any more is shown all the same if it comes within this
#: time: a slider that is being moved shows something then.
_PATIENCE = 1.0


class Reconstructing(QObject):
    """Runs at most one operation at a time for one dock; the latest wish wins.

    Signals
    -------
    busyChanged : str
        What runs now: ``""``, ``"loading"``, ``"centre"``, ``"preview"`` or ``"run"``.
    centreFound : object, bool
        The `Centre`, and whether a person asked for it.
    progressed : str, int, int
        What is done, and how much of how much.
    warned : str
        Something the person should know.
    failed : object
        The error that ended an operation.
    previewed : object, bool
        The `SliceTried` that the preview layer shows now, and whether it is a coarse
        one that a sharp one follows.
    stopped
        A run was cancelled before it had a slice.
    finished : object, object, float
        The result layer, the `Reconstructed`, and the seconds that it took.
    """

    busyChanged = Signal(str)
    centreFound = Signal(object, bool)
    progressed = Signal(str, int, int)
    warned = Signal(str)
    failed = Signal(object)
    previewed = Signal(object, bool)
    stopped = Signal()
    finished = Signal(object, object, float)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._opened: OpenedScan | None = None
        self._config = ReconstructConfig()
        self._row = 0
        self._known: tuple[OpenedScan, Centre] | None = None
        self._kept: Kept = {}
        self._views = ViewsAside(viewer)
        self.preview = SlicePreview(viewer, self._views)
        self._shown_key: tuple[Any, ...] | None = None
        self._trying_key: tuple[Any, ...] | None = None
        self._failed_key: tuple[Any, ...] | None = None
        self._wants_centre = self._wants_preview = self._wants_run = False
        self._busy = ""
        self._not_loaded: set[str] = set()  # algorithms that could not be
        self._run: Run | None = None
        self._run_of: OpenedScan | None = None
        self._volume = VolumeLayer(viewer)
        self._began = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._advance)
        Connections(parent).connect(viewer.layers.events.removed, self._on_removed)

    # What a person asks for.

    @property
    def busy(self) -> str:
        """What runs now; see `busyChanged`."""
        return self._busy

    def opened(self) -> OpenedScan | None:
        """Return the scan that is worked on."""
        return self._opened

    def known_centre(self) -> Centre | None:
        """Return the axis of this scan, if it was found before."""
        if self._known is None or self._known[0] is not self._opened:
            return None
        return self._known[1]

    def target(self) -> Image | None:
        """Return the layer that the last run filled, if it still exists."""
        return self._volume.layer()

    def unfinished(self) -> Image | None:
        """Return the layer that :meth:`run` would fill further, if there is one."""
        if self._busy == "run":
            return None
        return self._volume.unfinished(self._whole_key())

    def set_scan(self, opened: OpenedScan | None) -> None:
        """Choose the scan to reconstruct."""
        if opened is self._opened:
            return
        self._opened = opened
        self._wants_centre = self._wants_run = False
        self._kept = {}
        if opened is None:
            self.set_preview(False)
            self.cancel()
        elif self._busy in ("centre", "preview"):
            self.cancel(keep_wishes=True)
        self._changed()

    def set_config(self, config: ReconstructConfig) -> bool:
        """Choose the settings; return whether they are others than before."""
        if config == self._config:
            return False
        self._config = config
        self._changed()
        return True

    def set_row(self, row: int) -> None:
        """Choose the slice that is tried."""
        if row != self._row:
            self._row = row
            self._changed()

    def find_centre(self) -> None:
        """Look for the rotation axis."""
        self._wants_centre = True
        self._again()

    def set_preview(self, wanted: bool) -> None:
        """Keep a slice up to date, or take it away."""
        self._wants_preview = wanted
        if wanted:
            self._again()
            return
        self._shown_key = None
        if not self._wants_run and self._busy != "run":  # which takes its layer
            self.preview.remove(show_views=True)
        if self._busy == "preview":
            self.cancel(keep_wishes=True)

    def run(self) -> None:
        """Reconstruct all rows, or those that an unfinished run left."""
        self._wants_run = True
        if self._busy == "preview":
            self.cancel(keep_wishes=True)
        self._again()

    def cancel(self, *, keep_wishes: bool = False) -> None:
        """Stop at the next block; what is finished stays."""
        if not keep_wishes:
            self._wants_run = self._wants_centre = False
            self._failed_key = self._trying_key
        if self._run is not None:
            self._run.cancel()

    # What happens, one operation after the other.

    def _again(self) -> None:
        self._failed_key = None
        self._timer.start(0)

    def _changed(self) -> None:
        self._failed_key = None
        self._timer.start(_DEBOUNCE_MS)

    def _on_removed(self, event: Any) -> None:
        layer = event.value
        if layer is self.preview.layer:
            self.preview.layer = None
            self._shown_key = None
        if self._volume.forget(layer) and self._busy == "run":
            self.cancel()

    def _whole_key(self) -> tuple[Any, ...]:
        """What the voxels of a whole volume depend on."""
        how = dict.fromkeys(("device", "memory", "threads"))
        return id(self._opened), str(self._config.model_copy(update=how))

    def _slice_key(self) -> tuple[Any, ...]:
        known = self.known_centre()
        return *self._whole_key(), self._row, known and known.column

    def _advance(self) -> None:
        """Start whatever is wanted next, if nothing runs."""
        if self._busy:
            if self._busy == "preview" and self._slice_key() != self._trying_key:
                wait = self._began + _PATIENCE - time.monotonic()
                if wait <= 0:
                    self.cancel(keep_wishes=True)
                else:
                    self._timer.start(int(1000 * wait) + 1)
            return
        if not self._wants_preview and not self._wants_run:
            self.preview.remove(show_views=True)  # a run that was wanted has it no more
        if self._opened is None:
            return
        if self._wants_centre:
            self._start_centre(self._opened)
        elif self._wants_run:
            self._start_run(self._opened)
        elif self._wants_preview:
            self._trying_key = key = self._slice_key()
            if key not in (self._shown_key, self._failed_key):
                self._start_preview(self._opened, key)
        elif not is_ready(self._config, self._opened.scan.geometry):
            self._start_loading(self._opened)

    def _start(
        self,
        what: str,
        make_steps: MakeSteps[T],
        on_result: Callable[[T], None],
        **more: Any,
    ) -> None:
        self._busy = what
        self._began = time.monotonic()
        self._run = Run(
            make_steps,
            owner=self,
            on_step=more.get("on_step", self._on_step),
            on_result=on_result,
            on_error=more.get("on_error", self._on_error),
            on_finished=self._on_finished,
            description=more.get("description", ""),
        )
        self.busyChanged.emit(what)

    def _start_loading(self, opened: OpenedScan) -> None:
        """Load and compile at leisure what a slice will need."""
        if self._config.algorithm in self._not_loaded:
            return
        config = self._config
        self._not_loaded.add(config.algorithm)
        # What is wrong is said when it is needed, and is wrong then.
        self._start(
            "loading",
            lambda stop: ready_steps(config, opened.scan.geometry, stop),
            lambda _: self._not_loaded.discard(config.algorithm),
            on_step=lambda _: None,
            on_error=lambda _: None,
        )

    def _start_centre(self, opened: OpenedScan) -> None:
        self._wants_centre = False
        config = self._config
        self._start(
            "centre",
            lambda stop: centre_steps(opened.scan, config, stop),
            lambda centre: self._on_centre(opened, centre, asked=True),
        )

    def _on_centre(self, opened: OpenedScan, centre: Centre, *, asked: bool) -> None:
        self._known = opened, centre
        if opened is self._opened:
            self.centreFound.emit(centre, asked)

    def _start_preview(self, opened: OpenedScan, key: tuple[Any, ...]) -> None:
        config, row, kept = self._config, self._row, self._kept
        known = self.known_centre()

        def on_step(step: Step) -> None:
            if isinstance(step, CentreFound):
                self._on_centre(opened, step.centre, asked=False)
                # What is being made is the slice around this very axis.
                self._trying_key = *key[:-1], step.centre.column
            elif isinstance(step, CoarseSlice):
                self._on_tried(opened, step.tried, is_coarse=True)
            else:
                self._on_step(step)

        self._start(
            "preview",
            lambda stop: slice_steps(opened.scan, config, row, known, kept, stop),
            lambda tried: self._on_tried(opened, tried),
            on_step=on_step,
        )

    def _on_tried(
        self, opened: OpenedScan, tried: SliceTried | None, *, is_coarse: bool = False
    ) -> None:
        if tried is None or not self._wants_preview or opened is not self._opened:
            return
        if not is_coarse:
            self._shown_key = self._trying_key
        self.preview.show(tried)
        self.previewed.emit(tried, is_coarse)

    def _start_run(self, opened: OpenedScan) -> None:
        self._wants_run = self._wants_preview = False
        self._run_of = opened
        stopped = self._volume.begin(self._whole_key(), self.preview.release())
        known = self.known_centre()
        self._views.hide()
        self._shown_key = None
        config = self._config
        self._start(
            "run",
            lambda stop: volume_steps(opened.scan, config, known, stopped, stop),
            self._on_reconstructed,
            on_step=self._on_run_step,
            on_error=self._on_run_error,
            description=f"Reconstructing {opened.scan.name}",
        )

    def _on_run_step(self, step: Step) -> None:
        self._volume.on_step(step)
        layer = self._volume.layer()
        if isinstance(step, TargetReady) and layer is not None:
            self._views.fit(layer)
        if isinstance(step, TileDone):  # there is something to look at in their place
            self._views.forget()
        if isinstance(step, TileDone | IterationDone):
            self.progressed.emit("slices", step.done, step.total)
        elif isinstance(step, CentreFound):
            if self._run_of is not None and self._config.centre == "auto":
                self._on_centre(self._run_of, step.centre, asked=False)
        else:
            self._on_step(step)

    def _on_run_error(self, error: Exception) -> None:
        self._volume.abandon()
        if isinstance(error, Cancelled):
            self.stopped.emit()
        self._on_error(error)

    def _on_reconstructed(self, done: Reconstructed) -> None:
        layer = self._volume.finish(done)
        if layer is not None:
            self.finished.emit(layer, done, time.monotonic() - self._began)

    def _on_step(self, step: Step) -> None:
        if isinstance(step, StageStarted):
            self.progressed.emit(step.message, 0, 0)
        elif isinstance(step, Warned):
            self.warned.emit(step.message)
        elif step.total:
            self.progressed.emit("", step.done, step.total)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            return
        self._wants_run = self._wants_centre = False
        self._failed_key = self._trying_key
        self.failed.emit(error)

    def _on_finished(self) -> None:
        if self._busy == "run":
            self._volume.end()
        self._busy, self._run = "", None
        self.busyChanged.emit("")
        self._timer.start(0)
