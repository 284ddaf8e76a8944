"""Inserts test pores of known sizes into blocks, and finds them in scan and result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.measure.comparison.quality import pore_volumes
from napari_geosr.operations.restore.verdict.pore_counts import (
    Mask,
    differ,
    pore_masks,
)

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample
    from napari_geosr.operations.restore.verdict.phase_levels import PhaseLevels

Array = npt.NDArray[np.float64]
Restore = Callable[[Array, tuple[slice, ...]], Array]

#: Minimum fraction of the test pores of a size that must be found for this size to
#: count as found.
MIN_FOUND_SHARE = 0.7
#: Radii of test pores in voxels.
_RADII = (1.26, 1.55, 2.0, 2.5, 3.2)
#: Blur of test pores, in voxels; most scans are blurred at least this much.
_PORE_BLUR = 0.6
#: Number of test pores of each size, in all blocks together.
_TEST_PORES = 24
#: Maximum ratio of noise specks to objects at which objects of a size can be counted.
_MAX_SPECKS_SHARE = 0.2
_SEED = 4712


@dataclass(frozen=True)
class InsertedPores:
    """Test pores that were found; see `KnownBlockTest`."""

    found: Mapping[int, float] = field(default_factory=dict)
    countable: frozenset[int] = frozenset()
    shown: frozenset[int] = frozenset()


def insert_test_pores(
    restore: Restore,
    sample: EvaluationSample,
    noise: Noise,
    known: Sequence[Array],
    insides: Sequence[Mask],
    phases: PhaseLevels | None,
    *,
    bright: bool,
) -> InsertedPores:
    """Add pores (or bright spots) of known sizes, and find them in scan and result.

    `known` are the blocks of `sample` without noise; `phases` are their dark and bright
    grey values.
    """
    from scipy import ndimage

    if phases is None:
        return InsertedPores()
    threshold = phases.threshold
    sign = -1.0 if bright else 1.0
    objects = phases.bright if bright else phases.dark
    solids = phases.dark if bright else phases.bright
    rng = np.random.default_rng(_SEED)
    seen: dict[int, list[tuple[bool, bool]]] = {}
    truths, scans, empty = [], [], []
    parts = []
    for block, window, inside in zip(sample.blocks, known, insides, strict=True):
        n = math.ceil(_TEST_PORES / len(known))
        solid = (sign * window > sign * threshold) & inside
        balls = list(_balls(solid, block.core, n, rng))
        mask = np.zeros(window.shape)
        for ball in balls:
            mask[ball] = 1.0
        mask = ndimage.gaussian_filter(mask, _PORE_BLUR)
        truth = window + mask * (objects - window)
        unit = noise_of_scan(noise, truth.shape, rng)
        noisy = truth + level_map(truth, noise) * unit
        filled = np.where(sign * window > sign * threshold, window, solids)
        empty.append((filled + level_map(filled, noise) * unit)[block.core])
        truths.append(truth[block.core])
        scans.append(noisy[block.core])
        parts.append(inside[block.core])
        if not balls:
            continue
        result = truth.copy()
        result[block.core] = restore(noisy, block.core)
        for ball in balls:
            is_known, in_scan, in_result = (
                bool(np.mean(sign * image[ball] <= sign * threshold) >= 0.5)
                for image in (truth, noisy, result)
            )
            if is_known:
                seen.setdefault(len(ball[0]), []).append((in_scan, in_result))
    shares = {n: np.mean(hits, axis=0) for n, hits in sorted(seen.items())}
    own = [block.window[block.core] for block in sample.blocks]
    known_masks, scan_masks, own_masks, specks = (
        list(pore_masks(blocks, parts, threshold, bright=bright))
        for blocks in (truths, scans, own, empty)
    )
    visible = [n for n, share in shares.items() if share[0] >= MIN_FOUND_SHARE]
    countable, shown = set(), set()
    for n in visible:
        noise_alone = _number(specks, n)
        if noise_alone <= _MAX_SPECKS_SHARE * _number(own_masks, n):
            shown.add(n)
        true = _number(known_masks, n)
        is_same = not differ(true, _number(scan_masks, n))
        if is_same and noise_alone <= _MAX_SPECKS_SHARE * true:
            countable.add(n)
    found = {n: float(share[1]) for n, share in shares.items()}
    return InsertedPores(found, frozenset(countable), frozenset(shown))


def _number(masks: Sequence[Mask], smallest: int) -> int:
    """Return the number of objects of at least `smallest` voxels."""
    return sum(len(pore_volumes(mask, smallest=smallest)) for mask in masks)


def _balls(
    solid: npt.NDArray[np.bool_],
    core: tuple[slice, ...],
    per_size: int,
    rng: np.random.Generator,
) -> Iterator[tuple[npt.NDArray[np.intp], ...]]:
    """Yield voxels of separate spheres (circles in an image) in the solid."""
    from scipy import ndimage

    room = ndimage.distance_transform_edt(solid)
    # Place one sphere of each size in turn, so that there is space for all sizes.
    for _ in range(per_size):
        for radius in reversed(_RADII):
            inside = np.zeros(solid.shape, bool)
            n = math.ceil(radius)
            inside[
                tuple(
                    slice(c.start + n, c.stop - n) if length > 1 else c
                    for c, length in zip(core, solid.shape, strict=True)
                )
            ] = True
            places = np.argwhere((room > radius + 1.5) & inside)
            if not len(places):
                continue
            centre = places[rng.integers(len(places))]
            yield tuple((ball_offsets(radius, solid.shape) + centre).T)
            # Keep other pores outside the reach of this pore's blur.
            reach = math.ceil(2 * radius + 3)
            room[tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)] = 0


def ball_offsets(radius: float, shape: Sequence[int]) -> npt.NDArray[np.intp]:
    """Return voxel offsets of a sphere (2D: a circle) in an array of this shape."""
    n = math.ceil(radius)
    axes = [
        np.arange(-n, n + 1) if length > 1 else np.zeros(1, int) for length in shape
    ]
    flat = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    found: npt.NDArray[np.intp] = flat[np.square(flat).sum(1) <= radius**2]
    return found
