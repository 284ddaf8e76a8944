"""Highlights pores in a layer quickly, while a selection changes.

Assigning a colormap has napari compile a shader, and redraw the layer list and the
layer controls. While a lasso is drawn, only the part of the labels on screen is sent to
the graphics card. The rest follows when the selection rests.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.porosity.pore_colours import PoreColormap, PoreColours

if TYPE_CHECKING:
    from napari.layers import Labels

#: Milliseconds after the last change until the layer's thumbnail is drawn.
_REST = 200


class Highlighter(QObject):
    """Shows which pores are selected in the colours of a layer."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._layer: weakref.ref[Labels] | None = None
        self._colormap: PoreColormap | None = None
        self._of: PoreColours | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST)
        self._timer.timeout.connect(self._rest)

    def show(
        self,
        layer: Labels,
        colours: PoreColours,
        marked: AnyArray,
        *,
        hide_others: bool = False,
    ) -> None:
        """Colour the pores of a layer, and highlight the marked ones.

        Parameters
        ----------
        layer : Labels
        colours : PoreColours
        marked : ndarray of bool, shape (n,)
            Pores to highlight.
        hide_others : bool
            Show only these.
        """
        colormap = self._colormap
        if (
            colormap is None
            or self._of is not colours
            or layer.colormap is not colormap
            or not _can_be_quick(layer)
        ):
            self._timer.stop()
            colormap = colours.colormap(marked, hide_others=hide_others)
            layer.colormap = colormap
            self._layer, self._of = weakref.ref(layer), colours
            self._colormap = colormap
            return
        colormap.set_classes(colours.highlighted(marked, hide_others=hide_others))
        image = layer._slice.image
        shown = image.view
        shown[...] = colormap._data_to_texture(image.raw)
        with layer.events.blocker():  # the layer list would be drawn for any event
            layer.events.labels_update(data=shown, offset=(0,) * shown.ndim)
        self._timer.start()

    def _rest(self) -> None:
        """Draw the layer's thumbnail, and show the colour of the selected label."""
        layer = None if self._layer is None else self._layer()
        if layer is not None:
            layer.refresh(data_displayed=False, highlight=False, extent=False)
            layer.events.selected_label()


def _can_be_quick(layer: Labels) -> bool:
    """Whether the labels on screen can be replaced without anything else."""
    from napari.settings import get_settings

    image = layer._slice.image
    return bool(
        layer.visible
        and layer.loaded
        and layer.contour == 0
        and image.raw.shape == image.view.shape
        and not layer.multiscale
        and not layer.show_selected_label
        and layer.data.dtype.itemsize > 2  # others are looked up on the graphics card
        and not get_settings().experimental.async_
    )
