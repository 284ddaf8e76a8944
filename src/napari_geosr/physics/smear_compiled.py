"""Back-projection with linear interpolation on the detector, as compiled loops.

Projections come with a margin of zeros (`LEFT`, `RIGHT`) on the column axis, and for a
cone on the row axis. A voxel at (x, y) from the axis is seen under an angle at column
``centre + (x cos + y sin) / u`` with u = 1 + k (y cos - x sin), and counts 1 / u²; k is
voxel size over source distance, 0 for parallel rays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_geosr.physics.compiled import compiled

LEFT = 2
RIGHT = 3


@compiled
def smear_one(
    start: int,
    stop: int,
    cosines: Any,
    sines: Any,
    centre: Any,
    k: Any,
    projections: Any,
    out: Any,
) -> None:
    """Projections (angle, column + margin) into rows `start` to `stop` of (N, N)."""
    n = out.shape[0]
    middle = np.float32((n - 1) / 2)
    one, low = np.float32(1), np.float32(0)
    high = np.float32(projections.shape[1] - 3)
    for j in range(start, stop):
        y = np.float32(j) - middle
        line = out[j]
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            row = projections[angle]
            if k == 0:
                first = y * s - middle * c + centre + np.float32(LEFT)
                for i in range(n):
                    place = min(max(first + c * np.float32(i), low), high)
                    m = np.int32(place)
                    f = place - np.float32(m)
                    line[i] += row[m] + f * (row[m + 1] - row[m])
            else:
                for i in range(n):
                    x = np.float32(i) - middle
                    over = one / (one + k * (y * c - x * s))
                    place = centre + np.float32(LEFT) + (x * c + y * s) * over
                    place = min(max(place, low), high)
                    m = np.int32(place)
                    f = place - np.float32(m)
                    line[i] += over * over * (row[m] + f * (row[m + 1] - row[m]))


@compiled
def smear_many(
    start: int,
    stop: int,
    cosines: Any,
    sines: Any,
    centre: Any,
    k: Any,
    projections: Any,
    out: Any,
) -> None:
    """Projections (angle, column + margin, B) into rows of slices (N, N, B)."""
    n, batch = out.shape[0], out.shape[2]
    middle = np.float32((n - 1) / 2)
    one, low = np.float32(1), np.float32(0)
    high = np.float32(projections.shape[1] - 3)
    for j in range(start, stop):
        y = np.float32(j) - middle
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            row = projections[angle]
            for i in range(n):
                x = np.float32(i) - middle
                over = one / (one + k * (y * c - x * s))
                place = centre + np.float32(LEFT) + (x * c + y * s) * over
                place = min(max(place, low), high)
                m = np.int32(place)
                far = (place - np.float32(m)) * over * over
                near = over * over - far
                left, right, sums = row[m], row[m + 1], out[j, i]
                for b in range(batch):
                    sums[b] += near * left[b] + far * right[b]


@compiled
def smear_cone(
    start: int,
    stop: int,
    cosines: Any,
    sines: Any,
    centre: Any,
    k: Any,
    row_centre: Any,
    rows_per_voxel: Any,
    projections: Any,
    out: Any,
) -> None:
    """Projections (angle, column + margin, row + margin) into (N, N, Z)."""
    n, n_slices = out.shape[0], out.shape[2]
    middle, middle_z = np.float32((n - 1) / 2), np.float32((n_slices - 1) / 2)
    one, low = np.float32(1), np.float32(0)
    high = np.float32(projections.shape[1] - 3)
    top = np.float32(projections.shape[2] - 3)
    mixed = np.zeros(projections.shape[2], np.float32)
    for j in range(start, stop):
        y = np.float32(j) - middle
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            for i in range(n):
                x = np.float32(i) - middle
                over = one / (one + k * (y * c - x * s))
                place = centre + np.float32(LEFT) + (x * c + y * s) * over
                place = min(max(place, low), high)
                m = np.int32(place)
                far = (place - np.float32(m)) * over * over
                near = over * over - far
                left, right = projections[angle, m], projections[angle, m + 1]
                for v in range(mixed.size):
                    mixed[v] = near * left[v] + far * right[v]
                rise = rows_per_voxel * over
                first = row_centre + np.float32(LEFT) - middle_z * rise
                sums = out[j, i]
                for z in range(n_slices):
                    at = min(max(first + rise * np.float32(z), low), top)
                    r = np.int32(at)
                    f = at - np.float32(r)
                    sums[z] += mixed[r] + f * (mixed[r + 1] - mixed[r])
