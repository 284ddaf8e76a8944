"""Joseph's projection of slices and its adjoint, as compiled loops.

`runs`, `offset` and `slope` are attributes of `rays.Rays`. Slices are given twice,
``[1]`` unchanged and ``[0]`` transposed, so that the pixels crossed by a run of rays
are contiguous. Zero padding (`LEFT`, `RIGHT`) makes it unnecessary to test whether a
ray is inside the slice. Projection and adjoint compute positions and weights in the
same way.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.compiled import compiled

LEFT = 2
RIGHT = 3


@compiled
def _crossing(
    offset: np.float32, slope: np.float32, along: np.float32, high: np.float32
) -> tuple[np.int32, np.float32]:
    """Return the pixel before a ray's crossing of a row, and the next pixel's weight.

    Rays that miss the row cross its zero padding, which ends at the position `high`.
    """
    x = min(max(offset + slope * along + np.float32(LEFT), np.float32(0)), high)
    i = np.int32(x)
    return i, x - np.float32(i)


@compiled
def project_one(
    start: int,
    stop: int,
    runs: AnyArray,
    offset: AnyArray,
    slope: AnyArray,
    slices: AnyArray,
    out: AnyArray,
) -> None:
    """Project one slice (2, N, N + padding); add line sums (angle, column) to `out`."""
    n = slices.shape[1]
    high = np.float32(n + LEFT)
    for r in range(start, stop):
        angle, first, last = runs[r, 0], runs[r, 1], runs[r, 2]
        image = slices[runs[r, 3]]
        a = offset[angle, first:last]
        b = slope[angle, first:last]
        sums = np.zeros(last - first, np.float32)
        for along in range(n):
            row = image[along]
            at = np.float32(along)
            for k in range(last - first):
                i, f = _crossing(a[k], b[k], at, high)
                sums[k] += row[i] + f * (row[i + 1] - row[i])
        for k in range(last - first):
            out[angle, first + k] += sums[k]


@compiled
def project_many(
    start: int,
    stop: int,
    runs: AnyArray,
    offset: AnyArray,
    slope: AnyArray,
    slices: AnyArray,
    out: AnyArray,
) -> None:
    """Project slices (2, N, N + padding, B); add sums (angle, column, B) to `out`."""
    n, batch = slices.shape[1], slices.shape[3]
    high = np.float32(n + LEFT)
    for r in range(start, stop):
        angle = runs[r, 0]
        image = slices[runs[r, 3]]
        for along in range(n):
            row = image[along]
            at = np.float32(along)
            for k in range(runs[r, 1], runs[r, 2]):
                i, f = _crossing(offset[angle, k], slope[angle, k], at, high)
                left, right, sums = row[i], row[i + 1], out[angle, k]
                for j in range(batch):
                    sums[j] += left[j] + f * (right[j] - left[j])


@compiled
def spread_one(
    start: int,
    stop: int,
    runs: AnyArray,
    offset: AnyArray,
    slope: AnyArray,
    sinogram: AnyArray,
    out: AnyArray,
) -> None:
    """Add the adjoint of `project_one` to rows `start` to `stop` of `out`."""
    n = out.shape[1]
    high = np.float32(n + LEFT)
    for along in range(start, stop):
        at = np.float32(along)
        for r in range(runs.shape[0]):
            angle, first, last = runs[r, 0], runs[r, 1], runs[r, 2]
            row = out[runs[r, 3], along]
            a, b = offset[angle, first:last], slope[angle, first:last]
            values = sinogram[angle, first:last]
            for k in range(last - first):
                i, f = _crossing(a[k], b[k], at, high)
                share = f * values[k]
                row[i] += values[k] - share
                row[i + 1] += share


@compiled
def spread_many(
    start: int,
    stop: int,
    runs: AnyArray,
    offset: AnyArray,
    slope: AnyArray,
    sinogram: AnyArray,
    out: AnyArray,
) -> None:
    """Add the adjoint of `project_many` to rows `start` to `stop` of `out`."""
    n, batch = out.shape[1], out.shape[3]
    high = np.float32(n + LEFT)
    for along in range(start, stop):
        at = np.float32(along)
        for r in range(runs.shape[0]):
            angle = runs[r, 0]
            row = out[runs[r, 3], along]
            for k in range(runs[r, 1], runs[r, 2]):
                i, f = _crossing(offset[angle, k], slope[angle, k], at, high)
                left, right, values = row[i], row[i + 1], sinogram[angle, k]
                for j in range(batch):
                    share = f * values[j]
                    left[j] += values[j] - share
                    right[j] += share
