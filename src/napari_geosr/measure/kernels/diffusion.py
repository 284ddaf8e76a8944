"""Steady diffusion through a phase between two faces, by successive over-relaxation."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled


@compiled
def relax(phase: np.ndarray, values: np.ndarray, factor: float, n_sweeps: int) -> None:
    """Relax concentrations in place, red and black voxels in turn.

    The concentration is 1 at the first face and 0 at the last face, each half a voxel
    outside the outermost voxels. There is no flux through the other faces or out of the
    phase.

    Parameters
    ----------
    phase : ndarray of shape (n, Y, X), uint8
    values : ndarray of shape (n, Y, X), float32
    factor : float
        Relaxation factor, 1 to 2.
    """
    n, n_y, n_x = phase.shape
    for _ in range(n_sweeps):
        for colour in range(2):
            for i in range(n):
                for y in range(n_y):
                    for x in range((i + y + colour) % 2, n_x, 2):
                        if not phase[i, y, x]:
                            continue
                        weight = 0.0
                        total = 0.0
                        if i == 0:
                            weight += 2.0
                            total += 2.0
                        elif phase[i - 1, y, x]:
                            weight += 1.0
                            total += values[i - 1, y, x]
                        if i == n - 1:
                            weight += 2.0
                        elif phase[i + 1, y, x]:
                            weight += 1.0
                            total += values[i + 1, y, x]
                        if y > 0 and phase[i, y - 1, x]:
                            weight += 1.0
                            total += values[i, y - 1, x]
                        if y < n_y - 1 and phase[i, y + 1, x]:
                            weight += 1.0
                            total += values[i, y + 1, x]
                        if x > 0 and phase[i, y, x - 1]:
                            weight += 1.0
                            total += values[i, y, x - 1]
                        if x < n_x - 1 and phase[i, y, x + 1]:
                            weight += 1.0
                            total += values[i, y, x + 1]
                        if weight > 0:
                            old = values[i, y, x]
                            values[i, y, x] = old + factor * (total / weight - old)


@compiled
def fluxes(phase: np.ndarray, values: np.ndarray, result: np.ndarray) -> None:
    """Fill in the flux through each of the n + 1 planes between and around voxels."""
    n, n_y, n_x = phase.shape
    result[:] = 0.0
    for y in range(n_y):
        for x in range(n_x):
            if phase[0, y, x]:
                result[0] += 2.0 * (1.0 - values[0, y, x])
            if phase[n - 1, y, x]:
                result[n] += 2.0 * values[n - 1, y, x]
    for i in range(n - 1):
        for y in range(n_y):
            for x in range(n_x):
                if phase[i, y, x] and phase[i + 1, y, x]:
                    result[i + 1] += values[i, y, x] - values[i + 1, y, x]
