"""Finds the largest spheres within a phase (centres and radii), and paints them.

The method is that of Hildebrand & Rüegsegger, J. Microsc. 185, 67 (1997),
doi:10.1046/j.1365-2818.1997.1340694.x, but omits spheres within another sphere; compare
Dahl & Dahl, CVPR Workshops (2023), doi:10.1109/CVPRW59228.2023.00454.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled
from napari_geosr.measure.kernels.surface import STEPS as DEPTHS
from napari_geosr.measure.kernels.walls import fit_sphere

#: Number of steps per voxel in which diameters of spheres are stored.
STEPS = 32
#: Largest diameter that can be painted, in 16 bits; the next value is that of a phase
#: without a surface.
MOST = 65534
#: Number of steps per voxel in which positions of sphere centres are stored.
PLACES = 16
#: Increase in the radius of painted spheres, in voxels, because the position of the
#: surface is only estimated.
MARGIN = 0.1
#: Distances, in voxels, at which the centre of a covering sphere is searched for, the
#: most successful distance first.
HOPS = (1.5, 2.0, 3.0, 4.0, 6.0, 1.0)
#: Maximum distance, in voxels, from a voxel at which the distance map is read.
REACH = 7
#: Maximum distance, in voxels, by which a covered sphere may extend beyond the sphere
#: that covers it.
OUT = 0.2
#: Gradient of the distance map (voxels per voxel) below which the sphere around a voxel
#: is not covered by another one.
FLAT = 0.7
#: Minimum radius, in voxels, at which one sphere per cell of 4³ voxels is sufficient.
WIDE = 16.0
#: Number of passes in which voxels outside all spheres are given the largest diameter
#: of their neighbours.
FILLED = 4
#: Relative tolerance of radii: spheres are painted larger by this fraction (at least by
#: `MARGIN`), and spheres that add less than this are skipped.
TOLERANCE = 0.02
#: A 64-bit word with all bits set.
ALL = np.uint64(2**64 - 1)
#: A 64-bit word with only the lowest bit set.
ONE = np.uint64(1)
#: A De Bruijn sequence: its highest 6 bits differ after every shift by 0 to 63 bits.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
#: Number of bits by which the sequence was shifted, for each value of these 6 bits.
_LOWEST = np.empty(64, np.uint8)
_LOWEST[[(int(_DE_BRUIJN) << i) % 2**64 >> 58 for i in range(64)]] = np.arange(64)


@compiled
def _is_covered(distances: np.ndarray, z: int, y: int, x: int) -> bool:
    """Whether the sphere around a voxel is almost contained in a larger sphere.

    The larger sphere is searched for along the gradient of the distance map.
    """
    n_z, n_y, n_x = distances.shape
    here = distances[z, y, x]
    z0, z1 = distances[max(z - 1, 0), y, x], distances[min(z + 1, n_z - 1), y, x]
    y0, y1 = distances[z, max(y - 1, 0), x], distances[z, min(y + 1, n_y - 1), x]
    x0, x1 = distances[z, y, max(x - 1, 0)], distances[z, y, min(x + 1, n_x - 1)]
    if max(z0, z1, y0, y1, x0, x1) - here >= DEPTHS * (1 - TOLERANCE - OUT):
        return True
    dz, dy, dx = _slope(z0, z1), _slope(y0, y1), _slope(x0, x1)
    squared = dz * dz + dy * dy + dx * dx
    if squared < FLAT * FLAT:
        return False
    length = np.sqrt(squared)
    dz, dy, dx = dz / length, dy / length, dx / length
    for hop in HOPS:
        sz, sy, sx = np.rint(hop * dz), np.rint(hop * dy), np.rint(hop * dx)
        a, b, c = z + int(sz), y + int(sy), x + int(sx)
        if not (0 <= a < n_z and 0 <= b < n_y and 0 <= c < n_x):
            continue
        there = distances[a, b, c]
        if there <= here:
            continue
        length = np.sqrt(sz * sz + sy * sy + sx * sx)
        if there - here >= DEPTHS * (length * (1 - TOLERANCE) - OUT):
            return True
    return False


@compiled
def _slope(before: int, after: int) -> float:
    return (after - before) / (2.0 * DEPTHS)


@compiled
def largest_unknown(
    distances: np.ndarray, core: np.ndarray, inner: np.ndarray
) -> float:
    """Return the largest radius of a sphere that depends on voxels beyond the block.

    Spheres around voxels of the core, and of the `REACH` voxels around it, are checked.
    `inner` has one value for each face of the block, in pairs along Z, Y, X: 1 if the
    volume continues beyond the face, 0 at the border of the volume.
    """
    n_z, n_y, n_x = distances.shape
    largest = 0.0
    for z in range(max(core[0, 0] - REACH, 0), min(core[0, 1] + REACH, n_z)):
        margin_z = 2**20
        if inner[0, 0]:
            margin_z = min(margin_z, z)
        if inner[0, 1]:
            margin_z = min(margin_z, n_z - 1 - z)
        for y in range(max(core[1, 0] - REACH, 0), min(core[1, 1] + REACH, n_y)):
            margin_y = margin_z
            if inner[1, 0]:
                margin_y = min(margin_y, y)
            if inner[1, 1]:
                margin_y = min(margin_y, n_y - 1 - y)
            for x in range(max(core[2, 0] - REACH, 0), min(core[2, 1] + REACH, n_x)):
                squared = distances[z, y, x]
                margin = margin_y
                if inner[2, 0]:
                    margin = min(margin, x)
                if inner[2, 1]:
                    margin = min(margin, n_x - 1 - x)
                # The surface is located from the 7³ voxels around the nearest outside
                # voxel.
                margin = max(margin - 4, 0)
                if squared > margin * margin:
                    largest = max(largest, np.sqrt(np.float64(squared)))
    return largest


@compiled
def collect(
    distances: np.ndarray,
    nearest: np.ndarray,
    core: np.ndarray,
    start: np.ndarray,
    average: bool,
    centres: np.ndarray,
    diameters: np.ndarray,
) -> int:
    """Collect the spheres of the core that do not lie within others.

    Only the largest sphere in each cell of 2³ voxels is kept, or in each cell of 4³
    voxels if its radius is at least `WIDE`: the other spheres would extend the region
    by less than `MARGIN`. A sphere is moved by up to one voxel to where it is largest,
    because the middle of a plate with an even number of voxels lies between two voxels.

    Parameters
    ----------
    distances, nearest : ndarray
        Output of `surface.to_surface` and `distances.squared_distances`.
    start : ndarray of 3 int
        Position of the block's first voxel in the volume, to which cells are aligned.
    average : bool
        Whether the radius is the mean of the distances to the walls that a sphere
        touches (up to `TOUCHING` farther than the nearest), instead of the smallest.
    centres : ndarray of shape (n, 3), int32
        Positions in the volume, with `PLACES` steps per voxel.
    diameters : ndarray of shape (n,), int32
        Diameters up to the surface, with `STEPS` steps per voxel.

    Returns
    -------
    int
        Number of spheres found; at most `n` are filled in.
    """
    walls = np.empty((7, 27), np.float64)
    places = np.empty(27, np.int64)
    sphere = np.empty(4, np.float64)
    found = np.empty((8, 3), np.int64)
    n = 0
    first = (core[:, 0] + start) // 4 * 4 - start
    for z in range(first[0], core[0, 1], 4):
        for y in range(first[1], core[1, 1], 4):
            for x in range(first[2], core[2, 1], 4):
                count = _of_cell(distances, core, z, y, x, found)
                for i in range(count):
                    if n < len(centres):
                        a, b, c = found[i, 0], found[i, 1], found[i, 2]
                        fit_sphere(
                            *(distances, nearest, a, b, c, average),
                            *(walls, places, sphere),
                        )
                        centres[n, 0] = np.rint(PLACES * (start[0] + a + sphere[0]))
                        centres[n, 1] = np.rint(PLACES * (start[1] + b + sphere[1]))
                        centres[n, 2] = np.rint(PLACES * (start[2] + c + sphere[2]))
                        diameters[n] = np.rint(2 * sphere[3] * STEPS)
                    n += 1
    return n


@compiled
def _of_cell(
    distances: np.ndarray, core: np.ndarray, z: int, y: int, x: int, found: np.ndarray
) -> int:
    """Fill in the centres of the spheres that are kept in a cell of 4³ voxels."""
    count = 0
    widest, wide = -1, np.int64(0)
    for part in range(8):
        z0, y0, x0 = z + 2 * (part >> 2), y + 2 * (part >> 1 & 1), x + 2 * (part & 1)
        best = np.int64(0)
        for a in range(max(z0, core[0, 0]), min(z0 + 2, core[0, 1])):
            for b in range(max(y0, core[1, 0]), min(y0 + 2, core[1, 1])):
                for c in range(max(x0, core[2, 0]), min(x0 + 2, core[2, 1])):
                    here = distances[a, b, c]
                    if here <= best or _is_covered(distances, a, b, c):
                        continue
                    best = here
                    found[count, 0], found[count, 1], found[count, 2] = a, b, c
        if best == 0:
            continue
        if best >= WIDE * DEPTHS:
            if widest >= 0:  # one wide sphere per cell
                if best > wide:
                    found[widest] = found[count]
                    wide = best
                continue
            widest, wide = count, best
        count += 1
    return count


@compiled
def paint(
    phase: np.ndarray,
    order: np.ndarray,
    centres: np.ndarray,
    diameters: np.ndarray,
    start: np.ndarray,
    extra: float,
    halvings: int,
    unpainted: np.ndarray,
    result: np.ndarray,
) -> None:
    """Give each voxel of a phase the diameter of the largest sphere that contains it.

    Spheres are painted in descending order, skipping painted voxels.

    Parameters
    ----------
    phase : ndarray of shape (Z, Y, X), bool
    start : ndarray of 3 int
        Position of the phase's first voxel in the volume.
    extra : float
        Added to the radius of each sphere, in voxels.
    halvings : int
        How many times the number of steps per voxel is halved in `result`.
    unpainted : ndarray of shape (Z, Y, (X + 63) // 64), uint64
        Filled with the voxels that no sphere contains, one bit each.
    result : ndarray of the same shape as `phase`, uint16
        Filled; 0 outside the phase and all spheres.
    """
    n_z, n_y, n_x = result.shape
    result[:] = 0
    for z in range(n_z):
        for y in range(n_y):
            line = phase[z, y]
            for word in range(unpainted.shape[2]):
                bits = np.uint64(0)
                for x in range(64 * word, min(64 * word + 64, n_x)):
                    bits |= np.uint64(line[x]) << np.uint64(x & 63)
                unpainted[z, y, word] = bits
    for i in order:
        value = int(diameters[i])
        painted = _coarser(value, halvings)
        cz = centres[i, 0] / PLACES - start[0]
        cy = centres[i, 1] / PLACES - start[1]
        cx = centres[i, 2] / PLACES - start[2]
        radius = painted_radius(value) + extra
        squared = radius * radius
        last_z = min(n_z - 1, int(np.floor(cz + radius)))
        for z in range(max(0, int(np.ceil(cz - radius))), last_z + 1):
            rest_z = max(squared - (z - cz) * (z - cz), 0.0)
            half = np.sqrt(rest_z)
            last_y = min(n_y - 1, int(np.floor(cy + half)))
            for y in range(max(0, int(np.ceil(cy - half))), last_y + 1):
                half = np.sqrt(max(rest_z - (y - cy) * (y - cy), 0.0))
                first = max(0, int(np.ceil(cx - half)))
                last = min(n_x - 1, int(np.floor(cx + half)))
                if first > last:
                    continue
                for word in range(first >> 6, (last >> 6) + 1):
                    bits = unpainted[z, y, word]
                    if bits == 0:
                        continue
                    x = word << 6
                    if first > x:
                        bits &= ALL << np.uint64(first - x)
                    if last < x + 63:
                        bits &= ALL >> np.uint64(x + 63 - last)
                    if bits == 0:
                        continue
                    unpainted[z, y, word] ^= bits
                    while bits != 0:
                        result[z, y, x + _lowest(bits)] = painted
                        bits &= bits - ONE


@compiled
def _coarser(diameter: int, halvings: int) -> int:
    """Convert a diameter to steps 2^`halvings` times as large; at least one step."""
    return max((diameter + (1 << halvings >> 1)) >> halvings, 1)


@compiled
def _lowest(bits: np.uint64) -> int:
    """Find the position of the lowest bit that is set, with a De Bruijn sequence."""
    return int(_LOWEST[((bits & (~bits + ONE)) * _DE_BRUIJN) >> np.uint64(58)])


@compiled
def painted_radius(diameter: int) -> float:
    """Return the radius within which voxels belong to a sphere of this diameter."""
    radius = 0.5 * diameter / STEPS
    return radius + max(MARGIN, TOLERANCE * radius)


@compiled
def fill(unpainted: np.ndarray, halvings: int, result: np.ndarray) -> None:
    """Give voxels missed by `paint` the largest diameter of their 26 neighbours.

    This takes up to `FILLED` passes; voxels that remain get a diameter of one voxel.
    """
    n_z, n_y, n_x = result.shape
    places = []
    for z in range(n_z):
        for y in range(n_y):
            for word in range(unpainted.shape[2]):
                bits = unpainted[z, y, word]
                while bits != 0:
                    places.append((z, y, 64 * word + _lowest(bits)))
                    bits &= bits - ONE
    values = np.zeros(len(places), np.uint16)
    for _ in range(FILLED):
        for i, (z, y, x) in enumerate(places):
            if result[z, y, x]:
                continue
            for a in range(max(z - 1, 0), min(z + 2, n_z)):
                for b in range(max(y - 1, 0), min(y + 2, n_y)):
                    for c in range(max(x - 1, 0), min(x + 2, n_x)):
                        values[i] = max(values[i], result[a, b, c])
        for i, (z, y, x) in enumerate(places):
            result[z, y, x] = max(result[z, y, x], values[i])
    for z, y, x in places:
        if not result[z, y, x]:
            result[z, y, x] = _coarser(STEPS, halvings)


@compiled
def count(diameters: np.ndarray, counts: np.ndarray) -> None:
    """Add the number of voxels of each diameter to `counts`."""
    n_z, n_y, n_x = diameters.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if diameters[z, y, x]:
                    counts[diameters[z, y, x]] += 1
