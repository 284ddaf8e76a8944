"""Views of scans make room for slices, and come back as they were."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_geosr.gui.layers import unwrapped
from napari_geosr.gui.layers.camera import fit_camera
from napari_geosr.gui.layers.projections import opened_scan

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class ViewsAside:
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
