"""A rehearsal on blocks that are known: the pores that the model invents or loses.

The scan is smoothed as much as its noise asks for and taken for the truth. Noise like
that of the scan is added, the model is run, and pores are counted before and
after. Then small test pores of known sizes are put into the solid, and the same is done
again: from which size on are they found, and how many objects does the model invent?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.probes import level_map, noise_like
from napari_geosr.measure.quality import pore_volumes

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample

Array = npt.NDArray[np.float64]
Restore = Callable[[Array, tuple[slice, ...]], Array]

#: Widths of the smoothing that are tried, in voxels.
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
#: Smaller pores do not count, in voxels of a volume.
SMALLEST = 27
#: Where test pores of this radius are lost, care is needed.
_LARGE = 2.0
_SEED = 4711
#: Radii of test pores in voxels; their blur, which most scans have at least.
_RADII, _BLUR = (1.26, 1.55, 2.0, 2.5, 3.2), 0.6
#: Test pores of each size that are tried in a block.
_TEST_PORES = 8
#: Share of the test pores of a size that has to be found.
FOUND = 0.7
#: Blocks that are rehearsed on.
_BLOCKS = 3


@dataclass(frozen=True)
class Rehearsal:
    """What became of a known scan.

    Attributes
    ----------
    gain : float
        In dB, of the model over leaving the scan.
    true_pores, pores : int
        In the smoothed scan, and in what the model made of it under noise; of scans
        that are mostly dark, bright spots.
    found : mapping of int to float
        Share of the test pores of a size, in voxels, that were found under noise among
        those that are found without it; sizes without test pores are missing.
    are_bright : bool
        Whether the test pores are bright spots, as most of the scan is dark.
    large : int
        Size, in voxels, that should be found: a diameter of four.
    """

    gain: float
    true_pores: int
    pores: int
    found: Mapping[int, float] = field(default_factory=dict)
    are_bright: bool = False
    large: int = 33

    @property
    def objects(self) -> str:
        """What the test pores are called."""
        return "bright spots" if self.are_bright else "pores"

    @property
    def limit(self) -> int | None:
        """Largest size of test pores, in voxels, that are lost; None if none are."""
        lost = [size for size, share in self.found.items() if share < FOUND]
        return max(lost) if lost else None


def rehearse(restore: Restore, sample: EvaluationSample, noise: Noise) -> Rehearsal:
    """Run a model on known blocks with noise like that of the scan.

    Parameters
    ----------
    restore : callable
        Gives what the model makes of the core of a window, both in grey values.
    sample : EvaluationSample
        Blocks of the scan.
    noise : Noise
        Of the scan.

    Raises
    ------
    Cancelled
        If `restore` does.
    """
    rng = np.random.default_rng(_SEED)
    width = best_width(sample)
    truths, results, before, after = [], [], 0.0, 0.0
    for block in sample.blocks[:_BLOCKS]:
        truth = smoothed(block.window, width)
        unit = noise_like(truth.shape, noise.correlation, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = restore(noisy, block.core)
        core = truth[block.core]
        truths.append(core)
        results.append(result)
        before += float(np.square(noisy[block.core] - core).sum())
        after += float(np.square(result - core).sum())
    are_bright, found = _test_pores(restore, sample, noise, width)
    return Rehearsal(
        gain=10 * math.log10(before / after) if before > 0 and after > 0 else 0.0,
        true_pores=count_pores(truths, bright=are_bright),
        pores=count_pores(results, bright=are_bright),
        found=found,
        are_bright=are_bright,
        large=len(_ball(_LARGE, truths[0].ndim)),
    )


def _test_pores(
    restore: Restore, sample: EvaluationSample, noise: Noise, width: float
) -> tuple[bool, dict[int, float]]:
    """Put pores of known sizes into the solid; the share that is found, by size.

    Where most of the scan is dark they are bright spots, which is said first.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    blocks = sample.blocks[:_BLOCKS]
    known = [smoothed(block.window, width) for block in blocks]
    values = np.concatenate([window.ravel() for window in known])
    if not np.ptp(values) > 0:
        return False, {}
    threshold = float(threshold_otsu(values))
    bright = float(np.mean(values <= threshold)) > 0.5
    sign = -1.0 if bright else 1.0
    objects = float(np.median(values[sign * values <= sign * threshold]))
    rng = np.random.default_rng(_SEED + 1)
    seen: dict[int, list[bool]] = {}
    for block, window in zip(blocks, known, strict=True):
        balls = list(_balls(sign * window > sign * threshold, block.core, rng))
        if not balls:
            continue
        mask = np.zeros(window.shape)
        for ball in balls:
            mask[ball] = 1.0
        mask = ndimage.gaussian_filter(mask, _BLUR)
        truth = window + mask * (objects - window)
        unit = noise_like(truth.shape, noise.correlation, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = truth.copy()
        result[block.core] = restore(noisy, block.core)
        for ball in balls:
            shown, hit = (
                bool(np.mean(sign * image[ball] <= sign * threshold) >= 0.5)
                for image in (truth, result)
            )
            if shown:
                seen.setdefault(len(ball[0]), []).append(hit)
    return bright, {n: float(np.mean(hits)) for n, hits in sorted(seen.items())}


def _balls(
    solid: npt.NDArray[np.bool_], core: tuple[slice, ...], rng: np.random.Generator
) -> Iterator[tuple[npt.NDArray[np.intp], ...]]:
    """Voxels of spheres (in an image discs) that lie apart from each other in solid."""
    from scipy import ndimage

    room = ndimage.distance_transform_edt(solid)
    for radius in _RADII:
        inside = np.zeros(solid.shape, bool)
        n = math.ceil(radius)
        inside[tuple(slice(c.start + n, c.stop - n) for c in core)] = True
        offsets = _ball(radius, solid.ndim)
        for _ in range(_TEST_PORES):
            places = np.argwhere((room > radius + 1.5) & inside)
            if not len(places):
                break
            centre = places[rng.integers(len(places))]
            voxels = tuple((offsets + centre).T)
            yield voxels
            # None within reach of the blur of this one.
            reach = math.ceil(2 * radius + 3)
            room[tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)] = 0


