"""Watches whether a layer still holds the data that a run restores."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from napari_geosr.gui.layers.contents import contents_key

if TYPE_CHECKING:
    from napari.layers import Image

#: Minimum interval between checks during a run; a check takes milliseconds.
_SECONDS_BETWEEN_LOOKS = 1.0


class SourceWatch:
    """Remembers the contents of a run's source at the start of the run.

    Attributes
    ----------
    said : str
        How it has changed since, in a sentence; empty if unchanged.
    """

    def __init__(self) -> None:
        self.said = ""
        self._layer: weakref.ref[Image] | None = None
        self._contents: tuple[object, ...] = ()
        self._looked = 0.0

    def begin(self, layer: Image) -> None:
        """Watch `layer` from now on."""
        self.said = ""
        self._layer, self._contents = weakref.ref(layer), contents_key(layer)
        self._looked = time.monotonic()

    def look(self, *, now: bool = False) -> str:
        """Return how the layer was changed, once; "" if it was not, or if this was
        reported before.

        Parameters
        ----------
        now : bool
            Check even if the last check was a moment ago.
        """
        layer = None if self._layer is None else self._layer()
        wait = self._looked + _SECONDS_BETWEEN_LOOKS - time.monotonic()
        if self.said or layer is None or (wait > 0 and not now):
            return ""
        self._looked = time.monotonic()
        (number, _, checksum), (now_number, _, now_checksum) = (
            self._contents,
            contents_key(layer),
        )
        if number != now_number:
            self.said = (
                f"The data of {layer.name!r} was replaced during the run: this is the "
                "result of the earlier data. Run again for the new data."
            )
        elif checksum != now_checksum:
            self.said = (
                f"The data of {layer.name!r} was changed during the run: the result "
                "mixes earlier and new data. Run again."
            )
        return self.said

    def end(self, layer: Image) -> str:
        """Return the message that `layer` was removed, which ends the run."""
        self.said = (
            f"{layer.name!r} was removed during the run. The finished tiles are kept."
        )
        return self.said
