"""The sample that the user marks: labels, or outlines drawn in a Shapes layer."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import (
    chosen_position,
    is_helper,
    spatial_ndim,
    volume_beside,
    volume_from_layer,
)
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.position import indices_at, position_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes

#: Kinds of shapes that enclose an area.
_CLOSED = ("polygon", "rectangle", "ellipse")
#: Number of corners of the polygon that approximates an ellipse.
_CORNERS = 64
#: Maximum extent of an outline perpendicular to its slice, in voxels.
_MAX_TILT = 0.5
#: An axis of the volume, and the corners of an outline along the two other axes.
Outline = tuple[int | None, AnyArray]

#: Masks of Shapes layers, with the outlines from which they were made.
_known: weakref.WeakKeyDictionary[Layer, tuple[object, Volume | None]] = (
    weakref.WeakKeyDictionary()
)


def marks_sample(layer: Layer) -> bool:
    """Whether the user can choose `layer` as the sample."""
    return layer_type(layer) in ("labels", "shapes") and not is_helper(layer)


def sample_volume(
    mask: Layer | None, image: Layer, viewer: ViewerModel
) -> Volume | None:
    """Return the sample mask of an image.

    Outlines in a Shapes layer apply to all slices that are parallel to the slice in
    which they were drawn.

    Parameters
    ----------
    mask : Layer or None
        Labels or Shapes layer.
    image : Layer
    viewer : ViewerModel

    Raises
    ------
    VolumeError
        If labels are rotated relative to the image, or no outline encloses an area of
        the image.
    """
    if mask is None:
        return None
    if layer_type(mask) != "shapes":
        return volume_beside(mask, image, viewer, fields=["mask"])
    volume = volume_from_layer(image, viewer)
    outlines = _outlines(mask, image, viewer)
    place = volume.axes, volume.voxel_size, volume.unit, volume.origin
    key = (_key_of(outlines), volume.shape, place)
    known = _known.get(mask)
    if known is None or known[0] != key:
        data = _inside(outlines, volume.shape)
        known = key, None if data is None else Volume(data, *place)
        _known[mask] = known
    found = known[1]
    if found is None:
        raise VolumeError(
            f"Layer {mask.name!r} has no polygon, rectangle or ellipse on "
            f"{image.name!r}. Draw an outline of the sample.",
            fields=["mask"],
        )
    return found.replace(name=mask.name)


def sample_contents_key(
    mask: Layer, image: Layer, viewer: ViewerModel
) -> tuple[Any, ...]:
    """Return a key that changes with the voxels or the outlines of a sample mask."""
    if layer_type(mask) == "shapes":
        return _key_of(_outlines(mask, image, viewer))
    return contents_key(mask), tuple(chosen_position(mask, viewer).items())


def _key_of(outlines: list[Outline]) -> tuple[Any, ...]:
    return tuple((axis, corners.tobytes()) for axis, corners in outlines)


def corners_of(data: AnyArray, kind: str) -> AnyArray:
    """Return a shape's outline as a polygon; napari stores the box of an ellipse."""
    if kind != "ellipse":
        return data
    turns = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
    halves = (data[1] - data[0]) / 2, (data[3] - data[0]) / 2
    outline: AnyArray = (
        data.mean(axis=0) + np.cos(turns) * halves[0] + np.sin(turns) * halves[1]
    )
    return outline


def _outlines(shapes: Shapes, image: Layer, viewer: ViewerModel) -> list[Outline]:
    """Return the outlines of a Shapes layer in voxels of the image."""
    n = spatial_ndim(image)
    # The transform is affine, so a few points determine it.
    start, *ends = (
        indices_at(viewer, image, position_of(viewer, shapes, point))[-n:]
        for point in np.vstack([np.zeros(shapes.ndim), np.eye(shapes.ndim)])
    )
    edges = np.array(ends) - start
    found = []
    kinds = zip(shapes.data, shapes.shape_type, strict=True)
    for number, (data, kind) in enumerate(kinds, start=1):
        if kind not in _CLOSED:
            continue
        corners = start + corners_of(np.asarray(data, float), str(kind)) @ edges
        axis = None
        if n == 3:
            extents = np.ptp(corners, axis=0)
            axis = 0 if shapes.ndim < 3 else int(np.argmin(extents))
            if shapes.ndim >= 3 and extents[axis] > _MAX_TILT:
                raise VolumeError(
                    f"Shape {number} of layer {shapes.name!r} is not parallel to the "
                    f"slices of {image.name!r}. Draw it in a slice.",
                    fields=["mask"],
                )
            corners = np.delete(corners, axis, axis=1)
        found.append((axis, corners))
    return found


def _inside(outlines: list[Outline], shape: tuple[int, ...]) -> AnyArray | None:
    """Return a mask of voxels with centres inside an outline; None if it is empty."""
    planes: dict[int | None, AnyArray] = {}
    for axis, corners in outlines:
        edges = [size for i, size in enumerate(shape) if i != axis]
        mask = filled(corners, (edges[0], edges[1]))
        planes[axis] = planes.get(axis, False) | mask
    found: AnyArray = np.zeros((), np.uint8)
    for axis, plane in planes.items():
        whole = plane if axis is None else np.expand_dims(plane, axis)
        found = found | whole.view(np.uint8)
    return np.broadcast_to(found, shape) if found.any() else None


def filled(corners: AnyArray, shape: tuple[int, int]) -> AnyArray:
    """Return a mask of the pixels with centres inside a polygon (even-odd rule).

    The number of operations is proportional to the number of pixels plus the number of
    corners; `skimage.draw.polygon2mask` tests every pixel against every corner, which
    would block the window for about a second.
    """
    height, width = shape
    toggled = np.zeros((height, width + 1), bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = np.clip(np.ceil([min(y0, y1), max(y0, y1)]), 0, height).astype(int)
        rows = np.arange(low, high)
        crossings = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
        toggled[rows, np.clip(crossings, 0, width).astype(int)] ^= True
    mask: AnyArray = np.logical_xor.accumulate(toggled, axis=1)[:, :width]
    return mask
