"""Tests a model on known blocks, to find pores that it invents or loses.

The scan is smoothed according to its noise and used as ground truth. Noise like that of
the scan is added, the model is run, and pores are counted before and after. The same is
done with the model's result as ground truth. Then small test pores of known sizes are
added to the solid and the first experiment is repeated. The repeated experiment shows
the minimum size at which pores are found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.inference.risk.evaluation import draw_sample, is_flat
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.measure.noise.topics import is_about
from napari_geosr.operations.restore.verdict.compared_block import (
    ComparedBlock,
    local_level,
)
from napari_geosr.operations.restore.verdict.inserted_pores import (
    Array,
    Restore,
    ball_offsets,
    insert_test_pores,
)
from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest
from napari_geosr.operations.restore.verdict.phase_levels import (
    PhaseLevels,
    phase_levels,
)
from napari_geosr.operations.restore.verdict.pore_counts import (
    MIN_PORE_VOXELS,
    Mask,
    PoreCounts,
    has_one_peak,
    inside_of,
    kept_pores,
    pore_counts,
    sample_of,
)
from napari_geosr.operations.restore.verdict.run_verdict import (
    DEFAULT_MIN_VOXELS,
)
from napari_geosr.operations.restore.verdict.small_objects import small_objects
from napari_geosr.operations.restore.verdict.thin_structures import thin_structures

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.risk.evaluation import EvaluationSample


#: Candidate widths, in voxels, of the Gaussian filter that removes noise from a scan.
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
#: Minimum radius, in voxels, of test pores whose loss causes the verdict *caution*.
MIN_RADIUS = 2.0
_SEED = 4711
#: Seed for the noise that is added to the result when it is used as ground truth.
_REPEAT_SEED = 4713
#: Seed for the noise with which structures of the scan are compared.
_COMPARED_SEED = 4714
#: Number of blocks used for the test, and their shape in a volume. These blocks are
#: thicker than those for the expected gain, because a thin slab cuts connected pores
#: apart.
_BLOCKS = {2: 3, 3: 2}
_SHAPE = {2: None, 3: (16, 96, 96)}


def draw_known_sample(volume: Volume, noise: Noise) -> EvaluationSample:
    """Draw the blocks of a scan for the test.

    Raises
    ------
    VolumeError
        If no part of the scan has enough varying voxels.
    """
    ndim = 2 if is_flat(volume.data.shape) else 3
    return draw_sample(volume.data, noise, n=_BLOCKS[ndim], shape=_SHAPE[ndim])


def run_known_blocks(
    restore: Restore,
    sample: EvaluationSample,
    noise: Noise,
    *,
    repeats: bool = True,
) -> KnownBlockTest:
    """Run a model on known blocks with noise like that of the scan.

    Parameters
    ----------
    restore : callable
        Returns the model's result for the core of a window; input and result are grey
        values.
    sample : EvaluationSample
        Blocks of the scan, from `draw_known_sample`.
    noise : Noise
        Noise of the scan.
    repeats : bool
        Whether to run the model on its own result as well: see `PoreCounts.is_stable`.

    Raises
    ------
    Cancelled
        If `restore` raises it.
    """
    rng = np.random.default_rng(_SEED)
    repeat_rng = np.random.default_rng(_REPEAT_SEED)
    known, insides = known_blocks_of(sample)
    phases = phase_levels(sample, noise, insides)
    truths, noisies, results, shown, repeated = [], [], [], [], []
    before = after = 0.0
    pairs = list(zip(sample.blocks, insides, strict=True))
    for (block, inside), truth in zip(pairs, known, strict=True):
        unit = noise_of_scan(noise, truth.shape, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = restore(noisy, block.core)
        core = truth[block.core]
        truths.append(core)
        noisies.append(noisy[block.core])
        results.append(result)
        shown.append(restore(block.window, block.core))
        if repeats:
            unit = noise_of_scan(noise, truth.shape, repeat_rng)[block.core]
            again = block.window.copy()
            again[block.core] = shown[-1] + level_map(shown[-1], noise) * unit
            repeated.append(restore(again, block.core))
        part = inside[block.core]
        before += float(np.square(noisy[block.core] - core)[part].sum())
        after += float(np.square(result - core)[part].sum())
    is_dark = phases is not None and phases.is_mostly_dark
    parts = [inside[block.core] for block, inside in pairs]
    scans = [block.window[block.core] for block in sample.blocks]
    compared = compared_blocks(scans, shown, parts, noise)
    counted = [truths, results, shown, noisies, scans] + [repeated] * repeats
    counts, small_counts = (
        _counts(counted, parts, voxels, phases, is_dark=is_dark)
        for voxels in (MIN_PORE_VOXELS, DEFAULT_MIN_VOXELS)
    )
    gain = 10 * math.log10(before / after) if before > 0 and after > 0 else 0.0
    is_separated = phases is None or phases.are_separated_in_noise(scans, parts)
    base = KnownBlockTest(gain, (), (), is_scan_separated=is_separated)

    def test_of(bright: bool) -> KnownBlockTest:
        test = insert_test_pores(
            restore, sample, noise, known, insides, phases, bright=bright
        )
        return replace(
            base,
            found=test.found,
            countable=test.countable,
            shown=test.shown,
            kept={
                n: _kept(scans, shown, noisies, truths, parts, phases, n, bright=bright)
                for n in test.countable
            },
            are_bright=bright,
            large=len(ball_offsets(MIN_RADIUS, truths[0].shape)),
        )

    dark, bright = small_objects(compared)
    if is_dark:
        other = replace(test_of(bright=False), objects_by_size=dark)
    else:
        other = replace(base, are_bright=True, objects_by_size=bright)
    return replace(
        test_of(bright=is_dark),
        counts=counts,
        small_counts=small_counts,
        is_separated=phases is None or phases.are_separated(shown, parts),
        has_one_peak=has_one_peak(shown, parts),
        phases=2 if phases is None else phases.number,
        thin=thin_structures(compared),
        objects_by_size=bright if is_dark else dark,
        other=other,
    )


def _counts(
    volumes: Sequence[Sequence[Array]],
    parts: Sequence[Mask],
    voxels: int,
    phases: PhaseLevels | None,
    *,
    is_dark: bool,
) -> tuple[PoreCounts, ...]:
    """Count pores of at least this size and, in mostly dark scans, bright spots."""
    is_known = phases is None or phases.are_separated(volumes[0], parts)
    kinds = (False, True) if is_dark else (False,)
    return tuple(
        pore_counts(volumes, parts, voxels, bright=bright, is_known=is_known)
        for bright in kinds
    )


def compared_blocks(
    scans: Sequence[Array],
    results: Sequence[Array],
    parts: Sequence[Mask],
    noise: Noise,
) -> list[ComparedBlock]:
    """Combine blocks of the scan, the results, and noise like that of the scan.

    If the noise depends on the position, its level is measured in each part of a block:
    otherwise, specks of the stronger noise would look like objects of the scan.

    Parameters
    ----------
    scans, results : sequence of ndarray, float64
        Grey values, all of one shape.
    parts : sequence of ndarray of bool
        Voxels that belong to the sample.
    noise : Noise
        Noise of the scan.
    """
    rng = np.random.default_rng(_COMPARED_SEED)
    is_uneven = any(is_about(doubt, "position") for doubt in noise.doubts)
    found = []
    for scan, result, part in zip(scans, results, parts, strict=True):
        unit, level = noise_of_scan(noise, scan.shape, rng), level_map(result, noise)
        if is_uneven:
            level = local_level(scan, level, unit)
        found.append(ComparedBlock(scan, result, part, unit, level))
    return found


def _kept(
    scans: Sequence[Array],
    results: Sequence[Array],
    noisy: Sequence[Array],
    truths: Sequence[Array],
    parts: Sequence[Mask],
    phases: PhaseLevels | None,
    size: int,
    *,
    bright: bool,
) -> tuple[int, int]:
    """Count pores of about this size in the scan, and those kept in the result.

    Some objects in the scan are specks of noise. In the simulated scan, their number is
    known, because they are not in its ground truth. In the scan, there may be more
    specks by chance (two standard deviations of a Poisson distribution).
    """
    if phases is None:
        return 0, 0
    limit = phases.threshold
    seen, kept = kept_pores(scans, results, parts, limit, size, bright=bright)
    simulated, true = kept_pores(noisy, truths, parts, limit, size, bright=bright)
    specks = max(0, simulated - true)
    return max(kept, round(seen - specks - 2 * math.sqrt(specks))), kept


def known_blocks_of(sample: EvaluationSample) -> tuple[list[Array], list[Mask]]:
    """Return the blocks with most of the noise removed, and masks of the sample."""
    shown = [sample_of(block) for block in sample.blocks]
    width = _best_width(sample, shown)
    known = [
        _smoothed(block.window, width, part)
        for block, part in zip(sample.blocks, shown, strict=True)
    ]
    return known, [inside_of(part, width) for part in shown]


def _best_width(sample: EvaluationSample, shown: Sequence[Mask]) -> float:
    """Find the Gaussian filter width with the smallest expected error."""
    best, least = 0.0, math.inf
    for width in _WIDTHS:
        risk, voxels = 0.0, 0
        for block, probe, variance, part in zip(
            sample.blocks, sample.probes, sample.variances, shown, strict=True
        ):
            core = block.core
            valid = block.valid & part[core]
            left = block.window[core] - _smoothed(block.window, width, part)[core]
            kept = probe[core] * _smoothed(probe, width, part)[core]
            risk += float((np.square(left) - variance + 2 * kept)[valid].sum())
            voxels += int(valid.sum())
        if voxels and risk / voxels < least:
            best, least = width, risk / voxels
    return best


def _smoothed(window: Array, width: float, shown: Mask) -> Array:
    """Return a window after a Gaussian filter of `width` voxels.

    Voxels outside the sample are not changed, and do not affect other voxels.
    """
    from scipy import ndimage

    if width == 0:
        return window
    if shown.all():
        found: Array = ndimage.gaussian_filter(window, width)
        return found
    weight = ndimage.gaussian_filter(shown.astype(np.float64), width)
    total = ndimage.gaussian_filter(np.where(shown, window, 0.0), width)
    return np.where(shown, total / np.maximum(weight, 1e-9), window)
