"""Count the mask voxels in boxes, and estimate the memory for processing boxes.

The voxels are counted once, per cell of a coarse grid, so that many boxes can be tried
quickly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.core.types import AnyArray

#: Edge length, in voxels, of the cells for which voxels are counted; blocks begin and
#: end at multiples of this length.
CELL = 8
#: Number of voxels counted at a time.
_AT_ONCE = 2**20
#: Bytes for each voxel that a sparse network computes, in addition to its features:
#: position, and pairs of neighbours.
_INDEX_BYTES = 200
#: Bytes for each computed voxel with dense convolutions: mask and position.
_DENSE_INDEX_BYTES = 32
#: Number of copies of each computed voxel's features that are held at the same time.
_COPIES = 4
#: Bytes needed regardless of the number of voxels, for the feature vectors that are
#: gathered at a time.
_FIXED_BYTES = 16 * 2**20
#: Bytes needed with dense convolutions, regardless of the number of voxels, for torch's
#: working memory.
_DENSE_FIXED_BYTES = 40 * 2**20


class BoxCounts:
    """Numbers of mask voxels in boxes, computed from the counts per cell.

    Parameters
    ----------
    cells : ndarray of int
        Number of mask voxels in each cell, along Z, Y, X.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr.core.steps import never_stop, run_to_end
    >>> mask = np.zeros((20, 8, 8), bool)
    >>> mask[17] = True
    >>> steps = box_count_steps(mask.shape, lambda planes: [mask[planes]], never_stop)
    >>> (counts,) = run_to_end(steps)
    >>> counts.total
    64
    >>> counts.in_box((slice(0, 16), slice(0, 8), slice(0, 8)))
    0
    """

    def __init__(self, cells: AnyArray) -> None:
        sums = np.pad(cells.astype(np.int64), ((1, 0),) * 3)
        for axis in range(3):
            np.cumsum(sums, axis, out=sums)
        self._sums: AnyArray = sums

    @property
    def total(self) -> int:
        """Number of voxels of the mask."""
        return int(self._sums[-1, -1, -1])

    def in_box(self, box: Sequence[slice]) -> int:
        """Return the number of mask voxels in the cells that a box overlaps."""
        z, y, x = ((p.start // CELL, math.ceil(p.stop / CELL)) for p in box)
        corners = self._sums[np.ix_(z, y, x)]
        for _ in range(3):
            corners = corners[1] - corners[0]
        return int(corners)


def box_count_steps(
    shape: Sequence[int],
    masks: Callable[[slice], Sequence[AnyArray]],
    should_stop: ShouldStop,
) -> Generator[Step, None, list[BoxCounts]]:
    """Count the voxels of one or more masks, some planes at a time.

    Parameters
    ----------
    shape : sequence of int
        Shape of the masks (Z, Y, X).
    masks : callable
        Returns the requested planes of each mask, as arrays of bool.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    starts = [np.arange(0, n, CELL) for n in shape]
    depth = slab_depth(shape)
    slabs: list[list[AnyArray]] = []
    for start in range(0, shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        stop = min(start + depth, shape[0])
        slabs.append([_per_cell(each, starts) for each in masks(slice(start, stop))])
        yield BlockDone(stop, shape[0])
    return [BoxCounts(np.concatenate(parts)) for parts in zip(*slabs, strict=True)]


def _per_cell(planes: AnyArray, starts: Sequence[AnyArray]) -> AnyArray:
    """Return the number of voxels in each cell of some planes of a mask."""
    # Counts along two axes fit into a byte. With a larger type, numpy would convert the
    # whole mask first.
    counts = np.add.reduceat(planes.view(np.uint8), starts[2], 2, np.uint8)
    counts = np.add.reduceat(counts, starts[1], 1, np.uint8)
    layers = np.arange(0, len(planes), CELL)
    found: AnyArray = np.add.reduceat(counts, layers, 0, np.int32)
    return found


def slab_depth(shape: Sequence[int]) -> int:
    """Return the number of planes counted at a time, a multiple of `CELL`."""
    plane = max(1, shape[1] * shape[2])
    return CELL * max(1, _AT_ONCE // (CELL * plane))


def count_bytes(shape: Sequence[int], margin: int) -> int:
    """Return the bytes needed to count voxels, with `margin` extra planes on each side.

    This includes five bytes for each voxel of the planes counted at a time.
    """
    cells = math.prod(n // CELL + 2 for n in shape)
    depth = min(shape[0], slab_depth(shape) + 2 * margin)
    return cells * 2 * 8 + 5 * depth * shape[1] * shape[2]


def network_bytes(n_voxels: int, features: int, dense: bool) -> int:
    """Return the bytes that a surface network needs to compute `n_voxels` voxels.

    Parameters
    ----------
    n_voxels : int
        Voxels at the finest level; with dense convolutions, all voxels of the box.
    features : int
        Number of feature maps at the finest level; 0 counts only the memory that is
        still held after the network has run.
    dense : bool
        Whether dense convolutions are used.
    """
    index = _DENSE_INDEX_BYTES if dense else _INDEX_BYTES
    fixed = _DENSE_FIXED_BYTES if dense else _FIXED_BYTES
    return n_voxels * (index + 4 * features * _COPIES) + fixed
