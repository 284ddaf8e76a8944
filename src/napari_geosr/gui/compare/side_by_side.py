"""Show only the compared images, in a grid."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer


class SideBySide:
    """Shows some layers in a grid, and temporarily hides all others.

    napari gives each visible layer a grid cell, and links the cameras.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._before: list[tuple[weakref.ref[Layer], bool]] = []
        self._grid_before: tuple[int, tuple[int, int]] | None = None

    def show(self, layers: Sequence[Layer], *, stacked: bool = False) -> None:
        """Show these layers, one in each cell: next to each other, or stacked."""
        self._put_back()
        for layer in self._viewer.layers:
            self._before.append((weakref.ref(layer), layer.visible))
            layer.visible = any(layer is one for one in layers)
        grid = self._viewer.canvas.grid
        self._grid_before = grid.stride, grid.shape
        grid.stride = 1
        grid.shape = (-1, 1) if stacked else (1, -1)
        grid.enabled = True

    def end(self) -> None:
        """Show one canvas, with the layers that were visible before."""
        if self._before:
            self._viewer.canvas.grid.enabled = False
        self._put_back()

    def _put_back(self) -> None:
        before, self._before = self._before, []
        for reference, was_visible in before:
            layer = reference()
            if layer is not None:
                layer.visible = was_visible
        if self._grid_before is not None:
            grid = self._viewer.canvas.grid
            grid.stride, grid.shape = self._grid_before
            self._grid_before = None
