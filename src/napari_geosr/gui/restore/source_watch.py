"""Watch the layer to restore: its data during a run, and the point on screen."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import chosen_position
from napari_geosr.gui.layers.contents import contents_key

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

#: Minimum time between checks during a run, in seconds; a check takes milliseconds.
_SECONDS_BETWEEN_CHECKS = 1.0
#: Milliseconds for which a new point of a series must stay on screen to be reported.
_SETTLED_MS = 300


class PointWatch(QObject):
    """Detects that another time point or channel of a layer is on screen.

    Signals
    -------
    moved
        Another point has been on screen for a moment.
    """

    moved = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._point: dict[str, int] = {}
        self._is_paused = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.check)
        Connections(parent).connect(viewer.dims.events.point, self._on_moved)

    def set_layer(self, layer: Image | None) -> None:
        """Watch another layer, starting from its point on screen."""
        self._layer = None if layer is None else weakref.ref(layer)
        self._point = self.point()

    def set_paused(self, paused: bool) -> None:
        """Ignore movements while paused, as during a run; check for them afterwards."""
        self._is_paused = paused
        if not paused and self.point() != self._point:
            self._timer.start(_SETTLED_MS)

    def point(self) -> dict[str, int]:
        """Return the time point and channel on screen; empty for a single volume."""
        layer = None if self._layer is None else self._layer()
        if layer is None or layer not in self._viewer.layers:
            return {}
        return chosen_position(layer, self._viewer)

    def _on_moved(self, _event: object = None) -> None:
        if not self._is_paused and self.point() != self._point:
            self._timer.start(_SETTLED_MS)

    def check(self) -> None:
        """Emit `moved` now if another point is on screen."""
        point = self.point()
        if point and point != self._point and not self._is_paused:
            self._point = point
            self.moved.emit()


class SourceWatch:
    """Remembers the contents of a run's source at the start of the run.

    Attributes
    ----------
    message : str
        How the layer has changed since the start, in a sentence; empty if unchanged.
    """

    def __init__(self) -> None:
        self.message = ""
        self._layer: weakref.ref[Image] | None = None
        self._contents: tuple[object, ...] = ()
        self._last_check = 0.0

    def begin(self, layer: Image) -> None:
        """Watch `layer` from now on."""
        self.message = ""
        self._layer, self._contents = weakref.ref(layer), contents_key(layer)
        self._last_check = time.monotonic()

    def check(self, *, now: bool = False) -> str:
        """Describe how the layer has changed; empty if unchanged or already reported.

        Parameters
        ----------
        now : bool
            Check even if the last check was very recent.
        """
        layer = None if self._layer is None else self._layer()
        wait = self._last_check + _SECONDS_BETWEEN_CHECKS - time.monotonic()
        if self.message or layer is None or (wait > 0 and not now):
            return ""
        self._last_check = time.monotonic()
        (number, _, checksum), (now_number, _, now_checksum) = (
            self._contents,
            contents_key(layer),
        )
        if number != now_number:
            self.message = (
                f"The data of {layer.name!r} were replaced during the run, so this "
                "result belongs to the earlier data. Repeat the run with the new data."
            )
        elif checksum != now_checksum:
            self.message = (
                f"The data of {layer.name!r} were changed during the run, so the "
                "result is a mixture of old and new data. Repeat the run."
            )
        return self.message

    def end(self, layer: Image) -> str:
        """Return the message that the run has ended because `layer` was removed."""
        self.message = (
            f"{layer.name!r} was removed during the run. The finished tiles are kept."
        )
        return self.message
