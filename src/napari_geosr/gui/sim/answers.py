"""The choice of two results of the SIM dock, and the tools to compare them."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers.combo import ElidingCombo
from napari_geosr.gui.layers.curtain import CompareBox
from napari_geosr.operations.sim import METHOD_TITLES

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

#: Short names of the methods, for the labels next to the curtain's line.
_SHORT = {
    "widefield": "widefield",
    "wiener": "Wiener",
    "joint-rl": "Richardson–Lucy",
    "pinn": "network",
}


class AnswerCompare(QWidget):
    """Menus that choose two results to compare, above the curtain and blink buttons.

    Each menu lists one result per method, of the same frames.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        #: Results of each method, by the key of their frames.
        self._results: dict[Hashable, dict[str, weakref.ref[Image]]] = {}
        self._source: Hashable = None
        self.left, self.right = (
            self._menu(side) for side in ("to the left", "to the right")
        )
        self.menus = QWidget()
        row = QHBoxLayout(self.menus)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.left, 1)
        middle = QLabel("and")
        middle.setAccessibleName("and")
        middle.setToolTip("The two results that are compared.")
        row.addWidget(middle)
        row.addWidget(self.right, 1)
        self.box = CompareBox(viewer, labels=("left", "right"))
        # Contrast is not linked: grey values of the results differ about tenfold.
        self.box.link_box.setChecked(False)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.menus)
        column.addWidget(self.box)
        self.setVisible(False)  # until there are two results
        Connections(self).connect(viewer.layers.events.removed, self._on_removed)

    def _menu(self, side: str) -> ElidingCombo:
        menu = ElidingCombo()
        menu.setAccessibleName(f"Result {side}")
        menu.setToolTip(f"Method shown {side} of the curtain line.")
        menu.setMinimumWidth(60)
        menu.currentIndexChanged.connect(self._on_chosen)
        return menu

    @property
    def _layers(self) -> dict[str, weakref.ref[Image]]:
        return self._results.setdefault(self._source, {})

    def show_source(self, source: Hashable) -> None:
        """Offer the results of other frames.

        Parameters
        ----------
        source : hashable
            Identifies the frames, such as their `contents_key`.
        """
        if source != self._source:
            self._source = source
            last = next(reversed(self._layers), None)
            self._fill(self._partner(last, None), last)

    def layer(self, method: str) -> Image | None:
        """Return the newest result of a method, if it is still in the viewer."""
        found = self._layers.get(method)
        layer = None if found is None else found()
        return layer if layer is not None and layer in self._viewer.layers else None

    def add(self, method: str, layer: Image, source: Hashable = None) -> None:
        """Offer a new result; compare it with the widefield image or another result."""
        results = self._results.setdefault(source, {})
        results.pop(method, None)
        results[method] = weakref.ref(layer)
        if source == self._source:
            self._fill(self._partner(method, self.left.currentData()), method)

    def _partner(self, method: str | None, before: str | None) -> str | None:
        """Return the method with which to compare a result, by default as before."""
        others = [n for n in self._layers if n != method and self.layer(n) is not None]
        if "widefield" in others:
            return "widefield"
        return before if before in others else next(iter(others), None)

    def _fill(self, left: str | None, right: str | None) -> None:
        """List the results that are in the viewer, and select two of them."""
        present = [name for name in METHOD_TITLES if self.layer(name) is not None]
        for menu, chosen in ((self.left, left), (self.right, right)):
            menu.blockSignals(True)
            menu.clear()
            for name in present:
                menu.addItem(METHOD_TITLES[name], name)
            menu.setCurrentIndex(menu.findData(chosen))
            menu.blockSignals(False)
        self.setVisible(len(present) > 1)
        self._on_chosen()

    def _on_chosen(self, _index: int = 0) -> None:
        names = self.left.currentData(), self.right.currentData()
        one, other = (None if n is None else self.layer(n) for n in names)
        if one is None or other is None or one is other or one.ndim != other.ndim:
            self.box.clear()
            return
        self.box.change_pair(one, other, (_SHORT[names[0]], _SHORT[names[1]]))

    def _on_removed(self, event: object) -> None:
        removed = getattr(event, "value", None)
        if any(found() is removed for found in self._layers.values()):
            self._fill(self.left.currentData(), self.right.currentData())
