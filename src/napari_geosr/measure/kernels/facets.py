"""Facets of the surface between two phases, and their areas by orientation.

There is one facet for every pair of neighbouring voxels of different phases. Its four
corners lie in the four cells (cubes between eight voxel centres) around this pair, each
at the mean of the points where the edges of the cell meet the surface (surface nets,
after Gibson, MICCAI 1998, doi:10.1007/BFb0056277).
"""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled

#: Areas are integers in units of 1 / `STEPS` of a voxel face, so that their sums do not
#: depend on the order of addition.
STEPS = 2**20
#: Number of steps between an axis and the diagonal, by which orientations are grouped.
HALF = 16
#: Number of groups of orientations.
GROUPS = 3 * (2 * HALF + 1) ** 2


@compiled
def place_corners(
    phase: np.ndarray, depths: np.ndarray, exists: np.ndarray, corners: np.ndarray
) -> None:
    """Place a corner in each cell that contains both phases.

    Parameters
    ----------
    phase : ndarray of shape (Z, Y, X), uint8
        0 or 1.
    depths : ndarray of the same shape, float32
        Distance from the surface, for the voxels next to it; positive.
    exists : ndarray of shape (Z + 1, Y + 1, X + 1), bool
        Cells with all eight voxels in the sample. Cell (z, y, x) lies between the
        voxels (z - 1, y - 1, x - 1) and (z, y, x).
    corners : ndarray of shape (Z + 1, Y + 1, X + 1, 3), float32
        Receives the positions relative to the first voxel of the cell, 0 to 1.
    """
    n_z, n_y, n_x = phase.shape
    at = np.zeros(3)
    for z in range(n_z - 1):
        for y in range(n_y - 1):
            for x in range(n_x - 1):
                if not exists[z + 1, y + 1, x + 1]:
                    continue
                n = 0
                at[:] = 0.0
                for axis in range(3):
                    for i in range(2):
                        for j in range(2):
                            a, b, c = z, y, x
                            if axis == 0:
                                b, c = y + i, x + j
                                other = phase[z + 1, b, c], depths[z + 1, b, c]
                            elif axis == 1:
                                a, c = z + j, x + i
                                other = phase[a, y + 1, c], depths[a, y + 1, c]
                            else:
                                a, b = z + i, y + j
                                other = phase[a, b, x + 1], depths[a, b, x + 1]
                            if phase[a, b, c] == other[0]:
                                continue
                            near = np.float64(depths[a, b, c])
                            at[axis] += near / (near + other[1])
                            at[(axis + 1) % 3] += i
                            at[(axis + 2) % 3] += j
                            n += 1
                for k in range(3):
                    corners[z + 1, y + 1, x + 1, k] = at[k] / max(n, 1)


@compiled
def _diagonal(
    corners: np.ndarray,
    exists: np.ndarray,
    ends: tuple[int, int],
    shifts: tuple[int, int, int],
    axis: int,
    middle: float,
    diagonal: np.ndarray,
) -> None:
    """Fill in the vector from one corner of a facet to the opposite one.

    If one of the two cells does not exist, its corner is the mirror image of the other
    at the point where the pair of voxels meets the surface.

    Parameters
    ----------
    ends : tuple of 2 int
        Flat indices of the cells at the start and at the end.
    shifts : tuple of 3 int
        Distance from the start to the end along `axis` and the two axes that follow, in
        cells.
    middle : float
        Position along `axis` at which the pair of voxels meets the surface.
    """
    for k in range(3):
        at = (axis + k) % 3
        # Positions relative to the first voxel of the pair.
        low = np.float64(corners[ends[0], at]) + min(-shifts[k], 0)
        high = np.float64(corners[ends[1], at]) + min(shifts[k], 0)
        mirror = middle if k == 0 else 0.0
        if not exists[ends[0]]:
            low = 2 * mirror - high
        elif not exists[ends[1]]:
            high = 2 * mirror - low
        diagonal[at] = high - low


@compiled
def add_facets(
    phase: np.ndarray,
    depths: np.ndarray,
    exists: np.ndarray,
    corners: np.ndarray,
    place: np.ndarray,
    areas: np.ndarray,
    pairs: np.ndarray,
) -> None:
    """Add the facets of all pairs of voxels with the first voxel in a box.

    Parameters
    ----------
    phase, depths, exists, corners : ndarray
        As in `place_corners`.
    place : ndarray of shape (3, 2), int64
        Limits of the box along each axis: the first voxel, and the one after the last.
    areas : ndarray of shape (3, GROUPS, 3), int64
        Sums of the area vectors (z, y, x) of facets, by the axis of the pair and the
        group of orientations; changed in place.
    pairs : ndarray of shape (3,), int64
        Number of pairs along each axis, with or without a facet; changed in place.
    """
    n_z, n_y, n_x = phase.shape
    known, places = exists.ravel(), corners.reshape(-1, 3)
    steps = ((n_y + 1) * (n_x + 1), n_x + 1, 1)
    one, two, area = np.empty(3), np.empty(3), np.empty(3)
    for z in range(place[0, 0], place[0, 1]):
        for y in range(place[1, 0], place[1, 1]):
            for x in range(place[2, 0], place[2, 1]):
                here = (z + 1) * steps[0] + (y + 1) * steps[1] + x + 1
                for axis in range(3):
                    a, b, c = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                    if a == n_z or b == n_y or c == n_x:
                        continue
                    left = here - steps[(axis + 1) % 3]
                    below = here - steps[(axis + 2) % 3]
                    both = left + below - here
                    if not (known[here] or known[both]):
                        continue
                    if not (known[left] or known[below]):
                        continue
                    pairs[axis] += 1
                    if phase[z, y, x] == phase[a, b, c]:
                        continue
                    near = np.float64(depths[z, y, x])
                    middle = near / (near + depths[a, b, c])
                    _diagonal(places, known, (both, here), (0, 1, 1), axis, middle, one)
                    _diagonal(
                        places, known, (left, below), (0, 1, -1), axis, middle, two
                    )
                    for k in range(3):
                        i, j = (k + 1) % 3, (k + 2) % 3
                        area[k] = (one[i] * two[j] - one[j] * two[i]) / 2
                    _add(area, areas[axis])


@compiled
def _add(area: np.ndarray, groups: np.ndarray) -> None:
    """Add an area vector, or its opposite, to the sum of its group of orientations."""
    main = 0
    for k in range(1, 3):
        if abs(area[k]) > abs(area[main]):
            main = k
    length = area[main]
    if length == 0:
        return
    sign = 1.0 if length > 0 else -1.0
    i = int(np.rint(HALF * area[(main + 1) % 3] / length)) + HALF
    j = int(np.rint(HALF * area[(main + 2) % 3] / length)) + HALF
    group = (main * (2 * HALF + 1) + i) * (2 * HALF + 1) + j
    for k in range(3):
        groups[group, k] += np.int64(np.rint(sign * area[k] * STEPS))
