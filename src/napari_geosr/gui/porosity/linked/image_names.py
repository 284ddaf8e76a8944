"""Rename the results of a measurement when a measured image is renamed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QLabel

from napari_geosr.gui.kit.lifetime import Connections

if TYPE_CHECKING:
    from napari.layers import Layer


class ImageNames(QObject):
    """Renames the menu entry, heading and result layers when an image is renamed.

    Parameters
    ----------
    menu : QComboBox
        Menu of images; the data of each entry is the key of the report.
    heading : QLabel
        Names the first image.
    layers_of : callable
        Yields the result layers of an image, given the key of its report.
    parent : QObject

    Signals
    -------
    changed : dict of str to str
        Names of the images, by key of the report.
    """

    changed = Signal(object)

    def __init__(
        self,
        menu: QComboBox,
        heading: QLabel,
        layers_of: Callable[[str], Iterator[Layer]],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._menu, self._heading, self._layers_of = menu, heading, layers_of
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self._names: dict[str, str] = {}
        self._connections = Connections(self)

    def follow(self, sources: Mapping[str, weakref.ref[Layer]]) -> None:
        """Follow the images of a new measurement, by key of the report."""
        self._connections.end()
        self._sources, self._names = dict(sources), {key: key for key in sources}
        for reference in sources.values():
            if (layer := reference()) is not None:
                self._connections.connect(layer.events.name, self._on_renamed)
        self._on_renamed()  # an image may have been renamed during the measurement

    def _on_renamed(self, _event: object = None) -> None:
        before = dict(self._names)
        self._rename()
        if self._names != before:
            self.changed.emit(distinct(self._names))

    def _rename(self) -> None:
        for key, reference in self._sources.items():
            layer, before = reference(), self._names[key]
            if layer is None or layer.name == before:
                continue
            self._names[key] = layer.name
            if (index := self._menu.findData(key)) >= 0:
                with QSignalBlocker(self._menu):
                    self._menu.setItemText(index, layer.name)
            start = f"Image: {before}"
            if key == next(iter(self._sources)) and self._heading.text().startswith(
                start
            ):
                rest = self._heading.text().removeprefix(start)
                self._heading.setText(f"Image: {layer.name}{rest}")
            for shown in self._layers_of(key):
                if shown.name.startswith(f"{before} · "):
                    shown.name = layer.name + shown.name.removeprefix(before)


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Return distinct names; the key is appended to a name that occurred before.

    Examples
    --------
    >>> distinct({"A": "scan", "B": "scan"})
    {'A': 'scan', 'B': 'scan (B)'}
    """
    shown: dict[str, str] = {}
    for key, name in names.items():
        shown[key] = f"{name} ({key})" if name in shown.values() else name
    return shown
