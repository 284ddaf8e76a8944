"""Notices when the user edits the labels of the measured pores."""

from __future__ import annotations

import math
import weakref
from collections.abc import Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.porosity import pore_layers

if TYPE_CHECKING:
    from napari.layers import Labels

#: Delay in milliseconds from the last redraw until the labels are checked for edits.
_DELAY = 300
#: Maximum size in bytes of labels that are compared with the original ones after edits,
#: to find out whether these were undone.
_MAX_BYTES = 2**30


class EditedPores(QObject):
    """Follows the pore layers of the last measurement.

    napari emits no event when an edit is undone or an array is changed in place, so
    that labels are also checked after the layer was redrawn.

    Signals
    -------
    changed
        The note may have changed.
    """

    changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._followed = Connections(self)
        self._original: weakref.WeakKeyDictionary[Labels, Any] = (
            weakref.WeakKeyDictionary()
        )
        #: Number of edits of each edited layer.
        self._edits: weakref.WeakKeyDictionary[Labels, int] = (
            weakref.WeakKeyDictionary()
        )
        self._checks: set[BackgroundTask] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self._check)

    def follow(self, layers: Iterable[Labels]) -> None:
        """Follow the layers of a new measurement, which are not edited yet."""
        self._followed.end()
        self._original.clear()
        self._edits.clear()
        for layer in layers:
            self._original[layer] = contents_key(layer)
            for event in (layer.events.paint, layer.events.data):
                self._followed.connect(event, self._on_edited)
            self._followed.connect(layer.events.set_data, self._on_drawn)

    def note(self, layer: Labels | None) -> str:
        """Return that a layer no longer matches the table; empty if it does."""
        if layer is None or layer not in self._edits:
            return ""
        return (
            f"Layer {layer.name!r} was edited after the measurement, so it no longer "
            "matches the table. Undo the changes, or press Measure to measure again."
        )

    def _on_edited(self, event: Any) -> None:
        self._set_edited(event.source)

    def _on_drawn(self, _event: object = None) -> None:
        self._timer.start()

    def _set_edited(self, layer: Labels) -> None:
        if layer in self._original:
            self._edits[layer] = self._edits.get(layer, 0) + 1
            self._timer.start()
            self.changed.emit()

    def _check(self) -> None:
        """Compare the labels with those of the measurement."""
        for layer in list(self._original):
            is_same = contents_key(layer) == self._original[layer]
            if layer not in self._edits:
                if not is_same:
                    self._set_edited(layer)
            elif math.prod(layer.data.shape) * layer.data.dtype.itemsize <= _MAX_BYTES:
                self._compare(layer)

    def _compare(self, layer: Labels) -> None:
        """Check in a worker whether all edits of a layer were undone."""
        reference, edits = weakref.ref(layer), self._edits[layer]

        def steps(should_stop: ShouldStop) -> Generator[Step, None, bool]:
            yield from ()
            shown = reference()
            return shown is not None and pore_layers.is_untouched(shown, should_stop)

        def finish() -> None:
            self._checks.discard(task)

        task = BackgroundTask(
            steps,
            owner=self,
            on_result=partial(self._on_compared, reference, edits),
            on_finished=finish,
        )
        self._checks.add(task)

    def _on_compared(
        self, reference: weakref.ref[Labels], edits: int, is_untouched: bool
    ) -> None:
        layer = reference()
        if layer is None or not is_untouched or self._edits.get(layer) != edits:
            return
        del self._edits[layer]
        self._original[layer] = contents_key(layer)
        self.changed.emit()
