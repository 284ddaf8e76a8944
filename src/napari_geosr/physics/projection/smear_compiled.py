"""Back-projection with linear interpolation on the detector, as compiled loops.

Projections have zero padding (`LEFT`, `RIGHT`) on the column axis, and for a cone beam
also on the row axis. A voxel at (x, y) from the axis is projected onto column
``centre + (x cos + y sin) / u`` with u = 1 + k (y cos - x sin), and has the weight
1 / u²; k is the voxel size divided by the source distance, 0 for parallel rays.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.compiled import compiled

LEFT = 2
RIGHT = 3


@compiled
def _sample(place: np.float32, high: np.float32) -> tuple[np.int32, np.float32]:
    """Return the index of the sample before `place`, and the next sample's weight.

    Indices include the zero padding. Positions outside the detector are clamped to the
    padding, which ends at `high`.
    """
    place = min(max(place + np.float32(LEFT), np.float32(0)), high)
    m = np.int32(place)
    return m, place - np.float32(m)


@compiled
def _shadow(
    x: np.float32,
    y: np.float32,
    c: np.float32,
    s: np.float32,
    centre: np.float32,
    k: np.float32,
    high: np.float32,
) -> tuple[np.float32, np.int32, np.float32]:
    """Return 1 / u of a voxel, and its detector column and weight (see `_sample`)."""
    over = np.float32(1) / (np.float32(1) + k * (y * c - x * s))
    m, f = _sample(centre + (x * c + y * s) * over, high)
    return over, m, f


@compiled
def smear_one(
    start: int,
    stop: int,
    cosines: AnyArray,
    sines: AnyArray,
    centre: np.float32,
    k: np.float32,
    projections: AnyArray,
    out: AnyArray,
) -> None:
    """Back-project (angle, column + padding) into rows `start` to `stop` of (N, N)."""
    n = out.shape[0]
    middle = np.float32((n - 1) / 2)
    high = np.float32(projections.shape[1] - RIGHT)
    for j in range(start, stop):
        y = np.float32(j) - middle
        line = out[j]
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            row = projections[angle]
            if k == 0:
                first = y * s - middle * c + centre
                for i in range(n):
                    m, f = _sample(first + c * np.float32(i), high)
                    line[i] += row[m] + f * (row[m + 1] - row[m])
            else:
                for i in range(n):
                    x = np.float32(i) - middle
                    over, m, f = _shadow(x, y, c, s, centre, k, high)
                    line[i] += over * over * (row[m] + f * (row[m + 1] - row[m]))


@compiled
def smear_many(
    start: int,
    stop: int,
    cosines: AnyArray,
    sines: AnyArray,
    centre: np.float32,
    k: np.float32,
    projections: AnyArray,
    out: AnyArray,
) -> None:
    """Back-project (angle, column + padding, B) into rows of slices (N, N, B)."""
    n, batch = out.shape[0], out.shape[2]
    middle = np.float32((n - 1) / 2)
    high = np.float32(projections.shape[1] - RIGHT)
    for j in range(start, stop):
        y = np.float32(j) - middle
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            row = projections[angle]
            for i in range(n):
                x = np.float32(i) - middle
                over, m, f = _shadow(x, y, c, s, centre, k, high)
                far = f * over * over
                near = over * over - far
                left, right, sums = row[m], row[m + 1], out[j, i]
                for b in range(batch):
                    sums[b] += near * left[b] + far * right[b]


@compiled
def _row(
    place: np.float32, first_row: np.int32, top: np.float32
) -> tuple[np.int32, np.float32]:
    """Return the same as `_sample`, for detector rows that start at `first_row`.

    The weights are rounded in the same way as for the whole detector.
    """
    low, high = np.float32(first_row), np.float32(first_row) + top
    place = min(max(place + np.float32(LEFT), low), high)
    m = np.int32(place)
    return m - first_row, place - np.float32(m)


@compiled
def smear_cone(
    start: int,
    stop: int,
    cosines: AnyArray,
    sines: AnyArray,
    centre: np.float32,
    k: np.float32,
    row_centre: np.float32,
    slice_centre: np.float32,
    rows_per_voxel: np.float32,
    first_row: np.int32,
    first_slice: np.int32,
    projections: AnyArray,
    out: AnyArray,
) -> None:
    """Back-project (angle, column + padding, row + padding) into (N, N, Z).

    The centres refer to the whole detector and volume; the given rows and slices start
    at `first_row` and `first_slice`.
    """
    n, n_slices = out.shape[0], out.shape[2]
    middle = np.float32((n - 1) / 2)
    high = np.float32(projections.shape[1] - RIGHT)
    top = np.float32(projections.shape[2] - RIGHT)
    mixed = np.zeros(projections.shape[2], np.float32)
    for j in range(start, stop):
        y = np.float32(j) - middle
        for angle in range(projections.shape[0]):
            c, s = cosines[angle], sines[angle]
            for i in range(n):
                x = np.float32(i) - middle
                over, m, f = _shadow(x, y, c, s, centre, k, high)
                far = f * over * over
                near = over * over - far
                left, right = projections[angle, m], projections[angle, m + 1]
                rise = rows_per_voxel * over
                first = row_centre - slice_centre * rise
                last = first_slice + n_slices - 1
                low, _ = _row(first + rise * np.float32(first_slice), first_row, top)
                up, _ = _row(first + rise * np.float32(last), first_row, top)
                for v in range(low, up + 2):  # the rows that these slices need
                    mixed[v] = near * left[v] + far * right[v]
                sums = out[j, i]
                for z in range(n_slices):
                    at = first + rise * np.float32(z + first_slice)
                    r, g = _row(at, first_row, top)
                    sums[z] += mixed[r] + g * (mixed[r + 1] - mixed[r])
