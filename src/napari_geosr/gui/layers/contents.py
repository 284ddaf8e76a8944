"""Tell whether a layer still holds what was read from it.

napari says nothing when an array is changed in place, as by ``layer.data *= 2``.
"""

from __future__ import annotations

import itertools
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.gui.layers import METADATA, finest

if TYPE_CHECKING:
    from napari.layers import Layer

#: Rows that are looked at, and bytes at most: a few milliseconds.
_ROWS, _BYTES = 512, 2**20
#: Rows of a file that is mapped: each may cost an access to the disk.
_MAPPED_ROWS = 32
_GOLDEN = (5**0.5 - 1) / 2

#: Numbers of arrays by their id, which Python gives again when an array is gone.
_numbers: dict[int, tuple[weakref.ref[Any], int]] = {}
_count = itertools.count()


def contents_key(layer: Layer) -> tuple[Any, ...]:
    """Give what changes when the layer's array does, or the voxels in it.

    Of arrays in memory, rows that are spread over the whole are compared: a change of
    a few voxels, which hardly moves a statistic, may go unnoticed. Arrays on disk
    count as changed when they are replaced, and results when they are complete.
    """
    data = finest(layer)
    return _number(data), is_unfinished(layer), _checksum(data)


def is_unfinished(layer: Layer) -> bool:
    """Whether the layer is a result that is being filled, or was left unfinished."""
    provenance = layer.metadata.get(METADATA, {}).get("provenance")
    return bool(provenance) and provenance[-1].get("complete") is False


def _number(data: object) -> int:
    """A number of an array that no other has."""
    known = _numbers.get(id(data))
    if known is not None and known[0]() is data:
        return known[1]
    for key in [key for key, (reference, _) in _numbers.items() if reference() is None]:
        del _numbers[key]
    number = next(_count)
    _numbers[id(data)] = weakref.ref(data), number
    return number


def _checksum(data: object) -> int:
    """Of some rows of an array that can be changed in place; else 0."""
    if not isinstance(data, np.ndarray) or not data.size:
        return 0
    is_mapped = isinstance(data, np.memmap)
    if is_mapped and not data.flags.writeable:
        return 0
    row_bytes = data.shape[-1] * data.itemsize
    n_all = data.size // data.shape[-1]
    most = _MAPPED_ROWS if is_mapped else _ROWS
    n = min(n_all, most, max(16, _BYTES // row_bytes))
    # Steps of the golden section: no axis is met at the same places again and again.
    places = (np.arange(n) * _GOLDEN % 1 * n_all).astype(np.int64)
    if n == n_all:
        places = np.arange(n)
    rows = data[np.unravel_index(places, data.shape[:-1])] if data.ndim > 1 else data
    return zlib.crc32(np.ascontiguousarray(rows).view(np.uint8).data)
