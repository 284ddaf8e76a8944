"""Find the parts of a volume from which training blocks are drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.shapes import coarsened

#: Edge length of a cell, in voxels.
CELL = 8
#: Number of voxels around a cell that belong to the same block as the cell. The other
#: side of a surface at the end of a cell is within two voxels, or one coarse voxel.
_MARGIN = 2


class FilledCells:
    """Cells of 8³ voxels that contain voxels of a mask.

    A small mask in a large volume is found at once, whereas blocks at random positions
    in the volume would rarely contain it.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume (Z, Y, X).

    Attributes
    ----------
    planes : ndarray of bool
        Whether each plane contains voxels of the mask.

    Examples
    --------
    >>> cells = FilledCells((64, 64, 64))
    >>> mask = np.zeros((64, 64, 64), bool)
    >>> mask[40:44, 3, 5] = True
    >>> cells.add(0, mask)
    >>> cells.draw(slice(0, 64), np.random.default_rng(0))
    (slice(40, 48, None), slice(0, 8, None), slice(0, 8, None))
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.planes: AnyArray = np.zeros(self.shape[0], bool)
        self._filled: AnyArray = np.zeros([-(-n // CELL) for n in self.shape], bool)
        #: Number of filled cells in each layer of cells.
        self._counts: AnyArray = np.zeros(len(self._filled), np.int64)

    def add(self, start: int, planes: AnyArray) -> None:
        """Add planes of the mask, starting at plane `start`: bool (Z, Y, X)."""
        for z, plane in enumerate(planes, start):
            rows = np.logical_or.reduceat(plane, np.arange(0, self.shape[2], CELL), 1)
            found = np.logical_or.reduceat(rows, np.arange(0, self.shape[1], CELL), 0)
            self.planes[z] = found.any()
            layer = self._filled[z // CELL]
            layer |= found
            self._counts[z // CELL] = np.count_nonzero(layer)

    def any_in(self, planes: slice) -> bool:
        """Return whether `draw` would find a cell in some planes."""
        return bool(self._counts[planes.start // CELL : -(-planes.stop // CELL)].any())

    def draw(self, planes: slice, rng: np.random.Generator) -> tuple[slice, ...] | None:
        """Draw a cell that lies in some planes at least partly; None if there is none.

        All cells are equally probable. The result is cropped to the volume and the
        planes.
        """
        first = planes.start // CELL
        if not self.any_in(planes):
            return None
        ends = np.cumsum(self._counts[first : -(-planes.stop // CELL)])
        n = int(rng.integers(ends[-1]))
        layer = int(np.searchsorted(ends, n, side="right"))
        rank = n - (int(ends[layer - 1]) if layer else 0)
        cells = self._filled[first + layer]
        y, x = divmod(int(np.flatnonzero(cells)[rank]), cells.shape[1])
        z, y, x = (CELL * i for i in (first + layer, y, x))
        depth = slice(max(z, planes.start), min(z + CELL, planes.stop))
        return (
            depth,
            slice(y, min(y + CELL, self.shape[1])),
            slice(x, min(x + CELL, self.shape[2])),
        )


def block_around(
    cell: Sequence[slice] | None,
    parts: Sequence[slice],
    edge: int,
    rng: np.random.Generator,
) -> tuple[slice, ...]:
    """Draw the position of a block that contains a cell and the voxels next to it.

    Parameters
    ----------
    cell : sequence of slice or None
        None for a block at a random position.
    parts : sequence of slice
        Part of the volume to which the block is cropped; contains the cell.
    edge : int
        Edge length of the block in voxels, at least 12.
    """
    place = []
    for axis, part in enumerate(parts):
        low, high = part.start, max(part.start, part.stop - edge)
        if cell is not None:
            first, after = cell[axis].start - _MARGIN, cell[axis].stop + _MARGIN
            low, high = max(low, min(high, after - edge)), max(low, min(high, first))
        corner = int(rng.integers(low, high + 1))
        place.append(slice(corner, min(corner + edge, part.stop)))
    return tuple(place)


def surface_cells(inside: AnyArray) -> FilledCells:
    """Return the cells of a shape that have a surface at half the resolution.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    """
    found = FilledCells(inside.shape)
    for start in range(0, len(inside), CELL):
        # One coarse plane more, because a surface may lie between two cells.
        coarse = coarsened(inside[start : start + CELL + 2], 2)
        if not coarse.any() or coarse.all():
            continue
        differs = np.zeros(coarse.shape, bool)
        for axis in range(3):
            low, high = [slice(None)] * 3, [slice(None)] * 3
            low[axis], high[axis] = slice(None, -1), slice(1, None)
            differs[tuple(low)] |= coarse[tuple(low)] != coarse[tuple(high)]
        fine = differs[: CELL // 2].repeat(2, 0).repeat(2, 1).repeat(2, 2)
        lack = [(0, n - m) for n, m in zip(inside.shape, fine.shape, strict=True)]
        found.add(start, np.pad(fine, [(0, 0), *lack[1:]]))
    return found
