"""The part of the frames on screen, and the pixel size of their layer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.gui.layers import finest, provenance_of, set_voxel_size
from napari_geosr.gui.layers.camera import fit_camera, preserve_slice
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.position import indices_at, plane_on_screen

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

#: Operations with results that are not raw frames.
_OPERATIONS = ("sim", "pinn-sim")
#: Edge length of a preview, in camera pixels.
PREVIEW_EDGE = 512


def frames_key(layer: Image) -> tuple[object, ...]:
    """Return a key that changes with the frames, their axes and their pixel size.

    The key does not depend on the position of the layer.
    """
    known = geometry_of_layer(layer)
    return contents_key(layer), known.axes, known.voxel_size, known.unit


def may_be_frames(layer: Layer) -> bool:
    """Whether a layer may be chosen as raw frames automatically."""
    records = provenance_of(layer)
    is_result = bool(records) and records[-1].get("operation") in _OPERATIONS
    return layer.ndim > 2 and not is_result


def visible_part(
    viewer: napari.viewer.Viewer, layer: Image, frames: SimFrames
) -> tuple[slice, slice]:
    """Return the rows and columns of the camera to preview."""
    point = np.array(viewer.dims.point, dtype=float)
    point[-2:] = viewer.scene.camera.center[-2:]
    middle = indices_at(viewer, layer, point)[-2:]
    parts = []
    for centre, size in zip(middle, frames.plane_shape, strict=True):
        edge = min(PREVIEW_EDGE, size)
        start = int(np.clip(round(float(centre)) - edge // 2, 0, size - edge))
        parts.append(slice(start, start + edge))
    return parts[0], parts[1]


def show_frame(
    viewer: napari.viewer.Viewer,
    layer: Image,
    frames: SimFrames,
    place: tuple[int, int],
) -> None:
    """Move the sliders to a frame, given by angle and phase, of the middle slice."""
    lengths = [frames.volume.length(axis) for axis in frames.frame_axes]
    at = frames.index(*place, frames.n_planes // 2)
    axes = geometry_of_layer(layer).axes
    offset = viewer.dims.ndim - layer.ndim
    for axis, i in zip(frames.frame_axes, np.unravel_index(at, lengths), strict=True):
        if axis in axes:
            viewer.dims.set_current_step(offset + axes.index(axis), int(i))


def plane_of_frame(
    viewer: napari.viewer.Viewer, layer: Image, frames: SimFrames
) -> tuple[int, int, int]:
    """Return the slice, time point and channel of the frame on screen."""
    axes, shape = geometry_of_layer(layer).axes, finest(layer).shape
    places = {
        letter: plane_on_screen(viewer, layer, axis, shape[axis])
        for axis, letter in enumerate(axes)
        if letter in "TCZ"
    }
    return frames.plane_at(places)


def give_pixel_size(viewer: napari.viewer.Viewer, layer: Image, edge: float) -> bool:
    """Give the frames a pixel size of `edge` µm, so that results lie over them.

    The view is fitted to the frames, because their size in the viewer changes.

    Returns
    -------
    bool
        Whether the slice spacing is unknown, and was set to the pixel size.
    """
    known = geometry_of_layer(layer)
    sizes = (edge,) * len(known.voxel_size)
    if known.unit != PIXEL and len(sizes) == 3:
        depth = convert_length(known.voxel_size[0], known.unit, "µm")
        sizes = (depth, edge, edge)
    if known.unit != "µm" or not np.allclose(known.voxel_size, sizes, rtol=1e-6):
        with preserve_slice(viewer, layer):
            set_voxel_size(layer, sizes, "µm")
        fit_camera(viewer, layer)
    return known.unit == PIXEL and len(sizes) == 3


class AssumedDistances:
    """Layers whose slice spacing was set to the pixel size."""

    def __init__(self) -> None:
        #: The assumed spacing, in µm.
        self._distances: WeakKeyDictionary[Image, float] = WeakKeyDictionary()

    def add(self, layer: Image) -> None:
        """Remember that the current slice spacing of a layer is an assumption."""
        self._distances[layer] = _distance(layer)

    def __contains__(self, layer: Image) -> bool:
        """Whether the slice spacing of a layer is still the assumed one."""
        assumed = self._distances.get(layer)
        return assumed is not None and bool(np.isclose(_distance(layer), assumed))


def _distance(layer: Image) -> float:
    """Return the slice spacing of a layer in µm; NaN if it has no unit."""
    known = geometry_of_layer(layer)
    if known.unit == PIXEL:
        return float("nan")
    return convert_length(known.voxel_size[0], known.unit, "µm")
