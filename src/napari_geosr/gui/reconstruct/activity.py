"""Operations of the Reconstruct dock: find the axis, preview, run, stop."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import (
    CentreFound,
    IterationDone,
    Step,
    TargetReady,
    TileDone,
)
from napari_geosr.gui.jobs.handover import RunHandover
from napari_geosr.gui.kit.activity import PREVIEW, Activity, Key
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.reconstruct.coarse_slice import CoarseSlice
from napari_geosr.gui.reconstruct.compile_ahead import compile_steps, is_ready
from napari_geosr.gui.reconstruct.layers import (
    HiddenViews,
    SlicePreviewLayer,
    VolumeLayer,
)
from napari_geosr.gui.reconstruct.steps import (
    PreviewRows,
    centre_steps,
    slice_steps,
    volume_steps,
)
from napari_geosr.jobs.handover import StoppedReconstruction
from napari_geosr.operations.reconstruct.config import ReconstructConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from napari.utils.events import Event

    from napari_geosr.operations.reconstruct import Centre, ReconstructionResult
    from napari_geosr.operations.reconstruct.preview import TrialSlice

#: Names of the operations other than previews.
LOADING, CENTRE, RUN = "loading", "centre", "run"
#: Seconds for which an outdated preview may still be completed and shown, so that
#: moving a slider gives feedback.
_MAX_OUTDATED_SECONDS = 1.0


class ReconstructActivity(Activity):
    """Finds the axis, previews slices and reconstructs, one operation at a time.

    Signals
    -------
    centreFound : object, bool
        The `Centre`, and whether the user requested it.
    previewed : object, bool
        The `TrialSlice` in the preview layer, and whether it is a coarse one that
        precedes the sharp one.
    stopped
        A run was cancelled before its first slice was finished.
    finished : object, object, float
        The result layer, the `ReconstructionResult`, and its duration in seconds.
    """

    centreFound = Signal(object, bool)
    previewed = Signal(object, bool)
    stopped = Signal()
    finished = Signal(object, object, float)

    _debounce_ms = 60

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._opened: OpenedScan | None = None
        self._config = ReconstructConfig()
        self._row = 0
        self._known: tuple[OpenedScan, Centre] | None = None
        self._preview_rows: PreviewRows = {}
        self._views = HiddenViews(viewer)
        self.preview = SlicePreviewLayer(viewer, self._views)
        self._shown_key: Key | None = None
        self._not_loaded: set[str] = set()  # algorithms that could not be prepared
        self._run_scan: OpenedScan | None = None
        self._volume = VolumeLayer(viewer)
        self.handover = RunHandover(self, parent, "reconstruct")
        self.iteration = ""  # progress of the iterations for the current slices
        self._run_result: ReconstructionResult | None = None
        Connections(parent).connect(viewer.layers.events.removed, self._on_removed)

    # User requests

    def opened(self) -> OpenedScan | None:
        """Return the current scan."""
        return self._opened

    def known_centre(self) -> Centre | None:
        """Return the rotation axis of this scan, if it was found before."""
        if self._known is None or self._known[0] is not self._opened:
            return None
        return self._known[1]

    def target(self) -> Image | None:
        """Return the layer that the last run filled, if it still exists."""
        return self._volume.layer()

    def unfinished(self) -> Image | None:
        """Return the partial result that `run` would resume, if there is one."""
        if self._busy == RUN:
            return None
        return self._volume.unfinished(self._volume_key())

    def set_scan(self, opened: OpenedScan | None) -> None:
        """Choose the scan to reconstruct."""
        if opened is self._opened:
            return
        self._opened = opened
        self._requests &= {PREVIEW}
        self._preview_rows = {}
        if opened is None:
            self.set_preview(False)
            self.cancel()
        elif self._busy in (CENTRE, PREVIEW):
            self.cancel(keep_requests=True)
        self._restart_later()

    def set_config(self, config: ReconstructConfig) -> bool:
        """Choose the settings; return whether they have changed."""
        if config == self._config:
            return False
        self._config = config
        self._restart_later()
        return True

    def set_row(self, row: int) -> None:
        """Choose the slice to preview."""
        if row != self._row:
            self._row = row
            self._restart_later()

    def find_centre(self) -> None:
        """Find the rotation axis."""
        self._request_operation(CENTRE)

    def set_preview(self, enabled: bool) -> None:
        """Keep a preview of the slice up to date, or remove it."""
        if enabled:
            self._request_operation(PREVIEW)
            return
        self._requests.discard(PREVIEW)
        self._shown_key = None
        if RUN not in self._requests and self._busy != RUN:  # a run reuses the layer
            self.preview.remove(show_views=True)
        if self._busy == PREVIEW:
            self.cancel(keep_requests=True)

    def run(self) -> None:
        """Reconstruct all rows, or the missing ones of an unfinished run."""
        self._request_operation(RUN)
        if self._busy == PREVIEW:
            self.cancel(keep_requests=True)

    # Sequence of operations

    def _on_removed(self, event: Event) -> None:
        layer = event.value
        if layer is self.preview.layer:
            self.preview.layer = None
            self._shown_key = None
        if self._volume.forget(layer) and self._busy == RUN:
            self.cancel()

    def _volume_key(self) -> Key:
        """Return a key built from everything that determines the volume's voxels."""
        irrelevant = dict.fromkeys(("device", "memory", "threads"))
        # Unlike an id, a reference is never reused for a later scan.
        opened = None if self._opened is None else weakref.ref(self._opened)
        return opened, str(self._config.model_copy(update=irrelevant))

    def _slice_key(self) -> Key:
        known = self.known_centre()
        return *self._volume_key(), self._row, known and known.column

    def _cancel_if_outdated(self) -> None:
        if self._busy != PREVIEW or self._slice_key() == self._attempted_key:
            return
        wait = self._began + _MAX_OUTDATED_SECONDS - time.monotonic()
        if wait <= 0:
            self.cancel(keep_requests=True)
        else:
            self._timer.start(int(1000 * wait) + 1)

    def _start_next(self) -> None:
        if not self._requests & {PREVIEW, RUN}:
            self.preview.remove(show_views=True)  # neither shown nor reused by a run
        opened = self._opened
        if opened is None:
            return
        if CENTRE in self._requests:
            self._start_centre(opened)
        elif RUN in self._requests:
            self._start_run(opened)
        elif PREVIEW in self._requests:
            self._attempted_key = key = self._slice_key()
            if key not in (self._shown_key, self._failed_key):
                self._start_preview(opened, key)
        elif not is_ready(self._config, opened.scan.geometry):
            self._start_loading(opened)

    def _start_loading(self, opened: OpenedScan) -> None:
        """Load and compile in advance everything that a slice needs."""
        if self._config.algorithm in self._not_loaded:
            return
        config = self._config
        self._not_loaded.add(config.algorithm)
        # Errors are reported when the algorithm is actually used.
        self.start(
            LOADING,
            lambda stop: compile_steps(config, opened.scan.geometry, stop),
            lambda _: self._not_loaded.discard(config.algorithm),
            on_step=lambda _: None,
            on_error=lambda _: None,
        )

    def _start_centre(self, opened: OpenedScan) -> None:
        self._requests.discard(CENTRE)
        config = self._config
        self.start(
            CENTRE,
            lambda stop: centre_steps(opened.scan, config, stop),
            lambda centre: self._on_centre(opened, centre, requested=True),
        )

    def _on_centre(
        self, opened: OpenedScan, centre: Centre, *, requested: bool
    ) -> None:
        self._known = opened, centre
        if opened is self._opened:
            self.centreFound.emit(centre, requested)

    def _start_preview(self, opened: OpenedScan, key: Key) -> None:
        config, row, preview_rows = self._config, self._row, self._preview_rows
        known = self.known_centre()

        def on_step(step: Step) -> None:
            if isinstance(step, CentreFound):
                self._on_centre(opened, step.centre, requested=False)
                # The slice in progress is computed with this axis.
                self._attempted_key = *key[:-1], step.centre.column
            elif isinstance(step, CoarseSlice):
                self._on_slice(opened, step.tried, is_coarse=True)
            else:
                self._on_step(step)

        self.start(
            PREVIEW,
            lambda stop: slice_steps(
                opened.scan, config, row, known, preview_rows, stop
            ),
            lambda tried: self._on_slice(opened, tried),
            on_step=on_step,
        )

    def _on_slice(
        self, opened: OpenedScan, tried: TrialSlice | None, *, is_coarse: bool = False
    ) -> None:
        if tried is None or PREVIEW not in self._requests or opened is not self._opened:
            return
        if not is_coarse:
            self._shown_key = self._attempted_key
        self.preview.show(tried)
        self.previewed.emit(tried, is_coarse)

    def _start_run(self, opened: OpenedScan) -> None:
        self._requests -= {RUN, PREVIEW}
        self._run_scan = opened
        stopped = self._volume.begin(self._volume_key(), self.preview.release())
        known = self.known_centre()
        self._views.hide()
        self._shown_key = None
        config = self._config
        description = f"Reconstructing {opened.scan.name}"
        path = opened.path
        if path is not None:  # another process can read the scan only from a file
            title, reading = opened.scan.name, opened.reading

            def stopped_run() -> StoppedReconstruction:
                result = self._run_result
                part = stopped if result is None else result.volume
                return StoppedReconstruction(title, path, reading, config, part)

            self.handover.begin(RUN, description, stopped_run)
        self.start(
            RUN,
            lambda stop: volume_steps(opened.scan, config, known, stopped, stop),
            self._on_reconstructed,
            on_step=self._on_run_step,
            on_error=self._on_run_error,
            description=description,
        )

    def _on_run_step(self, step: Step) -> None:
        self._volume.on_step(step)
        layer = self._volume.layer()
        if isinstance(step, TargetReady) and layer is not None:
            self._views.fit(layer)
        if isinstance(step, TileDone):
            self._views.forget()  # finished slices replace the hidden views
            self.handover.set_progress(step.done, step.total)
        if isinstance(step, TileDone | IterationDone):
            self.iteration = step.text if isinstance(step, IterationDone) else ""
            self.progressed.emit("slices", step.done, step.total)
        elif isinstance(step, CentreFound):
            if self._run_scan is not None and self._config.centre == "auto":
                self._on_centre(self._run_scan, step.centre, requested=False)
        else:
            self._on_step(step)

    def _on_run_error(self, error: Exception) -> None:
        self._volume.abandon()
        if isinstance(error, Cancelled):
            self.stopped.emit()
        self._on_error(error)

    def _on_reconstructed(self, done: ReconstructionResult) -> None:
        self._run_result = done
        layer = self._volume.finish(done)
        if layer is not None:
            self.finished.emit(layer, done, time.monotonic() - self._began)

    def _on_finished(self) -> None:
        if self._busy == RUN:
            self._volume.end()
        super()._on_finished()
        self._run_result = None
