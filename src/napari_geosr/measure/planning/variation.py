"""Variation of the porosity between cubes of a given size.

The variance of the porosity of a cube is an integral of the covariance of the pores
(Lantuéjoul, J. Microsc. 161, 387 (1991), doi:10.1111/j.1365-2818.1991.tb03099.x; Kanit
et al., Int. J. Solids Struct. 40, 3647 (2003), doi:10.1016/S0020-7683(03)00143-4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.measure.planning.cells import Cubes, Floats

#: Largest size to which the variation is extrapolated, as a multiple of the largest
#: size that was measured.
MOST_EXTRAPOLATED = 100
#: Number of points per axis for numerical integration.
_POINTS = 48


@dataclass(frozen=True, eq=False)
class Variation:
    """Standard deviation of the porosity of cubes as a function of their size.

    Attributes
    ----------
    measured : tuple of Cubes
        Cubes of increasing size, with enough cubes of each size.
    distances, s2 : ndarray
        Two-point probability by distance in voxels. This curve is used to extrapolate
        the measured values to sizes for which the scan contains too few cubes.
    ndim : int
        2 for an image, 3 for a volume.
    """

    measured: tuple[Cubes, ...]
    distances: Floats
    s2: Floats
    ndim: int

    @property
    def largest(self) -> Cubes:
        """Largest cubes for which the variation was measured."""
        return self.measured[-1]

    def is_measured(self, edge: float) -> bool:
        """Whether this edge length is at most that of the largest cubes measured."""
        return edge <= self.largest.edge

    def sd(self, edge: float) -> float:
        """Return the standard deviation of the porosity of cubes; edge in voxels."""
        edges = np.array([cubes.edge for cubes in self.measured], float)
        values = np.array([cubes.sd for cubes in self.measured])
        if edge <= edges[0]:
            return float(values[0])
        if edge <= edges[-1]:
            if not values.all():  # logarithms are impossible
                return float(np.interp(edge, edges, values))
            logs = np.interp(math.log(edge), np.log(edges), np.log(values))
            return float(np.exp(logs))
        ratio = self._variance(edge) / self._variance(edges[-1])
        return float(values[-1] * math.sqrt(ratio))

    def n_independent(self, edge: float) -> int:
        """Return the number of cubes from which `sd` is determined."""
        known = [c for c in self.measured if c.edge <= edge] or [self.measured[0]]
        return len(known[-1])

    def representative_edge(self, error: float, factor: float) -> float | None:
        """Return the smallest edge of cubes with a porosity within `error` of the mean.

        Parameters
        ----------
        error : float
            Accepted error of the porosity.
        factor : float
            Number of standard deviations that the error covers.

        Returns
        -------
        float or None
            Edge length in voxels; None if it is more than 100 times that of the largest
            cubes measured.
        """
        low, high = (
            float(self.measured[0].edge),
            float(MOST_EXTRAPOLATED * self.largest.edge),
        )
        if factor * self.sd(high) > error:
            return None
        if factor * self.sd(low) <= error:
            return low
        while high / low > 1.005:
            middle = math.sqrt(low * high)
            if factor * self.sd(middle) > error:
                low = middle
            else:
                high = middle
        return high

    def _variance(self, edge: float) -> float:
        return variance_of_cubes(self.distances, self.s2, edge, self.ndim)


def variance_of_cubes(
    distances: Sequence[float] | Floats, s2: Floats, edge: float, ndim: int
) -> float:
    """Compute the variance of the porosity of cubes from the two-point probability.

    The variance is the mean of the covariance over pairs of points in the cube. It is
    assumed that all directions are equivalent, and that the covariance is zero beyond
    its first zero.

    Parameters
    ----------
    distances : sequence of float
        Distances in voxels, ascending from 0.
    s2 : ndarray
        Two-point probability at each distance.
    edge : float
        Edge length of a cube, in voxels.
    ndim : int
        2 for squares, 3 for cubes.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> r = np.arange(0.0, 60.0)
    >>> s2 = 0.25 + 0.25 * np.exp(-r / 2)  # integral range 8 π 2³
    >>> cube = variance_of_cubes(r, s2, 400.0, 3)
    >>> round(cube * 400**3 / 0.25 / (8 * np.pi * 8), 1)
    1.0
    """
    covariance = np.asarray(s2, float) - float(s2[0]) ** 2
    ended = np.flatnonzero(covariance <= 0)
    end = int(ended[0]) if ended.size else len(covariance) - 1
    reach = min(edge, float(distances[end]))
    # Midpoints of equal intervals up to the distance at which the covariance vanishes.
    step = reach / _POINTS
    h = (np.arange(_POINTS) + 0.5) * step
    weight = 1 - h / edge  # fraction of pairs at this offset
    squares = h**2
    if ndim == 2:
        radius = np.sqrt(squares[:, None] + squares)
        weights = weight[:, None] * weight
    else:
        radius = np.sqrt(squares[:, None, None] + squares[:, None] + squares)
        weights = weight[:, None, None] * weight[:, None] * weight
    values = np.interp(radius, distances[: end + 1], covariance[: end + 1], right=0.0)
    if ended.size:
        values[radius >= distances[end]] = 0.0
    return float((weights * values).sum() * (2 * step / edge) ** ndim)
