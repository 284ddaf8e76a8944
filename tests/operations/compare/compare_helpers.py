"""Volumes to compare, and helpers for comparing them."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.operations.compare import compare_steps


def spheres(shape=(48, 60, 66), n=14, seed=5, radius=(4, 7)) -> np.ndarray:
    """Solid of 200 with pores of 80 that do not touch."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    image = np.full(shape, 200.0, np.float32)
    taken: list[tuple[np.ndarray, float]] = []
    while len(taken) < n:
        r = rng.uniform(*radius)
        c = rng.uniform(r + 2, np.array(shape) - r - 2)
        if all(np.linalg.norm(c - d) > r + s + 3 for d, s in taken):
            taken.append((c, r))
            image[((grid - c) ** 2).sum(-1) < r * r] = 80
    return image


def means(data: np.ndarray, factor: int) -> np.ndarray:
    n = [k // factor for k in data.shape]
    cut = data[tuple(slice(0, k * factor) for k in n)]
    split = [part for k in n for part in (k, factor)]
    return cut.reshape(split).mean((1, 3, 5))


def run(volumes, config=None, said=None, **more):
    def note(step):
        if said is not None and isinstance(step, WarningIssued):
            said.append(step.message)

    return run_to_end(compare_steps(volumes, config, **more), note)
