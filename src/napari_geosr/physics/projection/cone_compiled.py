"""Cone-beam projection and its adjoint, as compiled loops.

The loops resemble those of `joseph_compiled`, but with lines along Z in place of
pixels: the rays of one detector column follow the same path in the (Y, X) plane and
differ only in Z. A ray crosses a line at ``middle + height · depth``, where `middle` is
the slice at the height of the source.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.compiled import compiled

LEFT = 2
RIGHT = 3


@compiled
def _columns(x: np.float32, n: int) -> tuple[np.int64, np.float32, np.float32]:
    """Return the column left of `x`, and the weights of this and the next column.

    Both weights are zero if `x` is outside the slice.
    """
    zero, one = np.float32(0), np.float32(1)
    if x <= -one or x >= np.float32(n):
        return np.int64(0), zero, zero
    i = np.int64(np.floor(x))
    f = x - np.float32(i)
    if i < 0:
        return np.int64(0), f, zero
    if i == n - 1:
        return np.int64(n - 2), zero, one - f
    return i, one - f, f


@compiled
def _height(
    middle: np.float32, height: np.float32, depth: np.float32, high: np.float32
) -> tuple[np.int32, np.float32]:
    """Return the slice below a ray's crossing, and the weight of the slice above it.

    Rays that pass above or below the volume are treated as crossing the zero padding
    at the end of the line.
    """
    z = min(max(middle + height * depth, np.float32(0)), high)
    m = np.int32(z)
    return m, z - np.float32(m)


@compiled
def project_cone(
    start: int,
    stop: int,
    lines: AnyArray,
    along_y: AnyArray,
    heights: AnyArray,
    middle: np.float32,
    volume: AnyArray,
    out: AnyArray,
) -> None:
    """Project a volume (2, N, N, Z + padding) to line sums (angle, column, row).

    `lines` (angle, column, 4) contains offset, slope, depth offset and depth slope.
    """
    n, high = volume.shape[1], np.float32(volume.shape[3] - RIGHT)
    middle += np.float32(LEFT)
    n_columns, n_rows = out.shape[1], out.shape[2]
    mixed = np.zeros(volume.shape[3], np.float32)
    for ray in range(start, stop):
        angle, column = ray // n_columns, ray % n_columns
        a, b = lines[angle, column, 0], lines[angle, column, 1]
        c, d = lines[angle, column, 2], lines[angle, column, 3]
        image = volume[np.int64(along_y[angle, column])]
        sums = out[angle, column]
        for along in range(n):
            at = np.float32(along)
            i, near, far = _columns(a + b * at, n)
            if near + far == 0:
                continue
            left, right = image[along, i], image[along, i + 1]
            for j in range(mixed.size):
                mixed[j] = near * left[j] + far * right[j]
            depth = c + d * at
            for row in range(n_rows):
                m, g = _height(middle, heights[row], depth, high)
                sums[row] += mixed[m] + g * (mixed[m + 1] - mixed[m])


@compiled
def spread_cone(
    start: int,
    stop: int,
    lines: AnyArray,
    along_y: AnyArray,
    heights: AnyArray,
    middle: np.float32,
    sinogram: AnyArray,
    out: AnyArray,
) -> None:
    """Apply the adjoint of `project_cone`, for rows and columns of `out`."""
    n, high = out.shape[1], np.float32(out.shape[3] - RIGHT)
    middle += np.float32(LEFT)
    n_angles, n_columns, n_rows = sinogram.shape
    mixed = np.zeros(out.shape[3], np.float32)
    for along in range(start, stop):
        at = np.float32(along)
        for angle in range(n_angles):
            for column in range(n_columns):
                line = lines[angle, column]
                i, near, far = _columns(line[0] + line[1] * at, n)
                if near + far == 0:
                    continue
                depth = line[2] + line[3] * at
                mixed[:] = 0
                values = sinogram[angle, column]
                for row in range(n_rows):
                    m, g = _height(middle, heights[row], depth, high)
                    share = g * values[row]
                    mixed[m] += values[row] - share
                    mixed[m + 1] += share
                image = out[np.int64(along_y[angle, column]), along]
                left, right = image[i], image[i + 1]
                for j in range(mixed.size):
                    left[j] += near * mixed[j]
                    right[j] += far * mixed[j]
