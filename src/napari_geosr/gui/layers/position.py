"""Between the viewer's coordinates and the voxels of a layer.

Layers may have different units, such as nm and µm. The viewer then counts in one of
them (``viewer.layers.units``), and so do its sliders, its camera and its mouse; napari
converts as it slices, but not in ``layer.world_to_data`` and ``data_to_world``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Floats = np.ndarray[Any, np.dtype[np.float64]]


def unit_factors(viewer: ViewerModel, layer: Layer) -> Floats:
    """How many of the viewer's units are one of the layer's, for each of its axes."""
    world = viewer.layers.units
    if world is None or len(world) < layer.ndim:
        return np.ones(layer.ndim)
    pairs = zip(layer.units, world[-layer.ndim :], strict=True)
    return np.array([_factor(own, other) for own, other in pairs])


def _factor(own: Any, other: Any) -> float:
    if own == other or not own.is_compatible_with(other):
        return 1.0
    return float((1.0 * own).to(other).magnitude)


def in_layer_units(
    viewer: ViewerModel, layer: Layer, position: Sequence[float] | Floats
) -> Floats:
    """Give a position in the viewer in the layer's units, along the layer's axes."""
    known = np.asarray(position, dtype=np.float64)[-layer.ndim :]
    whole = np.zeros(layer.ndim)
    whole[layer.ndim - len(known) :] = known
    return whole / unit_factors(viewer, layer)


def indices_at(
    viewer: ViewerModel, layer: Layer, position: Sequence[float] | Floats
) -> Floats:
    """Give the voxel coordinates of a position in the viewer, one per layer axis."""
    place = in_layer_units(viewer, layer, position)
    return np.asarray(layer.world_to_data(place), dtype=np.float64)


def position_of(
    viewer: ViewerModel, layer: Layer, index: Sequence[float] | Floats
) -> Floats:
    """Give the viewer's coordinates of voxel coordinates; one per layer axis.

    `index` may be shorter: it then counts along the layer's last axes.
    """
    place = np.asarray(layer.data_to_world(index), dtype=np.float64)
    return place * unit_factors(viewer, layer)


def index_on_screen(viewer: ViewerModel, layer: Layer, axis: int) -> float:
    """Give where the viewer cuts the layer along one of the layer's axes, in voxels."""
    point = np.array(viewer.dims.point, dtype=np.float64)
    cut = viewer.dims.ndim - layer.ndim + axis
    # As napari does: what is displayed does not move the cut of a turned layer.
    point[[shown for shown in viewer.dims.displayed if shown != cut]] = 0
    return float(indices_at(viewer, layer, point)[axis])


def plane_on_screen(viewer: ViewerModel, layer: Layer, axis: int, size: int) -> int:
    """Give the plane shown along one of the layer's axes, between 0 and `size` - 1."""
    index = round(index_on_screen(viewer, layer, axis))
    return min(max(index, 0), size - 1)
