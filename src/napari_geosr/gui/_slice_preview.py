"""The layer that shows the slice which is tried, in its place."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from napari_geosr.gui._layers import METADATA, add_image_result, geometry, unwrapped
from napari_geosr.gui._projection_layers import opened_scan

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_geosr.operations.reconstruct_preview import SliceTried


class SlicePreview:
    """One layer that always shows the last slice that was tried.

    It hides the views of scans meanwhile: the first axis of the projections are their
    angles, that of slices are the rows.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._hidden: list[weakref.ref[Layer]] = []
        self.layer: Image | None = None

    def show(self, tried: SliceTried) -> None:
        """Show a slice; the contrast is chosen for the first one alone."""
        volume = tried.volume
        name = f"{volume.name} · preview"
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            self.hide_views()
            active = self._viewer.layers.selection.active
            self.layer = add_image_result(
                self._viewer,
                volume,
                like=None,
                name=name,
                contrast_limits=tried.limits,
                metadata={METADATA: {"helper": "preview", "view": "slice"}},
            )
            self._viewer.layers.selection.active = active
            return
        place = geometry(volume)
        layer.name = name
        layer.data = volume.data
        layer.scale, layer.translate = place["scale"], place["translate"]
        layer.units = place["units"]

    def hide_views(self) -> None:
        """Hide projections and sinograms, which lie over slices."""
        for layer in self._viewer.layers:
            if opened_scan(layer) is not None and layer.visible:
                layer.visible = False
                self._hidden.append(weakref.ref(unwrapped(layer)))

    def remove(self, *, show_views: bool = False) -> None:
        """Take the layer away, if it is there, and show again what it hid."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        hidden, self._hidden = self._hidden, []
        for ref in hidden if show_views else ():
            view = ref()
            if view is not None and view in self._viewer.layers:
                view.visible = True
