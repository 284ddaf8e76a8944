"""The place on screen, kept while layers come and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


@contextmanager
def point_kept(viewer: ViewerModel) -> Iterator[None]:
    """Go back to the slice that was shown, whatever happens to the layers meanwhile.

    Where the finest layer goes, the steps of a slider become longer and fewer. napari
    (0.9) first cuts the slider's old number of steps to the new maximum, and takes that
    for a wish: the viewer goes to another slice, often the last.
    """
    point = viewer.dims.point
    yield
    if viewer.dims.ndim == len(point):
        viewer.dims.point = point


def remove_in_place(viewer: ViewerModel, layer: Layer) -> None:
    """Take a layer away and stay on the slice that is shown."""
    with point_kept(viewer):
        viewer.layers.remove(layer)
