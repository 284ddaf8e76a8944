"""The layer that shows the network's reconstruction while the network is fitted."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import replace_data
from napari_geosr.gui.layers.camera import remove_in_place

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from napari.utils.events import Event


class NetworkPreview(QObject):
    """Shows the latest preview of a run.

    A layer that the user removes is not added again.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QObject
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._is_dismissed = False
        Connections(self).connect(viewer.layers.events.removed, self._on_removed)

    @property
    def layer(self) -> Image | None:
        """The layer of the preview, if there is one."""
        return None if self._layer is None else self._layer()

    def begin(self) -> None:
        """Remove the layer of an earlier run."""
        self.end()
        self._is_dismissed = False

    def show(self, volume: Volume, add: Callable[[Volume], Image]) -> None:
        """Show a preview; `add` creates the layer for the first one."""
        if self._is_dismissed:
            return
        layer = self.layer
        if layer is not None and layer.data.shape == volume.shape:
            replace_data(self._viewer, layer, volume, like=None)
            return
        active = self._viewer.layers.selection.active
        self._layer = weakref.ref(add(volume))
        self._viewer.layers.selection.active = active

    def end(self) -> None:
        """Remove the layer after the end of the run."""
        layer, self._layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            remove_in_place(self._viewer, layer)

    def _on_removed(self, event: Event) -> None:
        if self._layer is not None and event.value is self._layer():
            self._layer, self._is_dismissed = None, True
