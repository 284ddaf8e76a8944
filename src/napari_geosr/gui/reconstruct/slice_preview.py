"""The layer that shows the slice which is tried, in its place."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_geosr.gui.kit.proxies import unwrapped
from napari_geosr.gui.layers import METADATA, add_image_result, geometry
from napari_geosr.gui.layers.camera import fit_camera
from napari_geosr.gui.layers.projections import opened_scan

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_geosr.operations.reconstruct.preview import SliceTried


class HiddenViews:
    """Hides projections and sinograms, which would lie over slices.

    They are other pictures of another size, so the camera moves from one to the other:
    to the first slices that are shown after views were hidden, and back.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._hidden: list[weakref.ref[Layer]] = []
        self._camera: tuple[Any, float] | None = None
        self._must_fit = False

    def hide(self) -> None:
        """Hide the views that are visible."""
        views = [layer for layer in self._viewer.layers if opened_scan(layer)]
        for layer in views:
            if layer.visible:
                layer.visible = False
                self._hidden.append(weakref.ref(unwrapped(layer)))
                self._must_fit = True
        camera = self._viewer.scene.camera
        if self._must_fit and self._camera is None:
            self._camera = tuple(camera.center), float(camera.zoom)

    def fit(self, layer: Layer) -> None:
        """Move the camera to slices, where views were seen before."""
        if not self._must_fit:
            return
        self._must_fit = False
        fit_camera(self._viewer, layer)

    def forget(self) -> None:
        """Leave hidden what is hidden."""
        self._hidden.clear()
        self._camera = None

    def show(self) -> None:
        """Show again what was hidden, as it was seen."""
        views = [view for ref in self._hidden if (view := ref()) is not None]
        views = [view for view in views if view in self._viewer.layers]
        for view in views:
            view.visible = True
        if views and self._camera is not None and self._viewer.dims.ndisplay == 2:
            camera = self._viewer.scene.camera
            camera.center, camera.zoom = self._camera
        self._must_fit = False
        self.forget()


class SlicePreviewLayer:
    """One layer that always shows the last slice that was tried.

    Views of scans are put aside meanwhile.
    """

    def __init__(self, viewer: ViewerModel, views: HiddenViews) -> None:
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
