"""Convert between the viewer's coordinates and the voxels of a layer.

Layers may have different units, such as nm and µm. The viewer, its sliders, camera and
mouse then use one of them (``viewer.layers.units``); napari converts when it slices,
but not in ``layer.world_to_data`` and ``data_to_world``.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event

#: Minimum mouse movement, in pixels, that counts as dragging, as in napari.
_DRAG = 5

Floats = np.ndarray[Any, np.dtype[np.float64]]


def unit_factors(viewer: ViewerModel, layer: Layer) -> Floats:
    """Return the number of viewer units per layer unit, for each axis of the layer."""
    world = viewer.layers.units
    if world is None or len(world) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, world[-layer.ndim :], strict=True)
    return np.array([_factor(unit, other) for unit, other in pairs])


def _factor(unit: Any, other: Any) -> float:
    if unit == other or not unit.is_compatible_with(other):
        return 1.0
    return float((1.0 * unit).to(other).magnitude)


def in_layer_units(
    viewer: ViewerModel, layer: Layer, position: Sequence[float] | Floats
) -> Floats:
    """Convert a viewer position to the layer's units, along the layer's axes."""
    known = np.asarray(position, dtype=np.float64)[-layer.ndim :]
    whole = np.zeros(layer.ndim)
    whole[layer.ndim - len(known) :] = known
    return whole / unit_factors(viewer, layer)


def indices_at(
    viewer: ViewerModel, layer: Layer, position: Sequence[float] | Floats
) -> Floats:
    """Convert a viewer position to voxel coordinates, one per layer axis."""
    place = in_layer_units(viewer, layer, position)
    return np.asarray(layer.world_to_data(place), dtype=np.float64)


def position_of(
    viewer: ViewerModel, layer: Layer, index: Sequence[float] | Floats
) -> Floats:
    """Convert voxel coordinates to viewer coordinates, one per layer axis.

    A shorter `index` refers to the layer's last axes.
    """
    place = np.asarray(layer.data_to_world(index), dtype=np.float64)
    return place * unit_factors(viewer, layer)


def index_on_screen(viewer: ViewerModel, layer: Layer, axis: int) -> float:
    """Return the viewer's slice position along a layer axis, in voxels."""
    point = np.array(viewer.dims.point, dtype=np.float64)
    cut = viewer.dims.ndim - layer.ndim + axis
    # As in napari, the viewer's position along displayed axes does not move the cut
    # through a rotated layer.
    point[[shown for shown in viewer.dims.displayed if shown != cut]] = 0
    return float(indices_at(viewer, layer, point)[axis])


def plane_on_screen(viewer: ViewerModel, layer: Layer, axis: int, size: int) -> int:
    """Return the plane shown along a layer axis, between 0 and `size` - 1.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Layer
    axis : int
        Axis of the layer.
    size : int
        Number of planes.
    """
    index = round(index_on_screen(viewer, layer, axis))
    return min(max(index, 0), size - 1)


def edge_at(viewer: ViewerModel, layer: Layer, axis: int, x: float) -> float:
    """Return the position at a canvas pixel, in voxels.

    The outer edge of the first voxel is at 0.

    Parameters
    ----------
    axis : int
        Layer axis that runs from left to right, counted from the end (negative).
    x : float
        Pixels from the left edge of the canvas.
    """
    camera, middle = viewer.scene.camera, _width(viewer) / 2
    place = np.array(viewer.dims.point, dtype=np.float64)
    place[axis] = camera.center[-1] + (x - middle) / camera.zoom
    return float(indices_at(viewer, layer, place)[axis]) + 0.5


def pixel_of(viewer: ViewerModel, layer: Layer, axis: int, edge: float) -> float:
    """Return the canvas pixel at a voxel edge; the inverse of `edge_at`.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Layer
    axis : int
        Axis of the layer.
    edge : float
        Position of the edge in voxels; the outer edge of the first voxel is at 0.
    """
    index = np.zeros(layer.ndim)
    index[axis] = edge - 0.5
    camera = viewer.scene.camera
    place = float(position_of(viewer, layer, index)[axis])
    return float(_width(viewer) / 2 + (place - camera.center[-1]) * camera.zoom)


def edges_in_canvas(
    viewer: ViewerModel, layer: Layer, axis: int
) -> tuple[float, float]:
    """Return the visible range of an axis in voxels (in 3D or if hidden, all of it)."""
    data: Any = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    size = float(data.shape[axis])
    ends = sorted(edge_at(viewer, layer, axis, x) for x in (0, _width(viewer)))
    low, high = max(0.0, ends[0]), min(size, ends[1])
    if viewer.dims.ndisplay == 3 or high <= low:
        return 0.0, size
    return low, high


def _width(viewer: ViewerModel) -> float:
    """Return the width of the canvas in pixels."""
    return float(viewer.canvas.viewbox_size(viewer.layers)[1])


def click_callback(picker: weakref.ref[Any]) -> Any:
    """Make a viewer mouse callback that calls `picker.pick` on a click.

    A drag, which pans the view, does not count as a click; a movement of a few pixels
    is not a drag.
    """

    def pick(viewer: Any, event: Event) -> Generator[None, None, None]:
        """Follow a mouse press to its release."""
        position, start = tuple(event.position), np.asarray(event.pos)
        yield
        moved = False
        while event.type == "mouse_move":
            moved = moved or np.abs(np.asarray(event.pos) - start).max() >= _DRAG
            yield
        owner = picker()
        if not moved and owner is not None and event.button in (1, None):
            owner.pick(position)

    return pick
