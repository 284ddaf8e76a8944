"""Pack spheres densely, starting from a saturated random placement.

Lengths are in voxels; a sphere is (z, y, x, radius), as returned by `place_balls`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.specimens.phantoms import Shape

Array = npt.NDArray[np.float64]

#: Fraction of the requested porosity above which the request counts as nearly reached.
NEARLY_REACHED = 0.75
#: Fraction of the requested porosity at which packing stops.
_NEAR = 0.99
#: Number of random points that give the volume of the spheres to within 0.2 % of the
#: box.
_POINTS = 100_000
#: Number of candidate positions per round, and number of rounds with little progress
#: after which packing stops.
_CANDIDATES = 20_000
_IDLE_ROUNDS = 4
#: Minimum progress of a round, as a fraction of the requested porosity.
_PROGRESS = 0.003
_MAX_BALLS = 200_000
#: Largest ratio of radii within a search tree, and number of neighbours examined in
#: each tree.
_CLASS = 1.5
_NEIGHBOURS = 8


def ball_fraction(shape: Shape, balls: Array, *, seed: int = 0) -> float:
    """Return the fraction of a box (Z, Y, X) that is filled by non-overlapping spheres.

    Parameters
    ----------
    shape : (int, int, int)
    balls : ndarray of shape (n, 4)
        Centres along Z, Y and X, and radii, in voxels.
    seed : int
    """
    from scipy.spatial import cKDTree

    if not len(balls):
        return 0.0
    rng = np.random.default_rng([seed, 5])
    points = rng.uniform(0, 1, (_POINTS, 3)) * np.asarray(shape) - 0.5
    within = cKDTree(points).query_ball_point(
        balls[:, :3], balls[:, 3], return_length=True
    )
    return float(within.sum()) / _POINTS


def fill_gaps(
    shape: Shape,
    balls: Array,
    *,
    porosity: float,
    radius: tuple[float, float],
    gap: float,
    seed: int,
) -> Array:
    """Add spheres between existing ones, beginning with the largest that fit.

    Parameters
    ----------
    shape : tuple of int
        Box (Z, Y, X).
    balls : ndarray of shape (n, 4)
        Centre (z, y, x) and radius of each existing sphere; these are kept.
    porosity : float
        Filled fraction of the box at which to stop.
    radius : tuple of float
        Smallest and largest radius.
    gap : float
        Minimum thickness of the wall between two spheres.
    seed : int
        Seed of the random positions.

    Returns
    -------
    ndarray of shape (m, 4)
        The existing spheres and the added ones. Spheres are added until the porosity is
        reached or hardly any further sphere fits.
    """
    smallest, largest = radius
    rng = np.random.default_rng([seed, 2])
    low = np.full(3, -smallest)
    high = np.asarray(shape) - 1 + smallest
    box = float(np.prod(shape))
    share = ball_fraction(shape, balls)
    idle = 0
    while share < _NEAR * porosity and idle < _IDLE_ROUNDS and len(balls) < _MAX_BALLS:
        points = rng.uniform(low, high, (_CANDIDATES, 3))
        fitting = _fitting_radii(points, balls, gap, largest)
        new: list[tuple[float, float, float, float]] = []
        lacking = (porosity - share) * box
        while lacking > 0:
            chosen = int(fitting.argmax())
            if fitting[chosen] < smallest:
                break
            # Shrink the last spheres so that the target is met rather than exceeded.
            needed = max(smallest, (3 * lacking / (4 * math.pi)) ** (1 / 3))
            r = min(float(fitting[chosen]), needed)
            z, y, x = (float(v) for v in points[chosen])
            new.append((z, y, x, r))
            lacking -= 4 / 3 * math.pi * r**3
            apart = np.linalg.norm(points - points[chosen], axis=1)
            fitting = np.minimum(fitting, apart - r - gap)
        balls = np.concatenate([balls, np.array(new).reshape(-1, 4)])
        before, share = share, ball_fraction(shape, balls)
        idle = idle + 1 if share - before < _PROGRESS * porosity else 0
    return balls


def _fitting_radii(points: Array, balls: Array, gap: float, largest: float) -> Array:
    """Return a lower bound for the radius of the sphere that fits at each point.

    Spheres of similar radius share a search tree. Only the distances to the nearest few
    spheres are exact; all other spheres are further away, and are assumed to have the
    largest radius in the tree.
    """
    from scipy.spatial import cKDTree

    fitting = np.full(len(points), largest)
    if not len(balls):
        return fitting
    kinds = np.log(balls[:, 3] / balls[:, 3].min()) // math.log(_CLASS)
    for kind in np.unique(kinds):
        own = balls[kinds == kind]
        k = min(_NEIGHBOURS, len(own))
        distance, index = cKDTree(own[:, :3]).query(points, k=k)
        distance, index = distance.reshape(-1, k), index.reshape(-1, k)
        surface = (distance - own[index, 3]).min(axis=1)
        if k < len(own):
            surface = np.minimum(surface, distance[:, -1] - own[:, 3].max())
        fitting = np.minimum(fitting, surface - gap)
    return fitting
