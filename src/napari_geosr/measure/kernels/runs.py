"""Counts, boxes and moments of pores, one run of voxels along X at a time."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.columns import (
    COUNT,
    FIRST,
    MAX_X,
    MAX_Y,
    MAX_Z,
    MIN_X,
    MIN_Y,
    MIN_Z,
    SUM_X,
    SUM_XX,
    SUM_Y,
    SUM_YX,
    SUM_YY,
    SUM_Z,
    SUM_ZX,
    SUM_ZY,
    SUM_ZZ,
)
from napari_geosr.measure.kernels.compiled import compiled


@compiled
def sweep_runs(labels: np.ndarray, z0: int, table: np.ndarray) -> None:
    """Add counts, moments, boxes and first voxels, one run along X at a time.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
    z0 : int
        Index of ``labels[0]`` in the whole volume.
    table : ndarray of shape (n + 1, N_COLUMNS), int64
        Changed in place.
    """
    n_z, n_y, n_x = labels.shape
    for k in range(n_z):
        z = z0 + k
        for y in range(n_y):
            line = labels[k, y]
            x = 0
            while x < n_x:
                label = line[x]
                if label == 0:
                    x += 1
                    continue
                start = x
                x += 1
                while x < n_x and line[x] == label:
                    x += 1
                row = table[label]
                n = x - start
                last = x - 1
                sum_x = n * (start + last) // 2
                # The sum of the squares of 0 to m is m (m + 1) (2 m + 1) / 6.
                sum_xx = last * x * (2 * last + 1) // 6
                sum_xx -= (start - 1) * start * (2 * start - 1) // 6
                if row[COUNT] == 0:
                    row[FIRST] = (np.int64(z) * n_y + y) * n_x + start
                    row[MIN_Z], row[MIN_Y], row[MIN_X] = z, y, start
                row[COUNT] += n
                row[SUM_Z] += n * z
                row[SUM_Y] += n * y
                row[SUM_X] += sum_x
                row[SUM_ZZ] += n * z * z
                row[SUM_YY] += n * y * y
                row[SUM_XX] += sum_xx
                row[SUM_ZY] += n * z * y
                row[SUM_ZX] += z * sum_x
                row[SUM_YX] += y * sum_x
                row[MAX_Z] = z
                row[MIN_Y] = min(row[MIN_Y], y)
                row[MAX_Y] = max(row[MAX_Y], y)
                row[MIN_X] = min(row[MIN_X], start)
                row[MAX_X] = max(row[MAX_X], last)


@compiled
def axis_lengths(table: np.ndarray, voxel_size: np.ndarray) -> np.ndarray:
    """Return square roots of the eigenvalues of each pore's covariance, largest first.

    A voxel counts as a solid cuboid, so no length in 3D is zero. The sums are exact
    integers; they are shifted to the rounded centroid before the first division.

    Parameters
    ----------
    table : ndarray of shape (n, N_COLUMNS), int64
    voxel_size : ndarray of shape (3,), float64
        Edge lengths of a voxel; 0 along Z for a single image.

    Returns
    -------
    ndarray of shape (n, 3), float64
    """
    lengths = np.empty((len(table), 3))
    matrix = np.empty((3, 3))
    centre = np.empty(3, np.int64)
    for i in range(len(table)):
        row = table[i]
        n = row[COUNT]
        for a in range(3):
            centre[a] = (2 * row[SUM_Z + a] + n) // (2 * n)
        for a in range(3):
            for b in range(a, 3):
                # The columns ZY, ZX, YX follow the squares.
                second = row[SUM_ZZ + a] if a == b else row[SUM_ZY + a + b - 1]
                moved = second - centre[a] * row[SUM_Z + b] - centre[b] * row[SUM_Z + a]
                moved += n * centre[a] * centre[b]
                rest_a = (row[SUM_Z + a] - n * centre[a]) / n
                rest_b = (row[SUM_Z + b] - n * centre[b]) / n
                value = moved / n - rest_a * rest_b
                if a == b:
                    value += 1 / 12
                value *= voxel_size[a] * voxel_size[b]
                matrix[a, b] = value
                matrix[b, a] = value
        _eigenvalues(matrix, lengths[i])
    return np.sqrt(np.maximum(lengths, 0.0))


@compiled
def _eigenvalues(m: np.ndarray, out: np.ndarray) -> None:
    """Compute the eigenvalues of a symmetric 3×3 matrix, largest first.

    Smith, Communications of the ACM 4, 168 (1961), https://doi.org/10.1145/355578.366316.
    """
    mean = (m[0, 0] + m[1, 1] + m[2, 2]) / 3
    spread = 2 * (m[0, 1] ** 2 + m[0, 2] ** 2 + m[1, 2] ** 2)
    for a in range(3):
        spread += (m[a, a] - mean) ** 2
    scale = np.sqrt(spread / 6)
    if scale <= 1e-14 * mean:
        out[0], out[1], out[2] = mean, mean, mean
        return
    a, b, c = (
        (m[0, 0] - mean) / scale,
        (m[1, 1] - mean) / scale,
        (m[2, 2] - mean) / scale,
    )
    d, e, f = m[0, 1] / scale, m[0, 2] / scale, m[1, 2] / scale
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    angle = np.arccos(min(1.0, max(-1.0, half))) / 3
    out[0] = mean + 2 * scale * np.cos(angle)
    out[2] = mean + 2 * scale * np.cos(angle + 2 * np.pi / 3)
    out[1] = 3 * mean - out[0] - out[2]
