"""OpenGL of napari's canvas, where a layer is removed outside of a paint event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtOpenGLWidgets import QOpenGLWidget

from napari_geosr.gui.kit.lifetime import Connections

if TYPE_CHECKING:
    from napari.components import LayerList
    from napari.utils.events import Event
    from qtpy.QtWidgets import QWidget


class CanvasContext:
    """Makes the canvas's OpenGL context current before napari removes a layer.

    When a layer is removed, napari sends all waiting OpenGL commands at once. Outside
    of a paint event no context is current: the first command fails, napari drops the
    error and with it the commands that follow, among them textures of other layers.
    Their next paint then ends with "Could not find texture with id …" and an empty
    canvas (napari 0.9.2, ``VispyCanvas._clean_and_update_scenegraph``).

    Parameters
    ----------
    layers : napari.components.LayerList
        Of the viewer.
    widget : QWidget
        A dock in the viewer's window; the context is found from it, and it ends the
        connection.
    connections : Connections
        Of the dock.
    """

    def __init__(
        self, layers: LayerList, widget: QWidget, connections: Connections
    ) -> None:
        self._widget = widget
        connections.connect(layers.events.removing, self.make_current)

    def make_current(self, _event: Event | None = None) -> None:
        """Make the context of each canvas in the window current, where it is shown."""
        for canvas in self._widget.window().findChildren(QOpenGLWidget):
            if canvas.isValid():
                canvas.makeCurrent()
