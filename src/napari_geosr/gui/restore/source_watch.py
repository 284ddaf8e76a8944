"""Watch whether a layer still holds the data that a run restores."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from napari_geosr.gui.layers.contents import contents_key

if TYPE_CHECKING:
    from napari.layers import Image

#: Minimum seconds between checks during a run; a check takes milliseconds.
_SECONDS_BETWEEN_CHECKS = 1.0


class SourceWatch:
    """Remembers the contents of a run's source at the start of the run.

    Attributes
    ----------
    message : str
        How the layer has changed since then, in a sentence; empty if unchanged.
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
        """Describe how the layer was changed; empty if it was not, or after a report.

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
                "result belongs to the earlier data. Run again to restore the new data."
            )
        elif checksum != now_checksum:
            self.message = (
                f"The data of {layer.name!r} were changed during the run, so the "
                "result is a mixture of old and new data. Run again."
            )
        return self.message

    def end(self, layer: Image) -> str:
        """Return the message that `layer` was removed, which ends the run."""
        self.message = (
            f"{layer.name!r} was removed during the run. The finished tiles are kept."
        )
        return self.message
