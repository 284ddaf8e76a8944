"""A button that shows what a restoration removes from the region on screen."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    layer_metadata,
    replace_data,
)
from napari_geosr.gui.restore.preview import region_on_screen
from napari_geosr.operations.restore.verdict.steps import removed_steps

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.core.noise import Noise
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore import PreparedRestoration

#: Contrast limits of the removed part, in standard deviations of the noise.
_LIMIT = 4.0


class RemovedButton(QPushButton):
    """Adds or updates a layer with the scan minus its restoration.

    Signals
    -------
    shown
        The layer shows what is removed from the region on screen.
    failed : object
        The error that prevented the layer from being shown.
    """

    shown = Signal()
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__("Show what is removed", parent)
        self.setToolTip(
            "Show the scan minus the restoration for the current view. The difference "
            "should look like noise (Alt+Shift+R)."
        )
        self.setAccessibleName("Show what is removed")
        self.setShortcut("Alt+Shift+R")
        self._viewer = viewer
        self._source: weakref.ref[Image] | None = None
        self._on_screen: Callable[[], PreparedRestoration] | None = None
        self._edge: int | None = None
        self._noise: Noise | None = None
        self._layer: weakref.ref[Image] | None = None
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)
        self.activity.busyChanged.connect(lambda what: self.setEnabled(not what))
        self.clicked.connect(self.show_removed)
        self.setVisible(False)

    def set_ready(
        self,
        source: Image | None,
        on_screen: Callable[[], PreparedRestoration] | None,
        edge: int | None = None,
    ) -> None:
        """Show the button for a prepared run on `source`; with None, hide it.

        Parameters
        ----------
        on_screen : callable, optional
            Returns the run for the volume on screen at the time of the call.
        edge : int, optional
            Maximum edge length, in voxels, of a region that can be restored in a few
            seconds.
        """
        self.activity.cancel()
        if source is None or on_screen is None or on_screen().labels:
            self._source = self._on_screen = None
        else:
            self._source, self._on_screen = weakref.ref(source), on_screen
            self._edge = edge
        self.setVisible(self._on_screen is not None)

    def set_noise(self, noise: Noise | None) -> None:
        """Set the measured noise of the scan, for models that do not measure it."""
        self._noise = noise

    def layer(self) -> Image | None:
        """Return the layer that shows what is removed, if it still exists."""
        layer = None if self._layer is None else self._layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def show_removed(self) -> None:
        """Restore the region on screen in a worker and show the difference."""
        source = None if self._source is None else self._source()
        if self.activity.busy or self._on_screen is None or source is None:
            return
        try:
            ready = self._on_screen()
            region = region_on_screen(source, self._viewer, self._edge)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.activity.start(
            "show",
            lambda stop: removed_steps(ready, region, should_stop=stop),
            partial(self._on_removed, source, ready),
            description=f"What is removed from {source.name}",
        )

    def _on_removed(
        self, source: Image, prepared: PreparedRestoration, volume: Volume
    ) -> None:
        if source not in self._viewer.layers:
            return
        limit = _contrast(volume, prepared.noise or self._noise)
        layer = self.layer()
        if layer is None or layer.data.ndim != len(volume.shape):
            active = self._viewer.layers.selection.active
            metadata = layer_metadata(volume)
            metadata[METADATA]["helper"] = "removed"
            layer = add_image_result(
                self._viewer,
                volume,
                source,
                colormap="PiYG",
                contrast_limits=(-limit, limit),
                gamma=1.0,
                metadata=metadata,
            )
            self._layer = weakref.ref(layer)
            if active in self._viewer.layers:
                self._viewer.layers.selection.active = active
        else:
            replace_data(self._viewer, layer, volume, like=source)
            layer.contrast_limits = (-limit, limit)
            layer.name = volume.name
        layer.refresh()
        self.shown.emit()


def _contrast(volume: Volume, noise: Noise | None) -> float:
    """Return the contrast limit in grey values: a multiple of the noise level.

    Without a noise level, it is a multiple of the removed part's standard deviation.
    """
    if noise is not None and noise.level > 0:
        return _LIMIT * noise.level
    spread = float(np.nanstd(np.asarray(volume.data)))
    return _LIMIT * spread or 1.0
