"""Chooses boxes for testing a model: with structure, and spread over the volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.volume import Volume

Slices = tuple[slice, ...]

#: Number of candidate boxes along each axis.
_BOXES_PER_AXIS = 3
#: Maximum fraction of padding in a box.
_MAX_PADDING = 0.03
#: If all boxes contain more padding than `_MAX_PADDING`, the fraction of padding in a
#: box may exceed the smallest fraction in any box by at most this value.
_MORE_PADDING = 0.1


@dataclass(frozen=True)
class _BoxStatistics:
    """A box, its fraction of padding, and the variation of its other voxels."""

    box: Slices
    padding: float
    spread: float

    def overlaps(self, other: _BoxStatistics) -> bool:
        """Return whether the boxes have voxels in common."""
        return all(
            a.start < b.stop and b.start < a.stop
            for a, b in zip(self.box, other.box, strict=True)
        )


def structured_boxes(volume: Volume, edges: Sequence[int], count: int) -> list[Slices]:
    """Choose boxes of size `edges` (at most that of the volume) that contain structure.

    From a grid of boxes, those around the upper quartile of the variation are chosen;
    this excludes empty surroundings and boxes with an extreme artefact. Boxes with
    padding (a constant grey value, as around a sample that was masked) are avoided,
    because the edge of the padding would be mistaken for structure. If the grid has too
    few boxes without padding, boxes between those of the grid are also considered.

    Parameters
    ----------
    edges : sequence of int
        Edge lengths along the axes of `volume`.
    count : int
        Maximum number of boxes.

    Returns
    -------
    list of tuple of slice
        Boxes in ascending order of position, all with varying, finite values. The boxes
        do not overlap.
    """
    sizes = [min(e, n) for e, n in zip(edges, volume.shape, strict=True)]
    many = [
        min(_BOXES_PER_AXIS, n // edge)
        for edge, n in zip(sizes, volume.shape, strict=True)
    ]
    grid = _starts(volume.shape, sizes, many)
    found = list(_candidates(volume, sizes, itertools.product(*grid)))
    free = [each for each in found if each.padding <= _MAX_PADDING]
    if len(free) < min(count, len(found)):
        finer = _starts(volume.shape, sizes, [2 * n - 1 if n > 1 else 3 for n in many])
        known = set(itertools.product(*grid))
        corners = (c for c in itertools.product(*finer) if c not in known)
        between = list(_candidates(volume, sizes, corners))
        found += between
        free = _apart([*free, *(b for b in between if b.padding <= _MAX_PADDING)])
    if not free and found:
        # In scans without noise, for example, phases are constant and count as padding.
        limit = min(each.padding for each in found) + _MORE_PADDING
        free = _apart(
            sorted(
                (each for each in found if each.padding <= limit),
                key=lambda each: each.padding,
            )
        )
    free.sort(key=lambda each: each.spread)
    # Take the requested number of boxes, with a variation around its upper quartile.
    first = max(0, min(len(free) - count, round(0.75 * len(free) - count / 2)))
    chosen = [each.box for each in free[first : first + count]]
    return sorted(chosen, key=lambda box: [part.start for part in box])


def _starts(
    shape: Sequence[int], sizes: Sequence[int], many: Sequence[int]
) -> list[list[int]]:
    """Return evenly spaced start indices along each axis; a single box is centred."""
    found = []
    for n, edge, number in zip(shape, sizes, many, strict=True):
        if number == 1:
            found.append([(n - edge) // 2])
        else:
            found.append(sorted({round(i) for i in np.linspace(0, n - edge, number)}))
    return found


def _candidates(
    volume: Volume, sizes: Sequence[int], corners: Iterator[tuple[int, ...]]
) -> Iterator[_BoxStatistics]:
    """Yield the boxes with varying, finite values."""
    from scipy import ndimage

    plane = (1,) * (len(sizes) - 2) + (3, 3)
    for corner in corners:
        box = tuple(slice(a, a + e) for a, e in zip(corner, sizes, strict=True))
        values = np.asarray(volume.data[box], dtype=np.float32)
        if not np.isfinite(values).all():
            continue
        varying = ndimage.maximum_filter(values, plane) > ndimage.minimum_filter(
            values, plane
        )
        if varying.any():
            padding = 1 - float(varying.mean())
            yield _BoxStatistics(box, padding, float(values[varying].std()))


def _apart(candidates: Sequence[_BoxStatistics]) -> list[_BoxStatistics]:
    """Return the boxes that do not overlap an earlier box in the list."""
    chosen: list[_BoxStatistics] = []
    for each in candidates:
        if not any(each.overlaps(other) for other in chosen):
            chosen.append(each)
    return chosen
