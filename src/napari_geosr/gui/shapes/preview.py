"""The preview of the Shapes dock: a surface, shown over its faded input in 3D."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import alignment_with, helper_metadata
from napari_geosr.gui.layers.camera import look_from, remove_in_place
from napari_geosr.gui.layers.position import Floats, unit_factors
from napari_geosr.gui.shapes.layers import add_surface

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer, Surface

    from napari_geosr.operations.shapes import ShapePreview

#: Colour of the surface.
_COLOUR = "bop blue"
#: Opacity of the input while a preview is shown.
_OPACITY = 0.5
#: Blending of the input while a preview is shown, with which the input does not hide
#: the surface, even where the two coincide.
_BLENDING = "translucent_no_depth"
#: Minimum distance between the centres of a surface and the whole shape, relative to
#: the size of the shape, at which the camera looks from the side of the surface.
_MIN_OFFSET = 0.05


class PreviewSurface:
    """Shows a preview of the surface of a refined block or a completed part."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Surface] | None = None
        self._faded: FadedInput | None = None
        #: Input of the completion whose result the camera was last turned to.
        self._seen: weakref.ref[Labels] | None = None

    @property
    def layer(self) -> Surface | None:
        """The layer, if it is in the viewer."""
        layer = None if self._layer is None else self._layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def is_of(self, layer: Layer) -> bool:
        """Whether the preview shown is that of `layer`."""
        return self._faded is not None and self._faded.is_of(layer)

    def show(self, found: ShapePreview, source: Labels) -> None:
        """Show a surface in 3D, replacing any earlier one, and fade its input.

        When the viewer changes to 3D, and for the first preview of a completed part,
        the camera is turned to the surface.
        """
        self.clear()
        source = unwrapped(source)
        is_part = found.box is not None
        active = self._viewer.layers.selection.active
        made = add_surface(
            self._viewer,
            found.surface,
            name=f"{source.name} preview",
            colormap=_COLOUR,
            metadata=helper_metadata("preview"),
            **alignment_with(source),
        )
        self._layer = weakref.ref(made)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        self._faded = FadedInput(source)
        is_seen = not is_part or (self._seen is not None and self._seen() is source)
        self._seen = weakref.ref(source) if is_part else None
        if self._viewer.dims.ndisplay != 3:
            self._viewer.dims.ndisplay = 3
            is_seen = False
        if not is_seen:
            self._turn_to(made, found, source)

    def clear(self) -> None:
        """Remove the surface, and show its input as before."""
        if self._faded is not None:
            self._faded.end()
            self._faded = None
        layer, self._layer = self.layer, None
        if layer is not None:
            remove_in_place(self._viewer, layer)

    def _turn_to(self, layer: Surface, found: ShapePreview, source: Labels) -> None:
        """Look at the surface from outside the shape.

        A completed part is shown with the whole shape, a refined block alone.
        """
        shown = list(self._viewer.dims.displayed)
        shown = [axis - (self._viewer.dims.ndim - layer.ndim) for axis in shown]
        if min(shown) < 0:  # an axis on screen is not one of the surface
            return
        points = layer.data[0]
        block = _on_screen(self._viewer, layer, _corners(points.min(0), points.max(0)))
        if found.box is not None:
            whole = _on_screen(self._viewer, layer, _corners(*found.box))
            box = np.concatenate([whole, block])
        else:
            low, high = source.extent.world[:, -layer.ndim :]
            factors = unit_factors(self._viewer, source)[-layer.ndim :]
            whole, box = _corners(low, high) * factors, block
        outward = block.mean(0) - whole.mean(0)
        is_off_centre = np.linalg.norm(outward) > _MIN_OFFSET * np.ptp(whole, 0).max()
        look_from(
            self._viewer, box[:, shown], outward[shown] if is_off_centre else None
        )


class FadedInput:
    """Makes the input of a preview transparent.

    Parameters
    ----------
    source : Labels
        The input layer, which is not kept alive.
    """

    def __init__(self, source: Labels) -> None:
        self._source = weakref.ref(source)
        self._before = {"opacity": source.opacity, "blending": source.blending}
        self._faded = {"opacity": min(source.opacity, _OPACITY), "blending": _BLENDING}
        for name, value in self._faded.items():
            setattr(source, name, value)

    def is_of(self, layer: Layer) -> bool:
        """Whether `layer` is the input."""
        return self._source() is layer

    def end(self) -> None:
        """Show the input as before, except for any later changes by the user."""
        source = self._source()
        for name, value in self._before.items():
            if source is not None and getattr(source, name) == self._faded[name]:
                setattr(source, name, value)


def _corners(low: Iterable[float], high: Iterable[float]) -> Floats:
    """Return the eight corners of a box."""
    return np.array(list(itertools.product(*zip(low, high, strict=True))), np.float64)


def _on_screen(viewer: napari.viewer.Viewer, layer: Surface, points: Floats) -> Floats:
    """Return positions on a layer as positions in the viewer."""
    world = np.array([layer.data_to_world(point) for point in points], np.float64)
    found: Floats = world * unit_factors(viewer, layer)
    return found
