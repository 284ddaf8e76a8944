"""Detect whether a layer still holds the data that were read from it.

napari emits no event when an array is changed in place, as by ``layer.data *= 2``.
"""

from __future__ import annotations

import itertools
import weakref
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.layer_data import METADATA
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers.geometry import finest, layer_type

if TYPE_CHECKING:
    from napari.layers import Labels, Layer
    from napari.utils.events import Event

    from napari_geosr.core.steps import ShouldStop

#: The checksum of an array is computed from at most this many rows, so that it takes
#: only a few milliseconds.
_N_ROWS = 512
#: The checksum is computed from at most this many bytes, unless 16 rows are larger.
_MAX_BYTES = 2**20
#: Maximum number of rows of a memory-mapped file; each may need a disk access.
_MAPPED_ROWS = 32
#: Metadata key of the checksum of the labels that were put into a layer.
CHECKSUM = "labels_checksum"
#: Maximum number of bytes read at a time for this checksum.
_BLOCK_BYTES = 2**24
_GOLDEN = (5**0.5 - 1) / 2

#: Serial numbers of arrays, by id; an id alone may be reused after deletion.
_numbers: dict[int, tuple[weakref.ref[Any], int]] = {}
_count = itertools.count()


def contents_key(layer: Layer) -> tuple[Any, ...]:
    """Return a key that changes with the layer's array or its voxels.

    For arrays that can change in place, rows spread over the whole array are compared.
    A change of a few voxels, which hardly affects statistics, may go unnoticed. Other
    arrays count as changed when they are replaced, and results when they are complete.
    """
    data = finest(layer)
    return _array_number(data), is_unfinished(layer), _checksum(data)


def is_unfinished(layer: Layer) -> bool:
    """Whether the layer is a result that is still being filled or is incomplete."""
    provenance = layer.metadata.get(METADATA, {}).get("provenance")
    return bool(provenance) and provenance[-1].get("complete") is False


def _array_number(data: object) -> int:
    """Return a unique number for an array."""
    known = _numbers.get(id(data))
    if known is not None and known[0]() is data:
        return known[1]
    for key in [key for key, (reference, _) in _numbers.items() if reference() is None]:
        del _numbers[key]
    number = next(_count)
    _numbers[id(data)] = weakref.ref(data), number
    return number


def _checksum(data: object) -> int:
    """Return the checksum of some rows; 0 if the array cannot change in place."""
    if not isinstance(data, np.ndarray) or not data.size:
        return 0
    is_mapped = isinstance(data, np.memmap)
    if is_mapped and not data.flags.writeable:
        return 0
    row_bytes = data.shape[-1] * data.itemsize
    n_all = data.size // data.shape[-1]
    max_rows = _MAPPED_ROWS if is_mapped else _N_ROWS
    n = min(n_all, max_rows, max(16, _MAX_BYTES // row_bytes))
    # Steps in the golden ratio do not sample the same positions of an axis repeatedly.
    places = (np.arange(n) * _GOLDEN % 1 * n_all).astype(np.int64)
    if n == n_all:
        places = np.arange(n)
    rows = data[np.unravel_index(places, data.shape[:-1])] if data.ndim > 1 else data
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data)


def is_untouched(layer: Labels, should_stop: ShouldStop) -> bool:
    """Whether a layer still holds its original labels; all of them are read."""
    known = layer.metadata.get(METADATA, {}).get(CHECKSUM)
    return known is not None and known == checksum_of(layer.data, should_stop)


def checksum_of(labels: Any, should_stop: ShouldStop) -> int:
    """Compute the checksum of an array, possibly on disk; to be run in a worker.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    plane = max(1, labels.dtype.itemsize * int(np.prod(labels.shape[1:])))
    step = max(1, _BLOCK_BYTES // plane)
    found = 0
    for first in range(0, labels.shape[0], step):
        if should_stop():
            raise Cancelled("Cancelled.")
        block = np.ascontiguousarray(labels[first : first + step])
        found = zlib.crc32(block.data, found)
    return found


class EditWatch(QObject):
    """Detects edits of layers while an operation, such as a measurement, reads them.

    Outlines in a Shapes layer are not watched, because they are converted to a mask
    when the operation begins.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._contents: list[tuple[weakref.ref[Layer], Any]] = []
        self._painted: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._connections = Connections(self)

    def begin(self, layers: Iterable[Layer | None]) -> None:
        """Watch the layers that an operation reads."""
        self._connections.end()
        self._painted.clear()
        self._contents = []
        for layer in layers:
            if layer is None or layer_type(layer) == "shapes":
                continue
            self._contents.append((weakref.ref(layer), contents_key(layer)))
            if layer_type(layer) == "labels":
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
