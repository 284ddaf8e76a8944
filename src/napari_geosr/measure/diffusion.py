"""Steady diffusion through a phase between two faces, by conjugate gradients.

The voxels of the phase are the unknowns. A coarser grid has one unknown for every
connected component of the phase in a box of 2³ voxels, so that pores that do not touch
stay separate on all grids. Solutions on the coarser grids (V-cycles with Jacobi
smoothing) precondition the conjugate gradients, which therefore need tens of iterations
instead of thousands of over-relaxation sweeps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, Step
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from scipy.sparse.linalg import SuperLU

Floats = npt.NDArray[np.float32]

#: Memory for solving the equations, in bytes per voxel of the volume and of the phase.
_BYTES = (10, 165)
#: Weight of a Jacobi step.
_DAMPING = np.float32(0.7)
#: Factor for conductances on the next coarser grid, where distances are doubled.
_COARSE_SCALE = np.float32(0.5)
#: Maximum number of unknowns for which the equations are solved directly.
_DIRECT = 2000
#: Maximum number of unknowns of the next grid, as a fraction of those of this grid.
_MAX_COARSE_SHARE = 0.9
_MOST_ITERATIONS = 500
#: Largest number of voxels of the phase: the equations have up to 7 entries per voxel,
#: which are counted with 32 bits.
MOST_VOXELS = 2**31 // 7
#: Number of rows of a matrix that are processed together, to limit memory use.
_BLOCK = 2**18


@dataclass(frozen=True, eq=False)
class _Level:
    """Equations of a grid, and how its unknowns map to the next coarser grid."""

    matrix: Any
    inverse_diagonal: Floats
    coarse: npt.NDArray[np.int32]
    n_coarse: int


@dataclass(frozen=True, eq=False)
class Solution:
    """Flux between the two faces.

    Attributes
    ----------
    flux : float
        Mean of the fluxes through all planes, for a concentration of 1 at the first
        face and 0 at the last face, each half a voxel beyond the centres of the
        outermost voxels.
    spread : float
        Largest minus smallest flux through a plane, relative to the mean.
    """

    flux: float
    spread: float


def bytes_needed(voxels: int, in_phase: int = 0) -> int:
    """Return the memory that a solution needs, in bytes, with copies of the volume.

    Parameters
    ----------
    voxels : int
        Number of voxels of the volume.
    in_phase : int
        Number of voxels of the phase; if it is 0, the result is a lower limit.
    """
    return _BYTES[0] * voxels + _BYTES[1] * in_phase


def solution_steps(
    phase: npt.NDArray[np.bool_], tolerance: float, check: Callable[[], None]
) -> Generator[Step, None, Solution]:
    """Solve for the concentration until the fluxes through all planes agree.

    There is no flux through the other faces or out of the phase.

    Parameters
    ----------
    phase : ndarray of shape (n, Y, X), bool
        Mask of the phase; each component must join the first and the last face.
    tolerance : float
        Largest acceptable `spread` of the solution.
    check : callable
        Raises an error to stop the measurement.
    """
    n = len(phase)
    matrix, source = _equations(phase)
    places = [axis.astype(np.int32) for axis in np.nonzero(phase)]
    planes = places[0]
    levels, coarsest = _grids(matrix, places)
    del places
    x = 1 - (planes.astype(np.float32) + np.float32(0.5)) / np.float32(n)
    first = np.flatnonzero(source)
    found = Solution(0.0, np.inf)
    residual = direction = source
    product, is_new = 0.0, True
    for i in range(_MOST_ITERATIONS):
        check()
        if is_new:  # removes accumulated rounding errors
            residual = source - matrix @ x
        found = _solution(x, residual, planes, first, n)
        yield BlockDone(i + 1, _MOST_ITERATIONS)
        if found.spread < tolerance:
            if is_new:
                break
            is_new = True
            continue
        better = _cycle(levels, coarsest, residual)
        before, product = product, _dot(residual, better)
        if is_new:
            direction, is_new = better, False
        else:
            direction = better + np.float32(product / before) * direction
        image = matrix @ direction
        step = np.float32(product / _dot(direction, image))
        x += step * direction
        residual = residual - step * image
    return found


def _dot(a: Floats, b: Floats) -> float:
    return float(np.dot(a.astype(np.float64), b))


def _solution(
    x: Floats, residual: Floats, planes: AnyArray, first: AnyArray, n: int
) -> Solution:
    """Find the fluxes through all planes, which differ by sums of residuals."""
    entering = float(2 * (1 - x[first].astype(np.float64)).sum())
    kept = np.cumsum(np.bincount(planes, residual, n))
    fluxes = np.concatenate([[entering], entering - kept])
    mean = float(fluxes.mean())
    return Solution(mean, float(np.ptp(fluxes)) / mean if mean > 0 else np.inf)


def _equations(phase: npt.NDArray[np.bool_]) -> tuple[Any, Floats]:
    """Return the flux balance of every voxel: matrix and right-hand side."""
    from scipy import sparse

    count = int(np.count_nonzero(phase))
    number = np.full(phase.shape, -1, np.int32)
    number[phase] = np.arange(count, dtype=np.int32)
    # Neighbours before, the voxel itself, and neighbours after it, in ascending order.
    columns = np.full((count, 7), -1, np.int32)
    columns[:, 3] = np.arange(count)
    for axis in range(3):
        along = np.moveaxis(number, axis, 0)
        both = (along[1:] >= 0) & (along[:-1] >= 0)
        before, after = along[:-1][both], along[1:][both]
        columns[after, axis] = before
        columns[before, 6 - axis] = after
    ends = [face[face >= 0] for face in (number[0], number[-1])]
    del number
    exists = columns >= 0
    starts = np.zeros(count + 1, np.int32)
    np.cumsum(exists.sum(axis=1), out=starts[1:])
    diagonal = (np.diff(starts) - 1).astype(np.float32)
    for face in ends:
        diagonal[face] += 2
    values = np.full((count, 7), -1, np.int8)
    values[:, 3] = diagonal  # at most 7, or 8 in a volume of one plane
    data, columns = values[exists].astype(np.float32), columns[exists]
    source = np.zeros(count, np.float32)
    source[ends[0]] = 2
    return sparse.csr_matrix((data, columns, starts), (count, count)), source


def _grids(matrix: Any, places: list[AnyArray]) -> tuple[list[_Level], SuperLU]:
    """Return grids from fine to coarse, and a direct solver for the coarsest one."""
    from scipy.sparse.linalg import splu

    levels: list[_Level] = []
    while matrix.shape[0] > _DIRECT:
        count = matrix.shape[0]
        places = [place >> 1 for place in places]
        shape = [int(place.max()) + 1 for place in places]
        box = np.ravel_multi_index(places, shape)
        coarse = _parts(matrix, box)
        n_coarse = int(coarse.max()) + 1
        if n_coarse > _MAX_COARSE_SHARE * count:
            break
        inverse = 1 / matrix.diagonal()
        levels.append(_Level(matrix, inverse, coarse, n_coarse))
        matrix = _summed(matrix, coarse, n_coarse)
        member = np.zeros(n_coarse, np.int32)
        member[coarse] = np.arange(count, dtype=np.int32)
        places = [place[member] for place in places]
    return levels, splu(matrix.astype(np.float64).tocsc())


def _blocks(matrix: Any) -> Iterator[tuple[slice, AnyArray, AnyArray]]:
    """Yield slices of a sparse matrix's values, with the row and column of each."""
    for begin in range(0, matrix.shape[0], _BLOCK):
        starts = matrix.indptr[begin : begin + _BLOCK + 1]
        stored = slice(starts[0], starts[-1])
        numbers = np.arange(begin, begin + len(starts) - 1, dtype=np.int32)
        rows = np.repeat(numbers, np.diff(starts))
        yield stored, rows, matrix.indices[stored]


