"""The layers of a reconstruction: the preview slice and the volume."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from napari_geosr.core.steps import Step, TargetReady, TileDone
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    layer_metadata,
    replace_data,
)
from napari_geosr.gui.layers.camera import fit_camera
from napari_geosr.gui.layers.projections import opened_scan
from napari_geosr.gui.layers.refresh import Refresher, rename
from napari_geosr.gui.reconstruct.steps import LimitsFound

if TYPE_CHECKING:
    import napari.viewer
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

    from napari_geosr.operations.reconstruct import ReconstructionResult
    from napari_geosr.operations.reconstruct.preview import TrialSlice


class HiddenViews:
    """Hides projections and sinograms, which would cover slices.

    Projections and sinograms differ in size from slices. The camera therefore moves to
    the first slice that is shown after they have been hidden, and back when they are
    shown again.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._hidden: list[weakref.ref[Layer]] = []
        self._camera: tuple[Any, float] | None = None
        self._must_fit = False

    def hide(self) -> None:
        """Hide the projections and sinograms that are visible."""
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
        """Fit the camera to a layer of slices if projections were hidden for it."""
        if not self._must_fit:
            return
        self._must_fit = False
        fit_camera(self._viewer, layer)

    def forget(self) -> None:
        """Forget the hidden layers, so that they stay hidden."""
        self._hidden.clear()
        self._camera = None

    def show(self) -> None:
        """Show the hidden layers again, with the previous camera."""
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
    """Shows the latest preview slice as a layer; hides projections and sinograms."""

    def __init__(self, viewer: ViewerModel, views: HiddenViews) -> None:
        self._viewer = viewer
        self._views = views
        self.layer: Image | None = None

    def show(self, tried: TrialSlice) -> None:
        """Show a slice; only the first one sets the contrast."""
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
        layer.name = name
        replace_data(self._viewer, layer, volume, like=None)

    def release(self) -> Image | None:
        """Hand over the layer for another use; return None if it was removed."""
        layer, self.layer = self.layer, None
        return layer if layer in self._viewer.layers else None

    def remove(self, *, show_views: bool = False) -> None:
        """Remove the layer, if it exists; optionally show the hidden layers again."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if show_views:
            self._views.show()


class VolumeLayer:
    """Shows the result of a run in a layer, which each step of the run updates."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._reusable: weakref.ref[Image] | None = None
        self._stopped: Volume | None = None
        self._resumed: Volume | None = None
        self._has_slices = False
        self._key: Any = None
        self._original_name = ""  # name of the layer; the user may rename it
        self._is_new = False
        self._refresher: Refresher | None = None

    def layer(self) -> Image | None:
        """Return the layer of the last run, if it still exists."""
        layer = None if self._layer is None else self._layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def unfinished(self, key: object) -> Image | None:
        """Return the partial result that a run with this `key` would resume, if any.

        There is one if the last run was stopped and nothing has changed since.
        """
        layer = self.layer()
        if self._stopped is None or layer is None or key != self._key:
            return None
        return layer if layer.data is self._stopped.data else None

    def begin(self, key: object, reusable: Image | None = None) -> Volume | None:
        """Begin a run; return the partial result that it resumes, if any.

        Parameters
        ----------
        reusable : Image layer, optional
            A layer with three axes that is no longer needed. The layer is reused
            because napari takes a third of a second to remove a layer and add another.
        """
        self._reusable = None if reusable is None else weakref.ref(reusable)
        stopped = self._stopped if self.unfinished(key) is not None else None
        if stopped is None:
            self._layer = None
        else:
            # The partial result has its own layer, so remove the reusable one.
            self.end()
        self._stopped, self._key = None, key
        self._resumed, self._has_slices = stopped, False
        return stopped

    def on_step(self, step: Step) -> None:
        """Handle a step: add the layer, set its contrast, or show finished slices."""
        layer = self.layer()
        if isinstance(step, TargetReady):
            self._is_new = layer is None
            if layer is None:
                layer = self._reuse_layer(step.volume) or add_image_result(
                    self._viewer,
                    step.volume,
                    like=None,
                    name=_unfinished(step.volume),
                    contrast_limits=(0.0, 1.0),
                )
                self._original_name = layer.name
                self._layer = weakref.ref(layer)
            self._refresher = Refresher(self._viewer, layer)
        elif isinstance(step, LimitsFound):
            if layer is not None and self._is_new:
                low, high = layer.contrast_limits = step.limits
                # napari widens the range of the sliders but never narrows it.
                layer.contrast_limits_range = 2 * low - high, 2 * high - low
        elif isinstance(step, TileDone) and self._refresher is not None:
            self._has_slices = True
            self._refresher.tile_done(step.slices)

    def _reuse_layer(self, volume: Volume) -> Image | None:
        """Return the reusable layer, now showing `volume`; None if there is none."""
        layer = None if self._reusable is None else self._reusable()
        if layer is None or layer not in self._viewer.layers:
            return None
        self._reusable = None
        replace_data(self._viewer, layer, volume, like=None)
        layer.metadata = layer_metadata(volume)
        layer.name = _unfinished(volume)  # last, because this updates lists of layers
        self._viewer.layers.selection.active = layer
        return layer

    def end(self) -> None:
        """Remove the reusable layer at the end of a run if it was not used."""
        layer = None if self._reusable is None else self._reusable()
        self._reusable = None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def abandon(self) -> None:
        """Remove the layer of a run without any finished slice.

        If an earlier run was resumed, its partial result is kept, so that the run can
        be resumed again.
        """
        self._refresher = None
        if self._resumed is not None:
            self._stopped = self._resumed
        elif not self._has_slices and (layer := self.layer()) is not None:
            self._layer = None
            self._viewer.layers.remove(layer)

    def finish(self, done: ReconstructionResult) -> Image | None:
        """Store the record of the run in the layer; return the layer, if it exists."""
        if self._refresher is not None:
            self._refresher.finish()
            self._refresher = None
        layer = self.layer()
        if layer is None:
            return None
        record = layer_metadata(done.volume)[METADATA]
        layer.metadata[METADATA] = record | {"info": dict(done.volume.metadata)}
        if not done.complete:
            self._stopped = done.volume
        elif layer.name == self._original_name:
            rename(self._viewer, layer, done.volume.name)
        return layer

    def forget(self, layer: object) -> bool:
        """Release the partial result if `layer` is its layer; return whether it is."""
        if self._layer is None or layer is not self._layer():
            return False
        self._stopped = None
        return True


def _unfinished(volume: Volume) -> str:
    return f"{volume.name} (unfinished)"
