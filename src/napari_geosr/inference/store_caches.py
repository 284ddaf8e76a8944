"""Memory held by the input and output stores, as part of a run's budget.

Arrays stored in files hold decoded blocks, unfinished shards or resident pages; their
attribute ``held_bytes`` gives the maximum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.types import AnyDType
from napari_geosr.inference.source_reads import SourceReads
from napari_geosr.io.file_voxels import row_cache_disabled
from napari_geosr.io.lazy import read_unit
from napari_geosr.io.mapping import MappedFile

#: Fraction of the budget for each of two stores: the cache of the input and the buffer
#: of the result.
_SHARE = 1 / 6
#: Upper limit of each of these stores, in bytes; larger ones do not help.
_MAX_BYTES = 176 << 20


@dataclass(frozen=True)
class PlannedArray:
    """A result with known shape and dtype, but without data."""

    shape: tuple[int, ...]
    dtype: AnyDType
    held_bytes: int


def budget_share(budget: int) -> int:
    """Return the bytes that the input may use; the output may use as many."""
    return min(_MAX_BYTES, int(budget * _SHARE))


def held_bytes(array: object, budget: int) -> int:
    """Return the bytes that `array` will hold within `limited_caches`."""
    if isinstance(array, np.memmap) and not isinstance(array, MappedFile):
        return MappedFile.held_bytes  # `windows` releases its pages as it reads
    return min(int(getattr(array, "held_bytes", 0)), budget_share(budget))


@contextmanager
def limited_caches(
    source: Any, target: Any, budget: int, reads: SourceReads | None = None
) -> Iterator[None]:
    """Limit caches and buffers to their share of the budget within a context.

    Parameters
    ----------
    source, target : array-like
    budget : int
        Bytes that the run may use.
    reads : SourceReads, optional
        How the run reads its source, if the source is stored in blocks.
    """
    before = []
    for array, name in ((source, "cache_bytes"), (target, "buffer_bytes")):
        limit = getattr(array, name, None)
        if array is source and reads is not None and read_unit(source) is not None:
            before.append((array, name, limit))
            source.cache_bytes = reads.cache_bytes
            continue
        if limit is None or array.held_bytes <= budget_share(budget):
            continue
        before.append((array, name, limit))
        # Memory held: twice a cache's limit, or a buffer's limit plus a fixed part.
        factor = 2 if name == "cache_bytes" else 1
        excess = array.held_bytes - budget_share(budget)
        setattr(array, name, max(0, limit - excess // factor))
    try:
        with row_cache_disabled():
            yield
    finally:
        for array, name, limit in reversed(before):
            setattr(array, name, limit)
