"""Boxes of a volume to try a model on: structure, spread over the volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.volume import Volume

Place = tuple[slice, ...]

#: Boxes that are looked at along an axis.
_ALONG = 3


def places(volume: Volume, edges: Sequence[int], count: int) -> list[Place]:
    """Boxes of size `edges` (or of the volume, where that is smaller) with structure.

    Of a grid of boxes those are taken that vary as much as a typical box with structure
    does: neither surroundings without a sample, nor the one with an artefact.

    Parameters
    ----------
    edges : sequence of int
        Along the axes of `volume`.
    count : int
        Boxes at most.

    Returns
    -------
    list of tuple of slice
        In ascending order of place; only boxes that hold varying, finite values.
    """
    sizes = [min(e, n) for e, n in zip(edges, volume.shape, strict=True)]
    starts = []
    for edge, n in zip(sizes, volume.shape, strict=True):
        many = min(_ALONG, n // edge)
        starts.append(sorted({round(i) for i in np.linspace(0, n - edge, many)}))
        if many == 1:
            starts[-1] = [(n - edge) // 2]
    found: list[tuple[float, Place]] = []
    for corner in itertools.product(*starts):
        box = tuple(slice(a, a + e) for a, e in zip(corner, sizes, strict=True))
        values = np.asarray(volume.data[box], dtype=np.float32)
        spread = float(values.std()) if np.isfinite(values).all() else 0.0
        if spread > 0:
            found.append((spread, box))
    found.sort(key=lambda each: each[0])
    # Around the upper quartile, as many as wanted.
    first = max(0, min(len(found) - count, round(0.75 * len(found) - count / 2)))
    chosen = [box for _, box in found[first : first + count]]
    return sorted(chosen, key=lambda box: [part.start for part in box])
