"""The largest sphere near a voxel, between the walls that are nearest to it."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled
from napari_geosr.measure.kernels.surface import STEPS as DEPTHS

#: A sphere touches a wall if the wall is at most this much farther away than the
#: nearest one, in voxels.
TOUCHING = 0.18
#: Value added to the radius, in voxels, if walls touch a sphere on all sides: plates
#: and rods contain many spheres, of which only the largest are used, whereas a
#: spherical pore contains only one.
ENCLOSED = 0.13
#: Radius, in voxels, below which walls are represented by points instead of planes,
#: because the directions to such close voxels are too imprecise for planes.
SMALL = 3.3


@compiled
def fit_sphere(
    distances: np.ndarray,
    nearest: np.ndarray,
    z: int,
    y: int,
    x: int,
    average: bool,
    walls: np.ndarray,
    places: np.ndarray,
    sphere: np.ndarray,
) -> None:
    """Store the relative centre and the radius of the largest sphere near a voxel.

    Parameters
    ----------
    distances, nearest : ndarray
        Output of `surface.to_surface` and `distances.squared_distances`.
    z, y, x : int
        The voxel.
    average : bool
        Whether the radius is the mean of the distances to the walls that a sphere
        touches, instead of the smallest.
    walls : ndarray of shape (7, 27)
        Memory for the walls.
    places : ndarray of shape (27,), int
        Memory for the flat indices of wall voxels.
    sphere : ndarray of shape (4,)
        Filled with the centre and the radius.
    """
    is_small = distances[z, y, x] < SMALL * DEPTHS
    if is_small:
        count = _points(distances, nearest, z, y, x, walls, places)
    else:
        count = _planes(distances, nearest, z, y, x, walls)
    _move(walls, count, is_small, sphere)
    if average and not is_small:
        _average(walls, count, sphere)
    sphere[3] = max(sphere[3], 0.5)


@compiled
def _average(walls: np.ndarray, count: int, sphere: np.ndarray) -> None:
    """Set the radius of a sphere to the mean distance of the walls that it touches.

    The radius is increased if these walls enclose the sphere.
    """
    total, n = 0.0, 0
    zz, yy, xx, zy, zx, yx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(count):
        far = walls[5, i]
        if far <= sphere[3] + TOUCHING:
            total += far
            n += 1
            dz, dy, dx = walls[0, i], walls[1, i], walls[2, i]
            zz += dz * dz
            yy += dy * dy
            xx += dx * dx
            zy += dz * dy
            zx += dz * dx
            yx += dy * dx
    determinant = zz * (yy * xx - yx * yx) - zy * (zy * xx - yx * zx)
    determinant += zx * (zy * yx - yy * zx)
    sphere[3] = total / n + ENCLOSED * 27 * determinant / (n * n * n)


@compiled
def _points(
    distances: np.ndarray,
    nearest: np.ndarray,
    z: int,
    y: int,
    x: int,
    walls: np.ndarray,
    places: np.ndarray,
) -> int:
    """Find the walls near a small sphere.

    These are the outside voxels nearest to a voxel or to one of its neighbours. `walls`
    receives, for each wall, the vector from the wall to the voxel, the signed
    distance of the wall voxel from the surface, and the number of examined voxels to
    which the wall is nearest.
    """
    n_z, n_y, n_x = distances.shape
    count = 0
    for a in range(max(z - 1, 0), min(z + 2, n_z)):
        for b in range(max(y - 1, 0), min(y + 2, n_y)):
            for c in range(max(x - 1, 0), min(x + 2, n_x)):
                index = nearest[a, b, c]  # outside the phase, the voxel itself
                if index < 0:
                    continue
                known = 0
                while known < count and places[known] != index:
                    known += 1
                if known < count:
                    walls[4, known] += 1.0
                    continue
                row = index // n_x
                plane = row // n_y
                row -= plane * n_y
                column = index - (plane * n_y + row) * n_x
                places[count] = index
                walls[0, count], walls[1, count] = z - plane, y - row
                walls[2, count] = x - column
                walls[3, count] = distances[plane, row, column] / DEPTHS
                walls[4, count] = 1.0
                count += 1
    return count


@compiled
def _planes(
    distances: np.ndarray,
    nearest: np.ndarray,
    z: int,
    y: int,
    x: int,
    walls: np.ndarray,
) -> int:
    """Find the walls near a sphere: the planes nearest to a voxel and its neighbours.

    `walls` receives, for each wall, the direction away from it, the distance of the
    voxel from it, and a count of 1.
    """
    n_z, n_y, n_x = distances.shape
    count, last = 0, -1
    plane, row, column = 0, 0, 0
    for a in range(max(z - 1, 0), min(z + 2, n_z)):
        for b in range(max(y - 1, 0), min(y + 2, n_y)):
            for c in range(max(x - 1, 0), min(x + 2, n_x)):
                index = nearest[a, b, c]
                if index < 0 or distances[a, b, c] <= 0:
                    continue
                if index != last:
                    row = index // n_x
                    plane = row // n_y
                    row -= plane * n_y
                    column = index - (plane * n_y + row) * n_x
                    last = index
                dz, dy, dx = float(a - plane), float(b - row), float(c - column)
                scale = 1.0 / np.sqrt(dz * dz + dy * dy + dx * dx)
                dz, dy, dx = dz * scale, dy * scale, dx * scale
                walls[0, count], walls[1, count], walls[2, count] = dz, dy, dx
                offset = dz * (z - a) + dy * (y - b) + dx * (x - c)
                walls[3, count] = distances[a, b, c] / DEPTHS + offset
                walls[4, count] = 1.0
                count += 1
    return count


@compiled
def _reach(
    walls: np.ndarray,
    count: int,
    is_point: bool,
    z: float,
    y: float,
    x: float,
    found: np.ndarray,
) -> float:
    """Fill in the distances of a position from all walls, and return the smallest."""
    if is_point:
        for i in range(count):
            a, b, c = walls[0, i] + z, walls[1, i] + y, walls[2, i] + x
            found[i] = np.sqrt(a * a + b * b + c * c) + walls[3, i]
    else:
        for i in range(count):
            found[i] = walls[3, i] + walls[0, i] * z + walls[1, i] * y + walls[2, i] * x
    radius = 1e9
    for i in range(count):
        radius = found[i] if found[i] < radius else radius
    return radius


@compiled
def _move(walls: np.ndarray, count: int, is_point: bool, sphere: np.ndarray) -> None:
    """Move a sphere away from the walls that it touches until it is largest.

    The steps are half, a quarter and an eighth of a voxel. The sphere moves by at most
    one voxel along each axis, because only the walls near adjacent voxels are known.
    The distances of the walls from the sphere's centre are stored in the sixth row of
    `walls`.
    """
    z, y, x = 0.0, 0.0, 0.0
    here, there = 5, 6  # rows with distances from the current and next position
    best = _reach(walls, count, is_point, z, y, x, walls[here])
    step = 0.5
    for _ in range(9):
        # The mean direction away from all walls that are about to be touched.
        pz, py, px = 0.0, 0.0, 0.0
        for i in range(count):
            if walls[here, i] <= best + step:
                weight = walls[4, i]
                if is_point:
                    weight /= walls[here, i] - walls[3, i] + 1e-9
                    pz += weight * (walls[0, i] + z)
                    py += weight * (walls[1, i] + y)
                    px += weight * (walls[2, i] + x)
                    continue
                pz += walls[0, i]
                py += walls[1, i]
                px += walls[2, i]
        length = np.sqrt(pz * pz + py * py + px * px)
        moved = False
        if length > 1e-6:
            tz = min(max(z + step * pz / length, -1.0), 1.0)
            ty = min(max(y + step * py / length, -1.0), 1.0)
            tx = min(max(x + step * px / length, -1.0), 1.0)
            radius = _reach(walls, count, is_point, tz, ty, tx, walls[there])
            if radius > best + 1e-9:
                z, y, x, best = tz, ty, tx, radius
                here, there = there, here
                moved = True
        if not moved:
            step /= 2
            if step < 0.1:
                break
    if here != 5:
        walls[5, :count] = walls[6, :count]
    sphere[0], sphere[1], sphere[2], sphere[3] = z, y, x, best
