"""Boxes on which to test a model: with structure, and spread over the volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.volume import Volume

Slices = tuple[slice, ...]

#: Number of candidate boxes along each axis.
_BOXES_PER_AXIS = 3


def structured_boxes(volume: Volume, edges: Sequence[int], count: int) -> list[Slices]:
    """Boxes of size `edges` (at most that of the volume) with structure.

    From a grid of boxes, those with a typical variation are chosen; this excludes empty
    surroundings and boxes with an extreme artefact.

    Parameters
    ----------
    edges : sequence of int
        Edge lengths along the axes of `volume`.
    count : int
        Maximum number of boxes.

    Returns
    -------
    list of tuple of slice
        In ascending order of position; only boxes with varying, finite values.
    """
    sizes = [min(e, n) for e, n in zip(edges, volume.shape, strict=True)]
    starts = []
    for edge, n in zip(sizes, volume.shape, strict=True):
        many = min(_BOXES_PER_AXIS, n // edge)
        starts.append(sorted({round(i) for i in np.linspace(0, n - edge, many)}))
        if many == 1:
            starts[-1] = [(n - edge) // 2]
    found: list[tuple[float, Slices]] = []
    for corner in itertools.product(*starts):
        box = tuple(slice(a, a + e) for a, e in zip(corner, sizes, strict=True))
        values = np.asarray(volume.data[box], dtype=np.float32)
        spread = float(values.std()) if np.isfinite(values).all() else 0.0
        if spread > 0:
            found.append((spread, box))
    found.sort(key=lambda each: each[0])
    # Take the requested number of boxes around the upper quartile.
    first = max(0, min(len(found) - count, round(0.75 * len(found) - count / 2)))
    chosen = [box for _, box in found[first : first + count]]
    return sorted(chosen, key=lambda box: [part.start for part in box])
