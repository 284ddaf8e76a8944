"""Control the camera, and keep the slice on screen while layers change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.gui.layers.position import (
    Floats,
    index_on_screen,
    position_of,
    unit_factors,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


#: Fraction of the canvas that a fitted slice fills, as in napari.
_FILL_FRACTION = 0.95
#: Angles, in degrees, of a camera that looks obliquely from the side.
_OBLIQUE = (10.0, -35.0, 60.0)
#: Maximum cosine of the angle between the direction of view and an axis that points up
#: on the canvas.
_MAX_ALONG = 0.95


def is_in_view(viewer: ViewerModel, layer: Layer) -> bool:
    """Whether a whole slice of `layer` is on screen; always False in 3D."""
    if viewer.dims.ndisplay != 2 or (box := _bounds_on_screen(viewer, layer)) is None:
        return False
    low, high = box
    centre = np.asarray(viewer.scene.camera.center[-2:], float)
    reach = _canvas_size(viewer) / viewer.scene.camera.zoom / 2
    slack = 1e-6 * reach
    inside = (low >= centre - reach - slack) & (high <= centre + reach + slack)
    return bool(inside.all())


def fit_camera(viewer: ViewerModel, layer: Layer) -> None:
    """Move the camera so that a slice of `layer` fills the canvas; reset it in 3D."""
    if viewer.dims.ndisplay != 2:
        viewer.reset_view()
        return
    box = _bounds_on_screen(viewer, layer)
    if box is None:
        return
    low, high = box
    camera = viewer.scene.camera
    camera.center = tuple((low + high) / 2)
    camera.zoom = float(_FILL_FRACTION * (_canvas_size(viewer) / (high - low)).min())


def look_from(viewer: ViewerModel, box: Floats, outward: Floats | None = None) -> None:
    """In 3D, look at a box from a direction, so that the box fills the canvas.

    Parameters
    ----------
    viewer : ViewerModel
        Viewer that shows three axes.
    box : ndarray of shape (N, 3)
        Corners of the box: viewer positions along the axes on screen.
    outward : ndarray of shape (3,), optional
        Direction from the box to the camera; by default, obliquely from the side.
    """
    camera = viewer.scene.camera
    camera.center = tuple((box.min(0) + box.max(0)) / 2)
    if outward is None or not outward.any():
        camera.angles = _OBLIQUE
    else:
        ahead = -outward / np.linalg.norm(outward)
        # The first axis points up on the canvas, unless the camera looks along it.
        upright = abs(ahead[0]) < _MAX_ALONG
        up = (1.0, 0.0, 0.0) if upright else (0.0, -1.0, 0.0)
        camera.set_view_direction(tuple(ahead), up)
    above = np.asarray(camera.up_direction)
    right = np.cross(camera.view_direction, above)
    sizes = [np.ptp(box @ axis) for axis in (above, right)]
    camera.zoom = float(_FILL_FRACTION * (_canvas_size(viewer) / sizes).min())


def centre_on(viewer: ViewerModel, layer: Layer, index: Sequence[float]) -> None:
    """Move the sliders and the camera to a voxel of a layer.

    Parameters
    ----------
    index : sequence of float
        Position along the layer's last axes, in voxels; other sliders do not move.
    """
    place = position_of(viewer, layer, index)
    displayed = list(viewer.dims.displayed)
    centre = list(viewer.scene.camera.center)
    for i in range(-len(index), 0):
        axis = viewer.dims.ndim + i
        if axis in displayed:
            centre[displayed.index(axis) - len(displayed)] = float(place[i])
        else:
            viewer.dims.set_point(axis, float(place[i]))
    viewer.scene.camera.center = tuple(centre)


def _canvas_size(viewer: ViewerModel) -> Floats:
    """Return the height and width of the canvas in pixels."""
    return np.asarray(viewer.canvas.viewbox_size(viewer.layers), float)


def _bounds_on_screen(
    viewer: ViewerModel, layer: Layer
) -> tuple[Floats, Floats] | None:
    """Return the bounds along the axes on screen; None if the layer lacks an axis."""
    shown = [axis - viewer.dims.ndim for axis in viewer.dims.displayed]
    if min(shown) < -layer.ndim:
        return None
    factors = unit_factors(viewer, layer)
    low, high = layer.extent.world * factors
    half = np.abs(layer.scale * factors) / 2
    return (low - half)[shown], (high + half)[shown]


@contextmanager
def preserve_point(viewer: ViewerModel) -> Iterator[None]:
    """Return to the current slice after layers have been added or removed.

    When the finest layer is removed, a slider has fewer, longer steps. napari (0.9)
    clips the slider's old step number to the new maximum and treats that as user input:
    the viewer jumps to another slice, often the last one.
    """
    point = viewer.dims.point
    yield
    if viewer.dims.ndim == len(point):
        viewer.dims.point = point


@contextmanager
def preserve_slice(viewer: ViewerModel, layer: Layer) -> Iterator[None]:
    """Return to the current slice of a layer after its voxel size has changed.

    When the scale or the unit of a layer changes, napari slices at the old position,
    which may be far outside the layer, and shows nothing until a slider moves.
    Therefore, each slider is moved away and back.
    """
    first = viewer.dims.ndim - layer.ndim
    index = {
        axis - first: index_on_screen(viewer, layer, axis - first)
        for axis in viewer.dims.not_displayed
        if axis >= first
    }
    try:
        yield
    finally:
        for axis, i in index.items():
            for at in (i + 1, i - 1, i):
                place = [0.0] * layer.ndim
                place[axis] = at
                point = position_of(viewer, layer, place)[axis]
                viewer.dims.set_point(axis + first, float(point))


def remove_in_place(viewer: ViewerModel, layer: Layer) -> None:
    """Remove a layer and stay on the current slice."""
    with preserve_point(viewer):
        viewer.layers.remove(layer)


def remove_together(viewer: ViewerModel, *layers: Layer | None) -> None:
    """Remove those of several layers that are in the viewer.

    napari collects garbage after each removal, which takes most of the time; here, it
    does so only once.
    """
    present = [la for la in layers if la is not None and la in viewer.layers]
    if present:
        with viewer.layers.batched_update():
            for layer in present:
                viewer.layers.remove(layer)
