"""Cone-beam projection and its adjoint, as compiled loops.

As in `napari_geosr.physics.joseph_compiled`, with lines along Z in place of pixels: the
rays of one detector column share their way through every slice, and only where they
cross Z differs: at ``middle + height · depth``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_geosr.physics.compiled import compiled

LEFT = 2
RIGHT = 3


@compiled
def project_cone(
    start: int,
    stop: int,
    lines: Any,
    along_y: Any,
    heights: Any,
    volume: Any,
    out: Any,
) -> None:
    """Volume (2, N, N, Z + margin) to line sums (angle, column, row).

    `lines` (angle, column, 4) are offset, slope, depth offset and depth slope.
    """
    n, depth_of = volume.shape[1], volume.shape[3] - LEFT - RIGHT
    low, high = np.float32(0), np.float32(depth_of + 2)
    middle = np.float32((depth_of - 1) / 2 + 2)
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
            x = a + b * at
            if x <= np.float32(-1) or x >= np.float32(n):
                continue
            i = np.int64(np.floor(x))
            f = x - np.float32(i)
            near, far = np.float32(1) - f, f
            if i < 0:
                i, near, far = np.int64(0), far, np.float32(0)
            if i == n - 1:
                i, near, far = np.int64(n - 2), np.float32(0), near
            left, right = image[along, i], image[along, i + 1]
            for j in range(mixed.size):
                mixed[j] = near * left[j] + far * right[j]
            depth = c + d * at
            for row in range(n_rows):
                z = min(max(middle + heights[row] * depth, low), high)
                m = np.int32(z)
                g = z - np.float32(m)
                sums[row] += mixed[m] + g * (mixed[m + 1] - mixed[m])


@compiled
def spread_cone(
    start: int,
    stop: int,
    lines: Any,
    along_y: Any,
    heights: Any,
    sinogram: Any,
    out: Any,
) -> None:
    """Adjoint of `project_cone` for rows and columns `start` to `stop` of `out`."""
    n, depth_of = out.shape[1], out.shape[3] - LEFT - RIGHT
    low, high = np.float32(0), np.float32(depth_of + 2)
    middle = np.float32((depth_of - 1) / 2 + 2)
    n_angles, n_columns, n_rows = sinogram.shape
    mixed = np.zeros(out.shape[3], np.float32)
    for along in range(start, stop):
        at = np.float32(along)
        for angle in range(n_angles):
            for column in range(n_columns):
                x = lines[angle, column, 0] + lines[angle, column, 1] * at
                if x <= np.float32(-1) or x >= np.float32(n):
                    continue
                i = np.int64(np.floor(x))
                f = x - np.float32(i)
                near, far = np.float32(1) - f, f
                if i < 0:
                    i, near, far = np.int64(0), far, np.float32(0)
                if i == n - 1:
                    i, near, far = np.int64(n - 2), np.float32(0), near
                depth = lines[angle, column, 2] + lines[angle, column, 3] * at
                mixed[:] = 0
                values = sinogram[angle, column]
                for row in range(n_rows):
                    z = min(max(middle + heights[row] * depth, low), high)
                    m = np.int32(z)
                    share = (z - np.float32(m)) * values[row]
                    mixed[m] += values[row] - share
                    mixed[m + 1] += share
                image = out[np.int64(along_y[angle, column]), along]
                left, right = image[i], image[i + 1]
                for j in range(mixed.size):
                    left[j] += near * mixed[j]
                    right[j] += far * mixed[j]
