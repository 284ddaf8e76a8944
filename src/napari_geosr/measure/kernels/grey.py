"""Grey values: their range and their histogram."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled


@compiled
def finite_range(values: np.ndarray) -> tuple[float, float, int]:
    """Find the smallest and largest finite value, and count non-finite values."""
    low = np.inf
    high = -np.inf
    n_nonfinite = 0
    for i in range(values.size):
        value = values[i]
        if not np.isfinite(value):
            n_nonfinite += 1
            continue
        if value < low:
            low = value
        if value > high:
            high = value
    return low, high, n_nonfinite


@compiled
def count_values(
    values: np.ndarray, counts: np.ndarray, per_width: float, first: int
) -> None:
    """Count finite `values` in bins of width 1 / `per_width`, a power of two."""
    for i in range(values.size):
        value = float(values[i])
        if np.isfinite(value):
            counts[int(np.floor(value * per_width)) - first] += 1
