"""A pool of simulated scans and the patches drawn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_geosr.physics.scans import random_scan
from pretraining.recipes import Recipe

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A standardised scan; `unit` is one contrast in standardised grey levels."""

    noisy: FloatArray
    clean: FloatArray
    unit: float


def draw_sample(recipe: Recipe, index: int) -> Sample:
    """The scan number `index` of the recipe, a function of both alone."""
    rng = np.random.default_rng([recipe.seed, index])
    scan = random_scan(
        recipe.scan_shape,
        rng,
        noise=recipe.noise,
        blur=recipe.blur,
        downsample=recipe.downsample,
        strong_noise=recipe.strong_noise,
        small_pores=recipe.small_pores,
    )
    mean, std = float(scan.noisy.mean()), float(scan.noisy.std())
    return Sample(
        noisy=(scan.noisy - np.float32(mean)) / np.float32(std),
        clean=(scan.clean - np.float32(mean)) / np.float32(std),
        unit=abs(scan.contrast) / std,
    )


class Pool:
    """Scans at hand, the oldest replaced as training goes on."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.n_made = recipe.pool
        self.samples = [draw_sample(recipe, i) for i in range(recipe.pool)]

    def refresh(self) -> None:
        """Replace the oldest scan by a new one."""
        self.samples[self.n_made % self.recipe.pool] = draw_sample(
            self.recipe, self.n_made
        )
        self.n_made += 1

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noisy patches, clean patches and the unit of each, for `step`."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, step, 1])
        draw = _slab if recipe.network_kwargs["ndim"] == 2 else _cube
        drawn = []
        for _ in range(recipe.batch):
            sample = self.samples[rng.integers(len(self.samples))]
            drawn.append((*draw(sample, recipe, rng), np.float32(sample.unit)))
        x, y, unit = (
            torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)
        )
        return x, y, unit.view(-1, *[1] * (x.ndim - 1))


def adjacent(volume: FloatArray, z: int, n: int) -> FloatArray:
    """The `n` planes around plane `z`, mirrored at the ends (…, 2, 1, 0, 1, 2, …)."""
    depth = len(volume)
    if depth == 1:
        return np.repeat(volume, n, axis=0)
    index = np.abs(np.arange(z - n // 2, z + n // 2 + 1)) % (2 * depth - 2)
    return volume[np.where(index < depth, index, 2 * depth - 2 - index)]


def _slab(sample: Sample, recipe: Recipe, rng: np.random.Generator) -> tuple[Any, Any]:
    depth, height, width = sample.noisy.shape
    n = recipe.network_kwargs["adjacent_slices"]
    z = int(rng.integers(depth))
    h, w = recipe.patch[1:]
    y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    # Now and then a plane alone, as a single image comes: all channels are equal.
    alone = rng.random() < recipe.single_plane
    planes = sample.noisy[z : z + 1] if alone else sample.noisy
    noisy = adjacent(planes[:, y : y + h, x : x + w], 0 if alone else z, n)
    clean = sample.clean[z : z + 1, y : y + h, x : x + w]
    if rng.random() < 0.5:
        noisy = noisy[::-1]
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
    pair = []
    for part in (noisy, clean):
        part = np.rot90(part, turns, (1, 2))
        pair.append(np.ascontiguousarray(part[..., ::-1] if mirrored else part))
    return pair[0], pair[1]


def _cube(sample: Sample, recipe: Recipe, rng: np.random.Generator) -> tuple[Any, Any]:
    s = recipe.downsample
    start = [
        int(rng.integers(n - p + 1))
        for n, p in zip(sample.noisy.shape, recipe.patch, strict=True)
    ]
    low = tuple(slice(a, a + p) for a, p in zip(start, recipe.patch, strict=True))
    high = tuple(
        slice(s * a, s * (a + p)) for a, p in zip(start, recipe.patch, strict=True)
    )
    # The noise of reconstructed slices tells Z from the other two axes, so turns stay
    # in the plane.
    flips = tuple(slice(None, None, int(rng.choice([-1, 1]))) for _ in range(3))
    swap = rng.random() < 0.5
    pair = []
    for part in (sample.noisy[low][flips], sample.clean[high][flips]):
        part = part.swapaxes(1, 2) if swap else part
        pair.append(np.ascontiguousarray(part)[None])
    return pair[0], pair[1]
