"""Detects edits of layers while they are measured."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.porosity.measuring import PoreMeasurement

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.utils.events import Event


class EditWatch(QObject):
    """Remembers what layers contain at the beginning of a measurement.

    Outlines in a Shapes layer are left out, because a mask is made of them when the
    measurement begins.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._contents: list[tuple[weakref.ref[Layer], Any]] = []
        self._painted: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._connections = Connections(self)

    def begin(self, layers: Iterable[Layer | None]) -> None:
        """Watch the layers of a new measurement."""
        self._connections.end()
        self._painted.clear()
        self._contents = []
        for layer in layers:
            if layer is None or layer._type_string == "shapes":
                continue
            self._contents.append((weakref.ref(layer), contents_key(layer)))
            if layer._type_string == "labels":
                self._connections.connect(layer.events.paint, self._on_painted)

    def _on_painted(self, event: Event) -> None:
        """Handle painting; the comparison of contents may miss a small stroke."""
        self._painted.add(event.source)

    def end(self) -> list[str]:
        """Return the names of the layers that were edited since `begin`."""
        self._connections.end()
        existing = [(reference(), key) for reference, key in self._contents]
        return [
            layer.name
            for layer, key in existing
            if layer is not None
            and (layer in self._painted or contents_key(layer) != key)
        ]


def with_edits(measured: PoreMeasurement, edited: list[str]) -> PoreMeasurement:
    """Add a warning to the reports if layers were edited while they were measured."""
    if not edited:
        return measured
    names = " and ".join(map(repr, edited))
    warning = (
        f"{names} {'was' if len(edited) == 1 else 'were'} edited during the "
        "measurement, so these results may combine values from before and after the "
        "edit. Press Measure to measure again."
    )
    reports = {
        key: replace(report, warnings=(warning, *report.warnings))
        for key, report in measured.reports.items()
    }
    return replace(measured, reports=reports, edited=warning)
