"""Porosity of cubes of many sizes, from one pass over a volume."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.parts import add_planes

Floats = npt.NDArray[np.float64]
Starts = npt.NDArray[np.int64]
#: Numbers of voxels; fractions of voxels if the faces of cells cut them.
Counts = npt.NDArray[np.int64] | Floats

#: Minimum edge of a spot in voxels; smaller spots do not represent the structure.
SMALLEST_SPOT = 8
#: Fraction of a cube that must lie within the sample for the cube to be evaluated.
INSIDE = 0.5
#: Minimum and maximum number of cells along an edge of a spot.
_CELLS = (4, 12)
#: Rounding error of an edge or a number of voxels.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Cubes:
    """Adjacent cubes of one size.

    Attributes
    ----------
    edge : int
        Edge length of a cube, in cubic voxels.
    porosity : ndarray of shape (n,)
        Porosity of the cubes that belong to the sample.
    starts : ndarray of shape (n, 3), int64
        First cubic voxels of these cubes.
    pores, sample : float
        Numbers of voxels of the scan in all of these cubes.
    """

    edge: int
    porosity: Floats
    starts: Starts
    pores: float
    sample: float

    def __len__(self) -> int:
        return len(self.porosity)

    @property
    def sd(self) -> float:
        """Standard deviation of the porosity between cubes; NaN for fewer than two."""
        return float(self.porosity.std(ddof=1)) if len(self) > 1 else math.nan


@dataclass(frozen=True, eq=False)
class CellCounts:
    """Numbers of pore and sample voxels in small cells, of which cubes are composed.

    Attributes
    ----------
    pores, sample : ndarray of shape (Z, Y, X), int64 or float64
        Numbers of voxels of the scan.
    edge : int
        Edge of a cell in cubic voxels; an image has cells one voxel thick.
    first : tuple of 3 int
        First cubic voxel of the first cell.
    flat : bool
    voxel : tuple of 3 float
        Edges of a voxel of the scan along Z, Y and X, in cubic voxels.
    """

    pores: Counts
    sample: Counts
    edge: int
    first: tuple[int, int, int]
    flat: bool
    voxel: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def depth(self) -> int:
        """Number of planes of cubic voxels in a cell."""
        return 1 if self.flat else self.edge

    @property
    def limits(self) -> tuple[Floats, Floats, Floats]:
        """Limits of the cells along Z, Y and X, in voxels of the scan."""
        z, y, x = (
            (first + np.arange(n + 1) * edge) / voxel
            for first, n, edge, voxel in zip(
                self.first,
                self.pores.shape,
                (self.depth, self.edge, self.edge),
                self.voxel,
                strict=True,
            )
        )
        return z, y, x

    def cubes(self, n_cells: int) -> Cubes:
        """Return the cubes (squares in an image) with an edge of `n_cells` cells.

        The remainder at the border is divided between the two sides.
        """
        size = (1 if self.flat else n_cells, n_cells, n_cells)
        shape = self.pores.shape
        numbers = [n // s for n, s in zip(shape, size, strict=True)]
        begins = [
            (n - m * s) // 2 for n, m, s in zip(shape, numbers, size, strict=True)
        ]
        key = tuple(
            slice(b, b + m * s) for b, m, s in zip(begins, numbers, size, strict=True)
        )
        split = [k for m, s in zip(numbers, size, strict=True) for k in (m, s)]
        pores, sample = (
            counts[key].reshape(split).sum(axis=(1, 3, 5))
            for counts in (self.pores, self.sample)
        )
        edges = (self.depth, self.edge, self.edge)
        whole = math.prod(size) * math.prod(edges) / math.prod(self.voxel)
        inside = sample >= INSIDE * whole - _ROUNDING
        steps = [s * e for s, e in zip(size, edges, strict=True)]
        offsets = [f + b * e for f, b, e in zip(self.first, begins, edges, strict=True)]
        starts = np.argwhere(inside) * np.array(steps) + np.array(offsets)
        chosen, voxels = pores[inside], sample[inside]
        return Cubes(
            n_cells * self.edge,
            chosen / voxels,
            starts.astype(np.int64),
            chosen.sum().item(),
            voxels.sum().item(),
        )


@dataclass(frozen=True, eq=False)
class SpotCounts:
    """Numbers of pore and sample voxels in spots, and in smaller cells.

    Attributes
    ----------
    whole : CellCounts
        Cells of exactly the size of a spot.
    cells : CellCounts
        Smaller cells, of which cubes of other sizes are composed.
    """

    whole: CellCounts
    cells: CellCounts

    @property
    def spots(self) -> Cubes:
        """The spots."""
        return self.whole.cubes(1)

    def all_sizes(self) -> list[Cubes]:
        """Return cubes of increasing size: about three sizes per factor of two.

        The spots are included, instead of cubes of almost the same size.
        """
        spots, cells = self.spots, self.cells
        shape = cells.pores.shape
        most = min(shape[1:] if cells.flat else shape)
        numbers = {round(2 ** (i / 3)) for i in range(3 * most.bit_length() + 1)}
        others = [
            cells.cubes(n)
            for n in numbers
            if n <= most and abs(n * cells.edge - spots.edge) >= cells.edge
        ]
        return sorted([*others, spots], key=lambda cubes: cubes.edge)


def whole_voxels(edge: float) -> int:
    """Return the largest whole number of voxels that is at most `edge`."""
    return math.floor(edge + _ROUNDING)


def cell_edge(spot: int) -> int:
    """Return the edge of the cells for spots of a given edge, both in voxels.

    If possible, a spot is a whole number of cells wide.
    """
    choices = [
        (n, max(1, round(spot / n))) for n in range(_CELLS[1], _CELLS[0] - 1, -1)
    ]
    return min(choices, key=lambda pair: abs(math.prod(pair) - spot))[1]


def _grid(box: slice, length: int, edge: int, fewest: int) -> tuple[int, int]:
    """Return the first voxel and the number of cells along one axis.

    The cells are centred on the sample. There are at least `fewest` cells, if the
    volume is large enough.

    Parameters
    ----------
    box : slice
        Extent of the sample along the axis.
    length : int
        Number of voxels of the volume along the axis.
    edge : int
        Edge of a cell in voxels.

    Examples
    --------
    >>> _grid(slice(10, 50), 64, 2, 5), _grid(slice(0, 65), 65, 2, 5)
    ((10, 20), (0, 32))
    """
    number = min(max((box.stop - box.start) // edge, fewest), length // edge)
    first = box.start + (box.stop - box.start - number * edge) // 2
    return min(max(first, 0), length - number * edge), number


def cell_steps(phases: Phases, spot: int) -> Generator[Step, None, SpotCounts]:
    """Count pore and sample voxels in spots and in smaller cells.

    The voxels of the scan are counted. If they are not cubic, the faces of a cell may
    cut them; such voxels count in proportion to the part inside the cell.

    Parameters
    ----------
    phases : Phases
    spot : int
        Edge of a spot in cubic voxels.

    Returns
    -------
    SpotCounts
    """
    edge = cell_edge(spot)
    grids = [
        _empty(phases, spot, 1),
        _empty(phases, edge, max(1, spot // edge)),
    ]
    scan = phases.scan
    slabs = scan.slabs
    yield StageStarted(0, len(slabs), message="Measuring the porosity of cubes")
    for i, slab in enumerate(slabs):
        pores = scan.planes(scan.pores, slab)
        inside = scan.sample_planes(slab)
        for counts in grids:
            add_planes(counts.pores, pores, slab.start, counts.limits)
            if inside is not None:
                add_planes(counts.sample, inside, slab.start, counts.limits)
        yield BlockDone(i + 1, len(slabs))
    return SpotCounts(*grids)


def _empty(phases: Phases, edge: int, fewest: int) -> CellCounts:
    """Return cells centred on the sample, with no pores counted yet."""
    scan = phases.scan
    size = (1 if phases.flat else edge, edge, edge)
    boxes = [
        slice(
            math.floor(box.start * v + _ROUNDING), math.ceil(box.stop * v - _ROUNDING)
        )
        for box, v in zip(scan.sample_box, scan.voxel, strict=True)
    ]
    grids = [
        _grid(box, n, s, 1 if s == 1 and phases.flat else fewest)
        for box, n, s in zip(boxes, phases.shape, size, strict=True)
    ]
    (z, y, x), numbers = zip(*grids, strict=True)
    dtype = np.int64 if scan is phases else np.float64
    pores = np.zeros(numbers, dtype)
    sample = np.zeros(numbers, dtype)
    if scan.sample is None:
        sample += dtype(math.prod(size) / math.prod(scan.voxel))
    return CellCounts(pores, sample, edge, (z, y, x), phases.flat, scan.voxel)
