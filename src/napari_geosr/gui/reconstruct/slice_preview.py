"""The layer that shows the slice which is tried, in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.gui.layers import METADATA, add_image_result, geometry
from napari_geosr.gui.reconstruct.views_aside import ViewsAside

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_geosr.operations.reconstruct.preview import SliceTried


class SlicePreview:
    """One layer that always shows the last slice that was tried.

    Views of scans are put aside meanwhile.
    """

    def __init__(self, viewer: ViewerModel, views: ViewsAside) -> None:
        self._viewer = viewer
        self._views = views
        self.layer: Image | None = None

    def show(self, tried: SliceTried) -> None:
        """Show a slice; the contrast is chosen for the first one alone."""
        volume = tried.volume
        name = f"{volume.name} · preview"
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            self._views.hide()
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
            self._views.fit(self.layer)
            return
        place = geometry(volume)
        layer.name = name
        layer.data = volume.data
        layer.scale, layer.translate = place["scale"], place["translate"]
        layer.units = place["units"]

    def release(self) -> Image | None:
        """Give the layer away, if it is there, to show something else in its place."""
        layer, self.layer = self.layer, None
        return layer if layer in self._viewer.layers else None

    def remove(self, *, show_views: bool = False) -> None:
        """Take the layer away, if it is there; and show again what it hid."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if show_views:
            self._views.show()
