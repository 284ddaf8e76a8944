"""Determines whether the noise is equally strong in all parts of a scan.

The noise of a scan is described by its level at each grey value, measured where it is
weakest. In some scans, the noise also depends on the position: it changes towards the
edge of a cone beam, along an axis if the X-ray tube weakened during the scan, or
between stitched tiles from several exposures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Array,
    FloatArray,
    degrees,
)
from napari_geosr.measure.noise.curve import NoiseCurve
from napari_geosr.measure.noise.mixture import mean_deviance
from napari_geosr.measure.noise.quiet import QuietBlocks, find_quiet, quietest
from napari_geosr.measure.noise.sample import Bools, NoiseSample
from napari_geosr.measure.noise.spectrum import noise_and_structure

#: Number of cells along each axis of a volume, for comparing their noise.
_CELLS = 4
#: Number of cells along each axis of an image, for comparing their noise.
_CELLS_2D = 6
#: Number of slabs along each axis, for comparing their noise.
_SLABS = 8
#: Noise, as a fraction of the range of grey values, that may be due to rounding.
_ROUNDING = 1e-6
#: Minimum number of blocks in a region.
_MIN_BLOCKS = 60
#: For a scan without measurable noise: number of cells and of slabs along each axis,
#: and minimum number of blocks in each of these regions, which are measured
#: independently.
_LARGE_CELLS = 2
_LARGE_SLABS = 4
_MIN_BLOCKS_ALONE = 300
#: Minimum distance of blocks from the border of such a region, as a fraction of a slab.
_BORDER = 0.2
#: Quantiles of the fine detail of the blocks of a region, and the maximum ratio of
#: these quantiles in a region where quiet blocks contain equal noise.
_CALM = (0.05, 0.25)
_MAX_DETAIL_RATIO = 1.35
#: Maximum number of such regions that are measured.
_MAX_CANDIDATES = 5
#: Noise level of a region, as a multiple of the floor, above which it is noisy.
_CLEARLY_NOISY = 2.0
#: Fraction of the blocks of a region (the quietest ones) in which noise is measured.
_QUIETEST_SHARE = 0.05
#: Limits for the quietest blocks of a region: maximum fraction of structure, maximum
#: deviance from noise of the known spectrum, and maximum scatter of their energies.
#: With noise that is equal everywhere, deviance and scatter are near 1. The limits were
#: chosen using real and simulated scans with known noise, among them rock with few
#: voxels per grain: its structure varies across the scan and resembles correlated
#: noise.
_MAX_STRUCTURE = 0.2
_MAX_DEVIANCE = 2.0
_MAX_SCATTER = 3.0
#: Less strict limits, because strongly correlated noise partly resembles structure. A
#: region within these limits counts only if at least `_TOGETHER` such regions are as
#: noisy.
_MAX_STRUCTURE_TOGETHER = 0.7
_MAX_SCATTER_TOGETHER = 2.5
_TOGETHER = 4


def ratios_of_regions(
    energy: FloatArray,
    sample: NoiseSample,
    quiet: QuietBlocks,
    curve: NoiseCurve,
    check: Callable[[], None],
) -> tuple[float, float]:
    """Compare the noise of individual regions with the measured noise.

    The sample is divided into cells and slabs. In each of these regions, the quietest
    blocks are measured, relative to the noise that the scan has at their grey values.
    Regions in which these blocks contain much structure are ignored. A region in which
    they contain some structure affects only the highest ratio, and only if several
    regions are as noisy.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        Energies by degree.
    sample : NoiseSample
        The same blocks.
    quiet : QuietBlocks
        Noise of the quietest blocks of the scan.
    curve : NoiseCurve
        Variance of this noise at each grey value.
    check : callable
        Called for each region; may raise `Cancelled`.

    Returns
    -------
    weakest, strongest : float
        Lowest and highest ratio of standard deviations, at most 1 and at least 1; both
        are 1 if no region can be measured.

    Notes
    -----
    Noise that is equally strong everywhere has ratios of 0.8 to 1.2 (0.7 to 1.5 in
    structures without uniform regions).
    """
    variances = curve.variance(sample.greys)
    # In a scan without noise, only rounding errors are left.
    known = variances > (_ROUNDING * float(np.ptp(sample.values))) ** 2
    noise = quiet.spectrum.noise
    alone, together = [1.0], [1.0] * _TOGETHER
    for region in _regions(sample.centres, energy.shape[1] > 1):
        check()
        chosen = region & known
        if chosen.sum() < _MIN_BLOCKS:
            continue
        relative = energy[chosen] / variances[chosen, None, None, None]
        found = quietest(
            relative.astype(np.float32), sample.greys[chosen], noise, _QUIETEST_SHARE
        )
        if found.scatter > _MAX_SCATTER or not found.energy.any():
            continue
        variance, structure = noise_and_structure(found.energy, noise, found.count)
        deviance = mean_deviance(found.energy[None], noise, np.ones(1)) * found.count
        if deviance > _MAX_DEVIANCE:
            continue
        if structure <= _MAX_STRUCTURE:
            alone.append(variance)
        if (
            structure <= _MAX_STRUCTURE_TOGETHER
            and found.scatter <= _MAX_SCATTER_TOGETHER
        ):
            together.append(variance)
    strongest = max(*alone, sorted(together)[-_TOGETHER])
    return float(np.sqrt(min(alone))), float(np.sqrt(strongest))


def noisiest_region(
    energy: FloatArray, sample: NoiseSample, floor: float, check: Callable[[], None]
) -> float:
    """Return the noise level of the noisiest region of a scan without measurable noise.

    The quietest blocks of the scan may all be in a region without noise. Here, regions
    are measured independently of each other, starting with those in which the fine
    detail varies least. A region counts only if most of its blocks at some grey value
    contain nothing but noise.

    Parameters
    ----------
    energy : ndarray of shape (blocks, Z, Y, X)
        Energies by degree.
    sample : NoiseSample
        The same blocks.
    floor : float
        Level, in grey values of the sample, below which noise cannot be measured.
    check : callable
        Called for each region; may raise `Cancelled`.

    Returns
    -------
    float
        Noise level in grey values of the sample; 0 if no region is noisy.
    """
    is_deep = energy.shape[1] > 1
    fine = degrees((energy.shape[1], energy.shape[2], energy.shape[3])) > SMOOTH_DEGREE
    detail = np.sqrt(energy[:, fine].mean(1))
    candidates = []
    strongest = 0.0
    # Blocks across the border between two regions may contain the noise of both.
    offset = sample.centres * _LARGE_SLABS
    inside = np.abs(offset - np.rint(offset)) > _BORDER
    inside |= (np.rint(offset) == 0) | (np.rint(offset) == _LARGE_SLABS)
    is_inside = inside[:, 0 if is_deep else 1 :].all(1)
    for whole in _regions(sample.centres, is_deep, _LARGE_CELLS, _LARGE_SLABS):
        region = whole & is_inside
        if region.sum() < _MIN_BLOCKS_ALONE:
            continue
        low, high = np.quantile(detail[region], _CALM)
        if low > floor / 2 and high < _MAX_DETAIL_RATIO * low:
            candidates.append((float(high / low), region))
    candidates.sort(key=lambda one: one[0])  # the ratio is lowest for pure noise
    for _, region in candidates[:_MAX_CANDIDATES]:  # each region takes up to a second
        check()
        found = find_quiet(energy[region], sample.greys[region], check=check)
        if found is None or found.is_structure or not found.is_uniform.any():
            continue
        level = float(np.sqrt(found.variances[found.is_uniform].mean()))
        if level > _CLEARLY_NOISY * floor:
            strongest = max(strongest, level)
    return strongest


def _regions(
    centres: Array, is_deep: bool, cells_along: int = 0, slabs_along: int = _SLABS
) -> Iterator[Bools]:
    """Yield cells, and slabs along each axis, as masks of the blocks inside."""
    axes = (0, 1, 2) if is_deep else (1, 2)
    count = cells_along or (_CELLS if is_deep else _CELLS_2D)
    cells = np.zeros(len(centres), np.intp)
    for axis in axes:
        cells = cells * count + _parts(centres[:, axis], count)
    for cell in np.unique(cells):
        yield cells == cell
    for axis in axes:
        slabs = _parts(centres[:, axis], slabs_along)
        for slab in np.unique(slabs):
            yield slabs == slab


def _parts(positions: Array, count: int) -> npt.NDArray[np.intp]:
    """Return which of `count` equal parts contains each position (0 … 1)."""
    return np.minimum(positions * count, count - 1).astype(np.intp)
