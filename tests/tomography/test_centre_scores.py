"""The score of a double wedge, and the effect of its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_geosr.tomography.centre_scores import WedgeScore

VIEWS, COLUMNS, AXIS = 360, 48, 25.3


def balls(rng: np.random.Generator) -> Any:
    """Half a turn of a cylinder with spheres in it, (1, angle, column)."""
    angles = np.arange(VIEWS)[:, None] * np.pi / VIEWS
    columns = np.arange(COLUMNS)[None]
    sinogram = 0.05 * np.sqrt(np.maximum(18.0**2 - (columns - AXIS) ** 2, 0))
    sinogram = np.repeat(sinogram, VIEWS, axis=0)
    for _ in range(12):
        radius, far, phase = rng.uniform(2, 5), 12 * rng.random() ** 0.5, rng.random()
        middle = AXIS + far * np.cos(angles - 2 * np.pi * phase)
        chord = np.sqrt(np.maximum(radius**2 - (columns - middle) ** 2, 0))
        sinogram -= 0.04 * chord
    return sinogram[None]


def error(halves: Any) -> float:
    """Distance of the best column from the axis."""
    columns = np.arange(AXIS - 4, AXIS + 4, 0.2)
    return float(abs(columns[WedgeScore(halves)(columns).argmin()] - AXIS))


def test_noise_of_high_harmonics_counts_little() -> None:
    """The seam is in low harmonics, noise in all; without weights, noise dominates."""
    rng = np.random.default_rng(3)
    scenes = [balls(rng) for _ in range(8)]
    assert max(map(error, scenes[:2])) < 0.15
    noisy = [scene + 0.3 * rng.standard_normal(scene.shape) for scene in scenes]
    assert np.mean([*map(error, noisy)]) < 0.28
