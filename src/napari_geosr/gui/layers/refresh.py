"""Refresh layers with finished tiles without blocking the window."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_geosr.gui.layers.position import index_on_screen

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

#: Minimum time between refreshes in 2D, in seconds.
_PAUSE_2D = 0.15
#: Minimum time between refreshes in 3D, in seconds: each refresh transfers the whole
#: volume to the GPU.
_PAUSE_3D = 2.0
#: Maximum fraction of time that is spent on refreshing.
_SHARE = 0.1


class Refresher:
    """Refreshes a layer, at a limited rate, as tiles of the displayed slice arrive."""

    def __init__(self, viewer: ViewerModel, layer: Layer) -> None:
        self._viewer = viewer
        self._layer = weakref.ref(layer)
        self._due = 0.0
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._refresh)

    def tile_done(self, slices: tuple[slice, ...]) -> None:
        """Register a finished tile; refresh now or soon if it is on screen."""
        layer = self._layer()
        if (
            layer is None
            or self._timer.isActive()
            or not self._is_visible(layer, slices)
        ):
            return
        wait = self._due - time.monotonic()
        self._timer.start(max(0, int(1000 * wait)))

    def finish(self) -> None:
        """Refresh one last time, including all deferred tiles."""
        self._timer.stop()
        layer = self._layer()
        if layer is not None and layer in self._viewer.layers:
            layer.refresh()

    def _is_visible(self, layer: Layer, slices: tuple[slice, ...]) -> bool:
        if not layer.visible:
            return False
        offset = self._viewer.dims.ndim - layer.ndim
        for axis, part in enumerate(slices, start=layer.ndim - len(slices)):
            if axis + offset in self._viewer.dims.displayed:
                continue
            index = round(index_on_screen(self._viewer, layer, axis))
            if not part.start <= index < part.stop:
                return False
        return True

    def _refresh(self) -> None:
        layer = self._layer()
        if layer is None or layer not in self._viewer.layers:
            return
        began = time.monotonic()
        layer.refresh(thumbnail=False, highlight=False, extent=False)
        now = time.monotonic()
        pause = _PAUSE_3D if self._viewer.dims.ndisplay == 3 else _PAUSE_2D
        self._due = now + max(pause, (now - began) / _SHARE)


def rename(viewer: ViewerModel, layer: Layer, name: str) -> None:
    """Rename a layer, and update its name in napari's status bar.

    Otherwise, the status bar shows the old name until the mouse moves over the canvas.
    """
    before, status = layer.name, viewer.status
    layer.name = name
    if isinstance(status, dict) and status.get("layer_base") == before:
        viewer.status = status | {"layer_base": layer.name}
    elif isinstance(status, str):
        viewer.status = status.replace(f" {before}: ", f" {layer.name}: ")
