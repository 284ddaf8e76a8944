"""A test on known blocks, to find pores that the model invents or loses.

The scan is smoothed according to its noise and used as ground truth. Noise like that of
the scan is added, the model is run, and pores are counted before and after. Then small
test pores of known sizes are added to the solid and the experiment is repeated. It
shows the minimum size at which pores are found, and how many objects the model invents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.measure.quality import pore_volumes

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample

Array = npt.NDArray[np.float64]
Restore = Callable[[Array, tuple[slice, ...]], Array]

#: Candidate widths of the Gaussian filter, in voxels.
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
#: Minimum size of counted pores, in voxels of a 3D volume.
MIN_PORE_VOXELS = 27
#: Minimum radius, in voxels, of test pores whose loss causes the verdict *caution*.
_MIN_RADIUS = 2.0
_SEED = 4711
#: Radii of test pores in voxels.
_RADII = (1.26, 1.55, 2.0, 2.5, 3.2)
#: Blur of test pores, in voxels; most scans are blurred at least this much.
_PORE_BLUR = 0.6
#: Number of test pores of each size per block.
_TEST_PORES = 8
#: Minimum fraction of the test pores of a size that must be found.
MIN_FOUND_SHARE = 0.7
#: Number of blocks used for the test.
_BLOCKS = 3


@dataclass(frozen=True)
class KnownBlockTest:
    """Result of running a model on a known scan.

    Attributes
    ----------
    gain : float
        Improvement of the model over the unchanged scan, in dB.
    true_pores, pores : int
        Number of pores in the smoothed scan, and in the model's result for it with
        noise; bright spots in scans that are mostly dark.
    found : mapping of int to float
        Fraction of the test pores found without noise that are also found with it, by
        size in voxels; sizes without test pores are missing.
    are_bright : bool
        Whether the test pores are bright spots because most of the scan is dark.
    large : int
        Pore size, in voxels, at and above which pores should be found; that of a pore
        with a diameter of four voxels.
    """

    gain: float
    true_pores: int
    pores: int
    found: Mapping[int, float] = field(default_factory=dict)
    are_bright: bool = False
    large: int = 33

    @property
    def objects(self) -> str:
        """Name of the test objects."""
        return "bright spots" if self.are_bright else "pores"

    @property
    def limit(self) -> int | None:
        """Largest size of lost test pores, in voxels; None if no pores are lost."""
        lost = [size for size, share in self.found.items() if share < MIN_FOUND_SHARE]
        return max(lost) if lost else None


def run_known_blocks(
    restore: Restore, sample: EvaluationSample, noise: Noise
) -> KnownBlockTest:
    """Run a model on known blocks with noise like that of the scan.

    Parameters
    ----------
    restore : callable
        Returns the model's result for the core of a window, both in grey values.
    sample : EvaluationSample
        Blocks of the scan.
    noise : Noise
        Noise of the scan.

    Raises
    ------
    Cancelled
        If `restore` raises it.
    """
    rng = np.random.default_rng(_SEED)
    width = best_width(sample)
    truths, results, before, after = [], [], 0.0, 0.0
    for block in sample.blocks[:_BLOCKS]:
        truth = smoothed(block.window, width)
        unit = noise_of_scan(noise, truth.shape, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = restore(noisy, block.core)
        core = truth[block.core]
        truths.append(core)
        results.append(result)
        before += float(np.square(noisy[block.core] - core).sum())
        after += float(np.square(result - core).sum())
    are_bright, found = _test_pores(restore, sample, noise, width)
    return KnownBlockTest(
        gain=10 * math.log10(before / after) if before > 0 and after > 0 else 0.0,
        true_pores=count_pores(truths, bright=are_bright),
        pores=count_pores(results, bright=are_bright),
        found=found,
        are_bright=are_bright,
        large=len(_ball(_MIN_RADIUS, truths[0].ndim)),
    )


def _test_pores(
    restore: Restore, sample: EvaluationSample, noise: Noise, width: float
) -> tuple[bool, dict[int, float]]:
    """Add pores of known sizes to the solid; the fraction that is found, by size.

    The first value is True if they are bright spots, which are used if most of the scan
    is dark.
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
        mask = ndimage.gaussian_filter(mask, _PORE_BLUR)
        truth = window + mask * (objects - window)
        unit = noise_of_scan(noise, truth.shape, rng)
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
    """Voxels of spheres (circles in an image) in the solid, apart from each other."""
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
            # Keep other pores outside the reach of this pore's blur.
            reach = math.ceil(2 * radius + 3)
            room[tuple(slice(max(0, c - reach), c + reach + 1) for c in centre)] = 0


def _ball(radius: float, ndim: int) -> npt.NDArray[np.intp]:
    """Voxel offsets of a sphere."""
    n = math.ceil(radius)
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * ndim, indexing="ij"), -1)
    flat = grid.reshape(-1, ndim)
    found: npt.NDArray[np.intp] = flat[np.square(flat).sum(1) <= radius**2]
    return found


def best_width(sample: EvaluationSample) -> float:
    """Width of the Gaussian filter with the smallest expected error on the blocks."""
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
    """A window after a Gaussian filter of `width` voxels."""
    from scipy import ndimage

    if width == 0:
        return window
    found: Array = ndimage.gaussian_filter(window, width)
    return found


def count_pores(blocks: Sequence[Array], *, bright: bool = False) -> int:
    """Number of dark (or bright) objects in all blocks, with one Otsu threshold."""
    from skimage.filters import threshold_otsu

    values = np.concatenate([block.ravel() for block in blocks])
    if not np.ptp(values) > 0:
        return 0
    threshold = threshold_otsu(values)
    smallest = (
        MIN_PORE_VOXELS if blocks[0].ndim == 3 else round(MIN_PORE_VOXELS ** (2 / 3))
    )
    return sum(
        len(pore_volumes((block <= threshold) != bright, smallest=smallest))
        for block in blocks
    )
