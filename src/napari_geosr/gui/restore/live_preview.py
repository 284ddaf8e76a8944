"""*Add live layer*: adds a layer that is restored where it is visible."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import ConfigError, FileError, GeoSRError
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.lifetime import Connections, unwrapped
from napari_geosr.gui.kit.widgets import button
from napari_geosr.gui.layers import (
    METADATA,
    alignment_with,
    chosen_position,
    geometry,
    layer_metadata,
)
from napari_geosr.gui.restore.preparation import RunPreparation, with_layer_name
from napari_geosr.operations.restore import PreparedRestoration
from napari_geosr.operations.restore.live import LiveTiles

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from qtpy.QtCore import QEvent

#: Milliseconds between checks of whether a run has ended.
_WAIT_MS = 500


class LivePreview(QObject):
    """The button *Add live layer* and the layers it has added.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    dock : Dock
        Dock that shows errors. While it runs an operation, no tiles are restored.
    """

    def __init__(self, viewer: napari.viewer.Viewer, dock: Dock) -> None:
        super().__init__(dock)
        self._viewer, self._dock = viewer, dock
        self._ready: RunPreparation | None = None
        self._source: weakref.ref[Image] | None = None
        self.layers: list[LiveLayer] = []
        self.widget = button(
            "Add live layer",
            "Add a layer in which the visible part is restored as you scroll and zoom. "
            "It is a preview, not a result.",
            "Alt+Shift+L",
        )
        self.widget.setEnabled(False)
        self.widget.clicked.connect(self._on_clicked)
        self._connections = Connections(dock)
        removed = viewer.layers.events.removed
        self._connections.connect(removed, self._on_removed)

    def set_ready(self, ready: RunPreparation | None, source: Image | None) -> None:
        """Set the prepared run and its layer; None while it is not ready."""
        self._ready = ready
        self._source = None if source is None else weakref.ref(source)
        self.widget.setEnabled(ready is not None and source is not None)

    def _on_clicked(self) -> None:
        source = None if self._source is None else self._source()
        if self._ready is None or source is None:
            return
        try:
            prepared = self._ready.at(chosen_position(source, self._viewer))
            if prepared.labels:
                raise ConfigError(
                    "The model returns labels, which cannot be previewed as a layer. "
                    "Press Preview instead."
                )
            shown = with_layer_name(prepared, source)
            layer = LiveLayer(self._viewer, shown, source, self._may_work, self)
        except GeoSRError as error:
            self._dock.show_failure(error)
            return
        layer.failed.connect(self._dock.show_failure)
        self.layers.append(layer)

    def _may_work(self) -> bool:
        return not self._dock.activity.busy

    def _on_removed(self, event: QEvent) -> None:
        for live in [*self.layers]:
            if live.layer is event.value:
                self.layers.remove(live)
                live.end()


class LiveLayer(QObject):
    """A layer whose tiles are restored in a worker.

    The scan below remains visible where no tile has been restored yet.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    prepared : PreparedRestoration
        Prepared run of one spatial volume.
    source : Image
        The layer of the scan.
    may_work : callable
        Returns whether tiles can be restored now.
    parent : QObject

    Signals
    -------
    failed : object
        The error of a tile.
    """

    failed = Signal(object)
    _requested = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        prepared: PreparedRestoration,
        source: Image,
        may_work: Callable[[], bool],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._may_work = viewer, may_work
        self._name = f"{prepared.result_name} preview"
        self._tiles = LiveTiles(prepared)
        self._activity = Activity(self)
        self._activity.failed.connect(self.failed)
        self._activity.idle.connect(self._on_idle)
        self._start_timer, self._refresh_timer = QTimer(self), QTimer(self)
        for timer, slot in (
            (self._start_timer, self._start),
            (self._refresh_timer, self._refresh),
        ):
            timer.setSingleShot(True)
            timer.timeout.connect(slot)
        # Requests may come from threads of Dask or of napari.
        self._requested.connect(self._on_requested)
        self._tiles.on_request = self._requested.emit
        self.layer: Image | None = self._add(prepared, source)
        self._on_requested()

    def _add(self, prepared: PreparedRestoration, source: Image) -> Image:
        import dask.array as da

        viewer = self._viewer

        # napari 0.10 and earlier may read whole volumes of other lazy arrays.
        levels = [
            da.from_array(
                level,
                chunks=(*(1,) * (level.ndim - 2), *self._tiles.chunk_edges),
                name=False,
                asarray=False,
            )
            for level in self._tiles.levels
        ]
        volume = prepared.volume
        voxel_size, origin = volume.upscaled_geometry(prepared.factors)
        result = Volume(levels[0], volume.axes, voxel_size, volume.unit, origin)
        metadata = layer_metadata(result)
        metadata[METADATA]["helper"] = "preview"
        active = viewer.layers.selection.active
        layer = viewer.add_image(
            levels if len(levels) > 1 else levels[0],
            multiscale=len(levels) > 1,
            name=self._name,
            metadata=metadata,
            colormap=source.colormap,
            contrast_limits=tuple(source.contrast_limits),
            gamma=source.gamma,
            cache=False,  # the tiles are cached, and replaced, by this class
            **(geometry(result) | alignment_with(source)),
        )
        viewer.layers.selection.active = active
        made: Image = unwrapped(layer)
        _forbid_saving(made)
        return made

    def end(self) -> None:
        """Stop and release the memory after the layer was removed."""
        self.layer = None
        self._tiles.forget()
        self._activity.cancel()
        for timer in (self._start_timer, self._refresh_timer):
            timer.stop()
        if not self._activity.busy:
            self.deleteLater()

    def _on_requested(self) -> None:
        if self.layer is not None:
            self._tiles.show(self.layer.data_level)
            self._show_level()
            self._start_timer.start(0)

    def _on_idle(self) -> None:
        if self.layer is None:  # the preview has ended
            self.deleteLater()
        elif self._tiles.is_waiting:
            self._start_timer.start(0)

    def _start(self) -> None:
        if self.layer is None or self._activity.busy or not self._tiles.is_waiting:
            return
        if self._viewer.dims.ndisplay == 3:  # 3D views request all planes
            self._tiles.drop_requests()
            return
        if not self._may_work():
            self._start_timer.start(_WAIT_MS)
            return
        self._activity.start(
            "live",
            lambda stop: self._tiles.steps(should_stop=stop),
            on_step=lambda _step: self._refresh_timer.start(0),
        )

    def _refresh(self) -> None:
        if self.layer is not None:
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)
            self._show_level()

    def _show_level(self) -> None:
        """Add the resolution on screen to the layer's name."""
        layer = self.layer
        if layer is None:
            return
        step = self._tiles.step_on_screen(layer.data_level)
        name = self._name if step == 1 else f"{self._name} at 1/{step}"
        # Keep the name if the user has renamed the layer.
        if layer.name != name and layer.name.startswith(self._name):
            layer.name = name


def _forbid_saving(layer: Image) -> None:
    """Make all writers, including those of napari and other plugins, refuse a layer.

    The file would contain NaN wherever the layer has not been viewed.
    """
    known = weakref.ref(layer)  # no reference cycle

    def refuse() -> NoReturn:
        found = known()
        raise FileError(
            f"Layer {'' if found is None else found.name!r} is restored only where it "
            "has been viewed, so it cannot be saved or duplicated. Press Run in the "
            "Restore dock for the complete result."
        )

    # napari calls this method before any writer.
    layer.as_layer_data_tuple = refuse
