"""Surface area and Euler number from 2×2×2 neighbourhoods: weights and look-up tables.

A cell is the cube between eight voxel centres; its code has one bit for each of them,
bit ``4 dx + 2 dz + dy``. Every pair of voxels along 13 directions belongs to exactly
one cell, so that sums over cells are Crofton's intercept counts.

References
----------
Ohser & Mücklich, Statistical Analysis of Microstructures in Materials Science (2000);
Lehmann & Legland, The Insight Journal (2012), https://hdl.handle.net/10380/3342.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np

#: The pairs of corners (dz, dy, dx) of a cell that stand for the 13 directions:
#: 3 edges at its lowest corner, 6 face diagonals of its three lowest faces and
#: 4 space diagonals.
PAIRS: tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...] = (
    ((0, 0, 0), (1, 0, 0)),
    ((0, 0, 0), (0, 1, 0)),
    ((0, 0, 0), (0, 0, 1)),
    ((0, 0, 0), (0, 1, 1)),
    ((0, 0, 1), (0, 1, 0)),
    ((0, 0, 0), (1, 0, 1)),
    ((0, 0, 1), (1, 0, 0)),
    ((0, 0, 0), (1, 1, 0)),
    ((0, 1, 0), (1, 0, 0)),
    ((0, 0, 0), (1, 1, 1)),
    ((0, 0, 1), (1, 1, 0)),
    ((0, 1, 0), (1, 0, 1)),
    ((0, 1, 1), (1, 0, 0)),
)


def bit(corner: tuple[int, ...]) -> int:
    """Number of the bit of corner (dz, dy, dx) in a code."""
    dz, dy, dx = corner
    return 4 * dx + 2 * dz + dy


#: The same pairs as bit numbers, shape (13, 2).
PAIR_BITS = np.array([(bit(a), bit(b)) for a, b in PAIRS], dtype=np.int64)


def pair_weights(voxel_size: Sequence[float], *, flat: bool = False) -> np.ndarray:
    """Surface (flat: length) that one change of phase along each pair stands for.

    The weight of a direction is the part of the unit sphere (circle) nearest to it,
    so that voxels of any aspect ratio are treated alike.

    Parameters
    ----------
    voxel_size : sequence of 3 float
        Edge lengths along Z, Y, X.
    flat : bool
        Weights for the perimeter in a Y, X image; pairs that leave the plane get 0.

    Returns
    -------
    ndarray of shape (13,), float64
        In units of the voxel size squared (flat: to the power one).
    """
    size = np.asarray(voxel_size, dtype=np.float64)
    vectors = np.array([np.subtract(b, a) for a, b in PAIRS]) * size
    length = np.linalg.norm(vectors, axis=1)
    if flat:
        return _flat_weights(vectors, length, size)
    from scipy.spatial import SphericalVoronoi

    unit = vectors / length[:, None]
    # The area does not depend on the overall scale; the library's tolerance does.
    voronoi = SphericalVoronoi(np.concatenate([unit, -unit]))
    share: np.ndarray = voronoi.calculate_areas()[: len(unit)] / (2 * math.pi)
    weights: np.ndarray = 2 * share * float(np.prod(size)) / length
    return weights


def _flat_weights(
    vectors: np.ndarray, length: np.ndarray, size: np.ndarray
) -> np.ndarray:
    in_plane = np.flatnonzero(vectors[:, 0] == 0)
    angle = np.mod(np.arctan2(vectors[in_plane, 1], vectors[in_plane, 2]), math.pi)
    order = np.argsort(angle)
    ordered = angle[order]
    following = np.append(ordered[1:], ordered[0] + math.pi)
    preceding = np.insert(ordered[:-1], 0, ordered[-1] - math.pi)
    share = np.empty(len(in_plane))
    share[order] = (following - preceding) / (2 * math.pi)
    weights = np.zeros(len(vectors))
    weights[in_plane] = math.pi / 2 * share * size[1] * size[2] / length[in_plane]
    return weights


def surface_table(weights: np.ndarray) -> np.ndarray:
    """Surface contributed by each of the 256 codes, shape (256,), float64."""
    codes = np.arange(256)
    first = (codes[:, None] >> PAIR_BITS[:, 0]) & 1
    second = (codes[:, None] >> PAIR_BITS[:, 1]) & 1
    table: np.ndarray = (first != second) @ weights
    return table


@lru_cache
def euler_table(connectivity: int) -> np.ndarray:
    """Eight times the Euler number contributed by each code, shape (256,), int64.

    With 26 neighbours a voxel is a closed cube: around the cell's centre the vertex,
    6 half edges, 12 quarter faces and 8 eighths of cubes are counted where any voxel
    has them. With 6 neighbours voxels are points: points, edges, squares and cubes of
    the cell are counted where all their voxels are there.
    """
    corners = list(product((0, 1), repeat=3))
    parts: list[tuple[int, list[int]]] = []
    for n_free, factor in enumerate(
        (8, -4, 2, -1) if connectivity == 26 else (1, -2, 4, -8)
    ):
        for free in product((False, True), repeat=3):
            # With 26 a part's freedom is what it spans round the centre; its voxels
            # vary along the other axes. With 6 its voxels vary along its own axes.
            if sum(free) != n_free:
                continue
            varies = tuple(not f for f in free) if connectivity == 26 else free
            fixed = [axis for axis in range(3) if not varies[axis]]
            for place in product((0, 1), repeat=len(fixed)):
                bits = [
                    bit(corner)
                    for corner in corners
                    if all(corner[a] == p for a, p in zip(fixed, place, strict=True))
                ]
                parts.append((factor, bits))
    table = np.zeros(256, dtype=np.int64)
    for code in range(256):
        for factor, bits in parts:
            present = [code >> b & 1 for b in bits]
            table[code] += factor * (
                any(present) if connectivity == 26 else all(present)
            )
    return table
