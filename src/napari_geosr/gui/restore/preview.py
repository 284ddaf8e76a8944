"""The region on screen, and the layer that shows it restored."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.layers import (
    METADATA,
    add_result,
    finest,
    layer_metadata,
    replace_data,
    spatial_ndim,
)
from napari_geosr.gui.layers.camera import remove_in_place
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.position import indices_at, plane_on_screen, unit_factors

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from qtpy.QtCore import QObject

    from napari_geosr.core.volume import Volume

Region = tuple[slice, ...]

#: Edge lengths of previewed regions, in voxels of the input, longest first.
PREVIEW_EDGES = (512, 256, 128, 64)

#: Milliseconds after which a hidden preview is removed.
_REMOVAL_MS = 100


def region_on_screen(
    layer: Image, viewer: ViewerModel, edge: int | None = None
) -> Region:
    """Return the part of the layer's volume that is on screen.

    Parameters
    ----------
    edge : int, optional
        Maximum size in voxels along the displayed axes, around the centre of the
        visible part; shorter axes are included in full.

    Returns
    -------
    tuple of slice
        One slice per spatial axis (Z, Y, X or Y, X), in voxels; a single plane in
        depth.
    """
    shape = tuple(finest(layer).shape)
    n = spatial_ndim(layer)
    offset = viewer.dims.ndim - len(shape)
    # In 3D, use the two axes that a 2D slice would show.
    displayed = {axis - offset for axis in viewer.dims.order[-2:]}
    corners = _corners(layer, viewer)
    region = []
    for axis in range(len(shape) - n, len(shape)):
        size = shape[axis]
        if axis not in displayed:
            index = plane_on_screen(viewer, layer, axis, size)
            region.append(slice(index, index + 1))
            continue
        start, stop = int(corners[0, axis]), int(corners[1, axis]) + 1
        if viewer.dims.ndisplay == 3 or stop - start < 2:
            start, stop = 0, size
        region.append(_part(start, stop, size, edge))
    return tuple(region)


def _part(start: int, stop: int, size: int, edge: int | None) -> slice:
    """Return up to `edge` voxels around the middle of a range, inside the axis."""
    if edge is None:
        return slice(max(start, 0), min(stop, size))
    if size <= edge:
        return slice(0, size)
    begin = (start + stop) // 2 - edge // 2
    begin = min(max(begin, 0), size - edge)
    return slice(begin, begin + edge)


def _corners(layer: Image, viewer: ViewerModel) -> AnyArray:
    """Return the first and last visible voxel along each axis of the layer."""
    corners = np.asarray(layer.corner_pixels, dtype=float)
    if getattr(layer, "multiscale", False):
        corners = corners * layer.downsample_factors[layer.data_level]
    factors = unit_factors(viewer, layer)
    if np.allclose(factors, 1):
        return corners
    # napari ignores units in `corner_pixels` and clips the corners to the layer, so use
    # a region around the centre of the camera instead.
    middle = np.array(viewer.dims.point, dtype=float)
    middle[list(viewer.dims.order[-2:])] = viewer.scene.camera.center[-2:]
    last = np.array(finest(layer).shape) - 1
    index = np.clip(indices_at(viewer, layer, middle), 0, last)
    half = PREVIEW_EDGES[0] // 2
    return np.array([index - half, index + half - 1])


class PreviewLayer:
    """One layer that always shows the latest preview, at its position."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        self._viewer = viewer
        self._source: weakref.ref[Image] | None = None
        self.layer: Image | Labels | None = None
        self._hidden: weakref.ref[Image | Labels] | None = None
        self._timer = QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._remove_hidden)

    @property
    def source(self) -> Image | None:
        """The layer that the preview belongs to, if it still exists."""
        return None if self._source is None else self._source()

    def show(self, volume: Volume, source: Image) -> None:
        """Show a restored region over the layer `source`."""
        self._source = weakref.ref(source)
        name = f"{volume.name} · preview"
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            self._remove_hidden()  # napari would rename a second layer of this name
            active = self._viewer.layers.selection.active
            metadata = layer_metadata(volume)
            metadata[METADATA]["helper"] = "preview"
            self.layer = add_result(
                self._viewer, volume, like=source, name=name, metadata=metadata
            )
            self._viewer.layers.selection.active = active
            return
        layer.name = name
        is_other = (layer_type(layer) == "labels") != volume.holds_labels
        if is_other or layer.data.ndim != volume.data.ndim:
            self.remove()
            self.show(volume, source)
            return
        replace_data(self._viewer, layer, volume, like=source)

    def remove(self) -> None:
        """Hide the layer, if it still exists, and remove it a moment later.

        napari collects garbage whenever a layer is removed, which blocks the window for
        as long as adding a layer does. With this delay, a run that begins now can first
        show its progress bar.
        """
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            layer.visible = False
            self._hidden = weakref.ref(layer)
            self._timer.start(_REMOVAL_MS)

    def _remove_hidden(self) -> None:
        self._timer.stop()
        layer = None if self._hidden is None else self._hidden()
        self._hidden = None
        if layer is not None and layer in self._viewer.layers:
            remove_in_place(self._viewer, layer)