def _summed(matrix: Any, coarse: AnyArray, n_coarse: int) -> Any:
    """Build the equations of the next grid by adding up those of joined unknowns."""
    from scipy import sparse

    shape = (n_coarse, n_coarse)
    total = sparse.csr_matrix(shape, dtype=np.float32)
    for stored, rows, columns in _blocks(matrix):
        values = matrix.data[stored] * _COARSE_SCALE
        total += sparse.csr_matrix((values, (coarse[rows], coarse[columns])), shape)
    return total


def _parts(matrix: Any, box: AnyArray) -> npt.NDArray[np.int32]:
    """Number the connected components in every box."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    inside, counts = [], []
    for _, rows, columns in _blocks(matrix):
        kept = (box[rows] == box[columns]) & (rows < columns)
        inside.append(columns[kept])
        counts.append(np.bincount(rows[kept] - rows[0], minlength=np.ptp(rows) + 1))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    values = np.ones(int(starts[-1]), np.int8)
    graph = sparse.csr_matrix((values, np.concatenate(inside), starts), matrix.shape)
    _, parts = connected_components(graph, directed=False)
    numbered: npt.NDArray[np.int32] = parts
    return numbered


def _cycle(levels: list[_Level], coarsest: SuperLU, residual: Floats) -> Floats:
    """Approximate the solution for a right-hand side by one V-cycle."""
    if not levels:
        solved: Floats = coarsest.solve(residual.astype(np.float64)).astype(np.float32)
        return solved
    level = levels[0]
    x: Floats = _DAMPING * level.inverse_diagonal * residual
    rest = residual - level.matrix @ x
    summed = np.bincount(level.coarse, rest, level.n_coarse).astype(np.float32)
    x += _cycle(levels[1:], coarsest, summed)[level.coarse]
    x += _DAMPING * level.inverse_diagonal * (residual - level.matrix @ x)
    return x
