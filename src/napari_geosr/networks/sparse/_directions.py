"""Directions from a centre: find neighbours, and fill in and interpolate maps.

The directions are nearly equally spaced (a Fibonacci lattice), so that no direction is
preferred.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from napari_geosr.core.types import AnyArray

#: Number of nearest directions that count as neighbours of a direction.
_NEIGHBOURS = 8
#: Number of nearest directions from which values are interpolated.
_NEAREST = 6


class DirectionGrid:
    """Nearly equally spaced directions and the neighbours of each.

    Parameters
    ----------
    n : int
        Number of directions.

    Attributes
    ----------
    units : ndarray of shape (n, 3)
        Unit vectors (Z, Y, X).
    """

    def __init__(self, n: int) -> None:
        from scipy.spatial import cKDTree

        self.units = equal_directions(n)
        self.tree = cKDTree(self.units)
        self.distances, self.neighbours = (
            part[:, 1:] for part in self.tree.query(self.units, _NEIGHBOURS + 1)
        )

    def __len__(self) -> int:
        return len(self.units)

    @cached_property
    def _bending(self) -> Any:
        """Sparse matrix of the quadratic form that is the bending energy of a map."""
        from scipy import sparse

        n, k = len(self), _NEIGHBOURS
        weights = np.exp(-((self.distances / self.distances.mean()) ** 2))
        rows = np.repeat(np.arange(n), k)
        links = sparse.csr_matrix(
            (weights.ravel(), (rows, self.neighbours.ravel())), (n, n)
        )
        links = (links + links.T) / 2
        laplacian = sparse.diags(np.asarray(links.sum(1)).ravel()) - links
        return (laplacian.T @ laplacian).tocsr()

    def filled(self, values: AnyArray, known: AnyArray) -> AnyArray:
        """Fill in the unknown values of a map with a thin-plate spline.

        Parameters
        ----------
        values : ndarray of shape (n,)
        known : ndarray of bool, shape (n,)
            True for known values; must not be all False.
        """
        from scipy.sparse.linalg import spsolve

        found = np.where(known, values, 0.0)
        unknown = ~known
        if unknown.any() and known.any():
            rows = self._bending[unknown]
            right = -(rows[:, known] @ values[known])
            found[unknown] = spsolve(rows[:, unknown].tocsc(), right)
        return found

    def grown(self, chosen: AnyArray, rings: int = 1) -> AnyArray:
        """Add the neighbours of the chosen directions, `rings` times."""
        for _ in range(rings):
            chosen = chosen | chosen[self.neighbours].any(1)
        return chosen

    def shrunk(self, chosen: AnyArray, rings: int = 1) -> AnyArray:
        """Remove the outermost `rings` rings from the chosen directions."""
        found: AnyArray = ~self.grown(~chosen, rings)
        return found

    def pieces(self, chosen: AnyArray) -> list[AnyArray]:
        """Return connected components of the chosen directions, as index arrays."""
        from scipy import sparse

        index = np.flatnonzero(chosen)
        rows = np.repeat(np.arange(len(self)), _NEIGHBOURS)
        ones = np.ones(rows.size, np.int8)
        links = sparse.csr_matrix(
            (ones, (rows, self.neighbours.ravel())), (len(self),) * 2
        )
        n, labels = sparse.csgraph.connected_components(
            links[index][:, index], directed=False
        )
        return [index[labels == i] for i in range(n)]

    def weights(self, units: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Return indices and weights (M, 6) that interpolate at unit vectors (M, 3)."""
        distance, index = self.tree.query(units, _NEAREST)
        spacing = np.sqrt(4 * np.pi / len(self))
        weights = np.exp(-((distance / spacing) ** 2))
        return index, weights / weights.sum(1, keepdims=True)


@lru_cache(maxsize=2)
def direction_grid(n: int) -> DirectionGrid:
    """Return the grid of `n` directions; cached, because building it takes time."""
    return DirectionGrid(n)


def equal_directions(n: int) -> AnyArray:
    """Return `n` unit vectors (Z, Y, X) on a Fibonacci lattice."""
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    turn = np.pi * (1 + np.sqrt(5)) * i
    radius = np.sqrt(1 - z * z)
    units: AnyArray = np.stack([z, radius * np.sin(turn), radius * np.cos(turn)], 1)
    return units
