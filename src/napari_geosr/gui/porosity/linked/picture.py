"""Outlines drawn in the viewer, which select the pores inside them."""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.lifetime import Connections, unwrapped, when_destroyed
from napari_geosr.gui.layers import helper_metadata, same_place
from napari_geosr.gui.porosity.drawn_sample import corners_of

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Shapes

#: Name of the layer in which outlines are drawn.
LAYER_NAME = "select pores"


class PictureOutlines(QObject):
    """A Shapes layer over the pores, which exists while outlines can be drawn.

    napari's lasso is active at first; polygons, rectangles and ellipses select pores in
    the same way. Every outline is removed once it has selected its pores.

    Signals
    -------
    enclosed : ndarray of int, Qt.KeyboardModifiers
        An outline was finished: labels of the pores with a voxel inside, in the slice
        that is shown, and the keys that were pressed.
    ended
        The layer was removed.
    """

    enclosed = Signal(object, object)
    ended = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._connections = Connections(self)
        self._pores: weakref.ref[Labels] | None = None
        self._shapes: weakref.ref[Shapes] | None = None
        # Without the dock, nothing would remove the layer.
        self._drawn: weakref.WeakSet[Shapes] = weakref.WeakSet()
        remove = partial(_remove, weakref.ref(unwrapped(viewer)), self._drawn)
        when_destroyed(self, remove)
        self._clearing = QTimer(self)
        self._clearing.setSingleShot(True)
        self._clearing.timeout.connect(self._clear)

    def begin(self, pores: Labels) -> None:
        """Allow outlines to be drawn over this layer."""
        from napari.layers import Shapes

        self.end()
        place = same_place(pores)
        metadata = helper_metadata("outlines")
        shapes = Shapes(
            None, ndim=pores.ndim, name=LAYER_NAME, metadata=metadata, **place
        )
        self._drawn.add(shapes)
        self._pores, self._shapes = weakref.ref(pores), weakref.ref(shapes)
        self._viewer.add_layer(shapes)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_polygon_lasso"
        self._connections.connect(shapes.events.data, self._on_data)
        self._connections.connect(self._viewer.layers.events.removed, self._on_removed)
        self._connections.connect(self._viewer.dims.events.ndisplay, self.end)

    def end(self, _event: object = None) -> None:
        """Remove the layer, if there is one."""
        self._connections.end()
        self._clearing.stop()
        shapes, pores = self._layers()
        was_there, self._shapes, self._pores = self._shapes is not None, None, None
        layers = self._viewer.layers
        if shapes is not None and shapes in layers:
            layers.remove(shapes)
            if pores is not None and pores in layers:
                layers.selection.active = pores
        if was_there:
            self.ended.emit()

    def _layers(self) -> tuple[Shapes | None, Labels | None]:
        shapes = None if self._shapes is None else self._shapes()
        return shapes, None if self._pores is None else self._pores()

    def _on_removed(self, _event: object = None) -> None:
        """End if one of the two layers was removed."""
        if any(layer not in self._viewer.layers for layer in self._layers()):
            self.end()

    def _on_data(self, event: Any) -> None:
        """Select the pores inside an outline that was just finished."""
        shapes, pores = self._layers()
        if str(event.action) != "added" or not shapes or not pores or not shapes.data:
            return
        outline = corners_of(np.asarray(shapes.data[-1]), str(shapes.shape_type[-1]))
        self._clearing.start(0)  # napari is still processing the shape
        if len(outline) < 3:
            return
        before = self._viewer.dims.ndim - pores.ndim
        axes = sorted(axis - before for axis in self._viewer.dims.displayed)
        labels = labels_inside(pores.data, outline, axes)
        self.enclosed.emit(labels, QApplication.keyboardModifiers())

    def _clear(self) -> None:
        shapes, _ = self._layers()
        if shapes is not None:
            shapes.data = []


def _remove(
    viewer: weakref.ref[napari.viewer.Viewer], drawn: weakref.WeakSet[Shapes]
) -> None:
    """Remove layers of outlines that are still in the viewer."""
    there = viewer()
    for layer in list(drawn):
        if there is not None and layer in there.layers:
            with suppress(RuntimeError):  # napari's window is being deleted, too
                there.layers.remove(layer)


def labels_inside(labels: Any, outline: AnyArray, axes: list[int]) -> AnyArray:
    """Return the labels of the voxels in a plane that have centres inside an outline.

    Parameters
    ----------
    labels : array-like of int
    outline : ndarray of float, shape (n, ndim)
        Corners of a polygon in voxels.
    axes : list of 2 int
        The axes of the plane, ascending.
    """
    from skimage.draw import polygon2mask

    box: list[Any] = [
        int(np.clip(np.rint(middle), 0, size - 1))
        for middle, size in zip(outline.mean(axis=0), labels.shape, strict=True)
    ]
    begins = []
    for axis in axes:
        low, high = outline[:, axis].min(), outline[:, axis].max()
        begin = int(np.clip(np.floor(low), 0, labels.shape[axis]))
        box[axis] = slice(begin, int(np.clip(np.ceil(high) + 1, begin, None)))
        begins.append(begin)
    part = np.asarray(labels[tuple(box)])
    if not part.size:
        return np.zeros(0, np.int64)
    inside = polygon2mask(part.shape, outline[:, axes] - begins)
    found: AnyArray = np.unique(part[inside])
    return found[found > 0]
