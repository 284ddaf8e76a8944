"""Largest spheres within a phase: their centres, their radii, and painting them.

Hildebrand & Rüegsegger, J. Microsc. 185, 67 (1997),
doi:10.1046/j.1365-2818.1997.1340694.x; spheres within another sphere are left out (Dahl
& Dahl, CVPR Workshops (2023), doi:10.1109/CVPRW59228.2023.00454, compare algorithms).
"""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled

#: Steps of the stored diameter per voxel.
STEPS = 32
#: Largest stored diameter: steps of 1/32 voxel in 16 bits.
MOST = 65535
#: Fraction of its radius beyond which a sphere's surface still belongs to it.
TOLERANCE = 0.02
#: Reach and standard deviation, in voxels, of the weights that locate the surface.
_REACH = 2
_SIGMA = 0.65
_OFFSETS = np.arange(-_REACH, _REACH + 1)
_BELL = np.exp(-(_OFFSETS**2) / (2 * _SIGMA**2))
_BELL /= _BELL.sum()
_HALF = float(_BELL[_REACH + 1 :].sum())


@compiled
def is_covered(
    distances: np.ndarray, nearest: np.ndarray, z: int, y: int, x: int
) -> bool:
    """Whether the sphere around a voxel is almost within one farther from the surface.

    It may stick out by `TOLERANCE` times the distance between their centres. By
    induction, each sphere is within one that is kept and made larger by `TOLERANCE`.
    """
    n_z, n_y, n_x = distances.shape
    index = nearest[z, y, x]
    if index < 0:
        return False
    here = distances[z, y, x]
    radius = np.sqrt(np.float64(here))
    dz = (z - index // (n_x * n_y)) / radius
    dy = (y - index // n_x % n_y) / radius
    dx = (x - index % n_x) / radius
    for step in (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0):
        sz, sy, sx = np.rint(step * dz), np.rint(step * dy), np.rint(step * dx)
        a, b, c = z + int(sz), y + int(sy), x + int(sx)
        if not (0 <= a < n_z and 0 <= b < n_y and 0 <= c < n_x):
            return False
        there = distances[a, b, c]
        if there <= here:
            continue
        length = np.sqrt(sz * sz + sy * sy + sx * sx)
        if np.sqrt(np.float64(there)) + TOLERANCE * length + 1e-6 >= radius + length:
            return True
    return False


@compiled
def n_uncovered(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray, core: np.ndarray
) -> int:
    """How many spheres are not within others and reach the core."""
    n_z, n_y, n_x = phase.shape
    n = 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if (
                    phase[z, y, x]
                    and _reaches(z, y, x, distances[z, y, x], core)
                    and not is_covered(distances, nearest, z, y, x)
                ):
                    n += 1
    return n


@compiled
def _reaches(z: int, y: int, x: int, squared: int, core: np.ndarray) -> bool:
    """Whether the sphere around a voxel may contain voxels of the core."""
    gap = np.int64(0)
    for axis, place in enumerate((z, y, x)):
        off = max(core[axis, 0] - place, place - core[axis, 1] + 1, 0)
        gap += off * off
    # A sphere may be moved by less than a voxel along each axis.
    reach = (1 + TOLERANCE) * np.sqrt(np.float64(squared)) + 3
    return bool(gap <= reach * reach)


@compiled
def largest_unknown(
    phase: np.ndarray, distances: np.ndarray, core: np.ndarray, inner: np.ndarray
) -> float:
    """Largest radius of a sphere that the end of the block may have made too large.

    Spheres that reach the core are checked. `inner` has 1 for each face of the block,
    as pairs along Z, Y, X, behind which there is more of the volume; 0 at its border.
    """
    shape = phase.shape
    largest = 0.0
    for z in range(shape[0]):
        for y in range(shape[1]):
            for x in range(shape[2]):
                squared = distances[z, y, x]
                if not phase[z, y, x] or not _reaches(z, y, x, squared, core):
                    continue
                margin = 2**20
                for axis, place in enumerate((z, y, x)):
                    if inner[axis, 0]:
                        margin = min(margin, place)
                    if inner[axis, 1]:
                        margin = min(margin, shape[axis] - 1 - place)
                # Two voxels for the neighbours of the centre and of the surface.
                radius = np.sqrt(np.float64(squared))
                if radius + 2 > margin and radius > largest:
                    largest = radius
    return largest


@compiled
def collect(
    phase: np.ndarray,
    distances: np.ndarray,
    nearest: np.ndarray,
    core: np.ndarray,
    locate: bool,
    centres: np.ndarray,
    squares: np.ndarray,
    diameters: np.ndarray,
) -> int:
    """Fill in the spheres that are not within others, and the same spheres moved.

    A sphere is moved by less than a voxel to where it is largest, as the middle of a
    plate an even number of voxels thick is between voxels.

    Parameters
    ----------
    locate : bool
        Whether the surface is located between voxels; otherwise, distances are to the
        centres of the voxels outside.
    centres : ndarray of shape (n, 3), int32
        In quarters of a voxel.
    squares : ndarray of shape (n,), int32
        Squared distance from the centre to the nearest voxel outside, in units of 1/16.
    diameters : ndarray of shape (n,), uint16
        Distances to the surface, in `STEPS` per voxel.

    Returns
    -------
    int
        How many spheres there are.
    """
    n_z, n_y, n_x = phase.shape
    walls = np.empty((27, 3), np.int64)
    depths = np.empty(27, np.float64)
    moved = np.empty(5, np.float64)
    n = 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if (
                    not phase[z, y, x]
                    or not _reaches(z, y, x, distances[z, y, x], core)
                    or is_covered(distances, nearest, z, y, x)
                ):
                    continue
                count = _walls(phase, nearest, z, y, x, locate, walls, depths)
                _move(4 * z, 4 * y, 4 * x, walls, depths, count, n_z == 1, moved)
                _put(moved, n, centres, squares, diameters)
                _measure(4 * z, 4 * y, 4 * x, walls, depths, count, moved)
                _put(moved, n + 1, centres, squares, diameters)
                n += 2
    return n


@compiled
def _walls(
    phase: np.ndarray,
    nearest: np.ndarray,
    z: int,
    y: int,
    x: int,
    locate: bool,
    walls: np.ndarray,
    depths: np.ndarray,
) -> int:
    """Nearest voxels outside of a voxel and its neighbours; their depths outside."""
    n_z, n_y, n_x = phase.shape
    count = 0
    for dz in range(-1, 2):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                a, b, c = z + dz, y + dy, x + dx
                if not (0 <= a < n_z and 0 <= b < n_y and 0 <= c < n_x):
                    continue
                index = nearest[a, b, c]
                if index < 0:
                    continue
                c = index % n_x
                b = index // n_x % n_y
                a = index // (n_x * n_y)
                known = False
                for i in range(count):
                    if walls[i, 0] == a and walls[i, 1] == b and walls[i, 2] == c:
                        known = True
                        break
                if not known:
                    walls[count, 0], walls[count, 1], walls[count, 2] = a, b, c
                    depths[count] = depth(phase, a, b, c) if locate else 0.0
                    count += 1
    return count


@compiled
def depth(phase: np.ndarray, z: int, y: int, x: int) -> float:
    """Distance of a voxel outside a phase from its surface, from the voxels around."""
    n_z, n_y, n_x = phase.shape
    inside = 0.0
    for dz in range(-_REACH, _REACH + 1):
        a = min(max(z + dz, 0), n_z - 1)
        for dy in range(-_REACH, _REACH + 1):
            b = min(max(y + dy, 0), n_y - 1)
            weight = _BELL[dz + _REACH] * _BELL[dy + _REACH]
            for dx in range(-_REACH, _REACH + 1):
                c = min(max(x + dx, 0), n_x - 1)
                if phase[a, b, c]:
                    inside += weight * _BELL[dx + _REACH]
    return _depth_of(inside)


@compiled
def _depth_of(share: float) -> float:
    """Distance from a flat surface at which `share` of the weights is inside."""
    return max(-0.5, min(0.5, 0.5 * (0.5 - share) / (0.5 - _HALF)))


@compiled
def _measure(
    z: int,
    y: int,
    x: int,
    walls: np.ndarray,
    depths: np.ndarray,
    count: int,
    sphere: np.ndarray,
) -> None:
    """Fill in the largest sphere around a point given in quarters of a voxel.

    `sphere` is the centre, the radius in voxels, and the squared distance to the
    nearest voxel outside in units of 1/16.
    """
    radius = 1e9
    squared = np.int64(2**30)
    for i in range(count):
        dz = 4 * walls[i, 0] - z
        dy = 4 * walls[i, 1] - y
        dx = 4 * walls[i, 2] - x
        parts = dz * dz + dy * dy + dx * dx
        squared = min(squared, parts)
        radius = min(radius, 0.25 * np.sqrt(np.float64(parts)) - depths[i])
    sphere[0], sphere[1], sphere[2] = z, y, x
    sphere[3] = max(radius, 0.5)
    sphere[4] = squared


@compiled
def _move(
    z: int,
    y: int,
    x: int,
    walls: np.ndarray,
    depths: np.ndarray,
    count: int,
    flat: bool,
    sphere: np.ndarray,
) -> None:
    """Move a sphere by half a voxel or less, then a quarter, to where it is larger."""
    trial = np.empty(5, np.float64)
    _measure(z, y, x, walls, depths, count, sphere)
    for step in (2, 1):
        z, y, x = int(sphere[0]), int(sphere[1]), int(sphere[2])
        for dz in range(0 if flat else -step, 1 if flat else step + 1, step):
            for dy in range(-step, step + 1, step):
                for dx in range(-step, step + 1, step):
                    _measure(z + dz, y + dy, x + dx, walls, depths, count, trial)
                    if trial[3] > sphere[3] + 1e-9:
                        sphere[:] = trial


@compiled
def _put(
    sphere: np.ndarray,
    n: int,
    centres: np.ndarray,
    squares: np.ndarray,
    diameters: np.ndarray,
) -> None:
    for axis in range(3):
        centres[n, axis] = int(sphere[axis])
    squares[n] = int(sphere[4])
    diameters[n] = min(np.int64(np.rint(2 * sphere[3] * STEPS)), MOST)


@compiled
def paint(
    phase: np.ndarray,
    order: np.ndarray,
    centres: np.ndarray,
    squares: np.ndarray,
    diameters: np.ndarray,
    core: np.ndarray,
    following: np.ndarray,
    result: np.ndarray,
) -> None:
    """Give each voxel of the core the diameter of the largest sphere that contains it.

    Spheres come in descending order, and painted voxels are skipped.

    Parameters
    ----------
    following : ndarray of the shape of the core with one more along X, int32
        Memory for the next unpainted voxel of each row.
    result : ndarray of the shape of the core, uint16
        Filled; 0 outside the phase.
    """
    n_z, n_y, n_x = result.shape
    z0, y0, x0 = core[0, 0], core[1, 0], core[2, 0]
    for z in range(n_z):
        for y in range(n_y):
            line = following[z, y]
            line[n_x] = n_x
            for x in range(n_x - 1, -1, -1):
                is_free = phase[z0 + z, y0 + y, x0 + x] != 0
                line[x] = x if is_free else line[x + 1]
                result[z, y, x] = 0
    for i in order:
        value = diameters[i]
        cz, cy, cx = (
            centres[i, 0] - 4 * z0,
            centres[i, 1] - 4 * y0,
            centres[i, 2] - 4 * x0,
        )
        squared = squares[i] * (1 + TOLERANCE) ** 2
        reach = int(np.sqrt(squared)) // 4 + 2
        for z in range(max(0, cz // 4 - reach), min(n_z, cz // 4 + reach + 1)):
            rest_z = squared - (4 * z - cz) * (4 * z - cz)
            if rest_z <= 0:
                continue
            for y in range(max(0, cy // 4 - reach), min(n_y, cy // 4 + reach + 1)):
                rest = rest_z - (4 * y - cy) * (4 * y - cy)
                if rest <= 0:
                    continue
                # Voxels with (4 x - cx)² < rest.
                half = int(np.ceil(np.sqrt(rest))) - 1
                first = max(0, -((half - cx) // 4))
                last = min(n_x - 1, (cx + half) // 4)
                if first > last:
                    continue
                line = following[z, y]
                x = _next(line, first)
                while x <= last:
                    result[z, y, x] = value
                    line[x] = x + 1
                    x = _next(line, x + 1)


@compiled
def _next(line: np.ndarray, x: int) -> int:
    """First unpainted voxel of a row from `x` on; halves the way for later calls."""
    while line[x] != x:
        line[x] = line[line[x]]
        x = line[x]
    return x


@compiled
def mark_axes(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray, marked: np.ndarray
) -> None:
    """Mark voxels of the medial axis of a phase.

    Of two neighbours, the one nearer to the middle is marked if their nearest voxels
    outside are seen from them at more than 130° (Hesselink & Roerdink, IEEE
    TPAMI 30, 2204 (2008), doi:10.1109/TPAMI.2008.21: integer medial axis, pruned).

    Parameters
    ----------
    marked : ndarray of the shape of the phase, uint8
        Filled with 0 and 1.
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
                        middle += (u[i] - v[i]) * (first + second - u[i] - v[i])
                    # More than 130°: 3.3 times the squared distance.
                    if apart <= 1.65 * (distances[z, y, x] + distances[a, b, c]):
                        continue
                    if middle >= 0:
                        marked[z, y, x] = 1
                    else:
                        marked[a, b, c] = 1
