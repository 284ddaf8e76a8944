"""The medial axis of a phase."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled
from napari_geosr.measure.kernels.surface import STEPS as DEPTHS

#: Maximum difference between the diameters of two spheres, in voxels, at which the
#: smaller one is kept: a voxel of the medial axis may lie next to the true axis.
NEAR = 0.6
#: Minimum radius, in voxels, of the largest spheres that are kept although no medial
#: axis was found there; smaller ones are mostly noise.
PEAK = 3
#: Fraction of the diameter of a covering sphere that is added to this difference,
#: because thickness varies along the axis.
TAPER = 0.2


@compiled
def mark_axes(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray, marked: np.ndarray
) -> None:
    """Mark voxels of the medial axis of a phase.

    Two neighbouring voxels each have a nearest voxel outside the phase. If these
    outside voxels subtend an angle of more than 130°, the neighbour that is closer to
    the midpoint between them is marked (Hesselink & Roerdink, IEEE TPAMI 30, 2204
    (2008), doi:10.1109/TPAMI.2008.21: pruned integer medial axis).

    Parameters
    ----------
    marked : ndarray of the shape of the phase, uint8
        Filled with 1 on the medial axis and 0 elsewhere.
    """
    n_z, n_y, n_x = phase.shape
    marked[:] = 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                p = nearest[z, y, x]
                if not phase[z, y, x] or p < 0:
                    continue
                for axis in range(3):
                    a, b, c = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                    if a >= n_z or b >= n_y or c >= n_x or not phase[a, b, c]:
                        continue
                    q = nearest[a, b, c]
                    if q < 0 or q == p:
                        continue
                    middle = 0
                    apart = 0
                    u = (p // (n_x * n_y), p // n_x % n_y, p % n_x)
                    v = (q // (n_x * n_y), q // n_x % n_y, q % n_x)
                    for i, (first, second) in enumerate(((z, a), (y, b), (x, c))):
                        apart += (u[i] - v[i]) ** 2
                        middle += (u[i] - v[i]) * (u[i] + v[i] - first - second)
                    # Skip angles of at most 130° (law of cosines, with two sides of
                    # equal length).
                    if apart <= 1.65 * (distances[z, y, x] + distances[a, b, c]):
                        continue
                    if middle >= 0:
                        marked[z, y, x] = 1
                    else:
                        marked[a, b, c] = 1


@compiled
def _is_peak(
    phase: np.ndarray,
    distances: np.ndarray,
    marked: np.ndarray,
    z: int,
    y: int,
    x: int,
) -> bool:
    """Whether no neighbour in the phase is marked or lies farther from the surface."""
    n_z, n_y, n_x = phase.shape
    for a in range(max(z - 1, 0), min(z + 2, n_z)):
        for b in range(max(y - 1, 0), min(y + 2, n_y)):
            for c in range(max(x - 1, 0), min(x + 2, n_x)):
                if not phase[a, b, c]:
                    continue
                if marked[a, b, c] == 1 or distances[a, b, c] > distances[z, y, x]:
                    return False
    return True


@compiled
def mark_peaks(phase: np.ndarray, distances: np.ndarray, marked: np.ndarray) -> None:
    """Mark the voxels farthest from the surface if no neighbour is marked.

    Between closed pores, the largest spheres can touch several pores at angles of less
    than 130°, so that their centres are not yet marked. If they stayed unmarked,
    nothing would remain there, because `drop_covered` unmarks the adjacent axes, which
    these spheres cover.

    Parameters
    ----------
    marked : ndarray of the shape of the phase, uint8
        Output of `mark_axes`; changed in place.
    """
    n_z, n_y, n_x = phase.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if not phase[z, y, x] or distances[z, y, x] < PEAK * PEAK:
                    continue
                if _is_peak(phase, distances, marked, z, y, x):
                    marked[z, y, x] = 2  # neighbours may be marked, too
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                marked[z, y, x] = min(marked[z, y, x], 1)


@compiled
def drop_covered(
    marked: np.ndarray, distances: np.ndarray, diameters: np.ndarray, step: float
) -> None:
    """Unmark voxels of the medial axis that are covered by much larger spheres.

    The steps of an oblique or rough surface have short axes of their own. Their spheres
    add nothing to the volume filled by the larger spheres of the structure, and do not
    belong to its mid-axes (Hildebrand et al., J. Bone Miner. Res. 14, 1167 (1999)).

    Parameters
    ----------
    marked : ndarray of uint8
        Changed in place.
    distances : ndarray of the same shape, int32
        Output of `surface.to_surface`, up to the centres of outside voxels.
    diameters : ndarray of the same shape, uint16
        Diameter of the largest sphere that covers each marked voxel.
    step : float
        Unit of the diameters, in voxels.
    """
    n_z, n_y, n_x = marked.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if marked[z, y, x]:
                    wide = (1 - TAPER) * diameters[z, y, x] * step - NEAR
                    if 2 * distances[z, y, x] < wide * DEPTHS:
                        marked[z, y, x] = 0