def _ball(radius: float, ndim: int) -> npt.NDArray[np.intp]:
    """Offsets of the voxels of a ball."""
    n = math.ceil(radius)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * ndim, indexing="ij"), -1)
    flat = grid.reshape(-1, ndim)
    found: npt.NDArray[np.intp] = flat[np.square(flat).sum(1) <= radius**2]
    return found


def best_width(sample: EvaluationSample) -> float:
    """Width of the Gaussian with the least expected error on the blocks."""
    best, least = 0.0, math.inf
    for width in _WIDTHS:
        risk, voxels = 0.0, 0
        for block, probe, variance in zip(
            sample.blocks,
            sample.probes,
            sample.variances,
            strict=True,
        ):
            valid, core = block.valid, block.core
            left = block.window[core] - smoothed(block.window, width)[core]
            kept = probe[core] * smoothed(probe, width)[core]
            risk += float((np.square(left) - variance + 2 * kept)[valid].sum())
            voxels += int(valid.sum())
        if voxels and risk / voxels < least:
            best, least = width, risk / voxels
    return best


def smoothed(window: Array, width: float) -> Array:
    """A window under a Gaussian of `width` voxels."""
    from scipy import ndimage

    if width == 0:
        return window
    found: Array = ndimage.gaussian_filter(window, width)
    return found


def count_pores(blocks: Sequence[Array], *, bright: bool = False) -> int:
    """Dark, or bright, objects of all blocks, by the threshold of Otsu over all."""
    from skimage.filters import threshold_otsu

    values = np.concatenate([block.ravel() for block in blocks])
    if not np.ptp(values) > 0:
        return 0
    threshold = threshold_otsu(values)
    smallest = SMALLEST if blocks[0].ndim == 3 else round(SMALLEST ** (2 / 3))
    return sum(
        len(pore_volumes((block <= threshold) != bright, smallest=smallest))
        for block in blocks
    )
