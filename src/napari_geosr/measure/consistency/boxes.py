"""Compares a result with its scan in one box: residual, sums, flagged voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.measure.consistency.slope import BlockSums, SlopeSums, block_sums
from napari_geosr.measure.resolution.redegrade import (
    TRUNCATE,
    Box,
    FloatArray,
    Pair,
    within,
)

Array = npt.NDArray[np.float64]

#: Largest shift of an edge of the result, in voxels, that is not flagged.
_EDGE_SHIFT = 0.5
#: Number of flagged voxels above which they are counted, but not grouped into regions.
MAX_GROUPED_VOXELS = 200_000


@dataclass(frozen=True)
class ResidualNoise:
    """Noise level by grey value, and noise level of the smoothed residual."""

    blur: tuple[float, float, float]
    centres: Array
    levels: Array
    overall: float
    smoothed: float
    excess: float

    def at(self, grey: FloatArray) -> FloatArray:
        """Return the standard deviation of the noise at these grey values."""
        return np.interp(grey, self.centres, self.levels).astype(np.float32)


@dataclass(frozen=True)
class BoxFindings:
    """Findings in one box.

    Attributes
    ----------
    residual : ndarray of the shape of the box
        Scan minus simulated scan of the result.
    sums : ndarray of shape (10,)
        See `ResidualSums`.
    flagged : int
        Number of flagged voxels.
    spots : ndarray of shape (voxels, 3)
        Positions of the flagged voxels; empty if too many are flagged.
    strengths : ndarray of shape (voxels,)
        The smoothed residual at these positions, less the effect of shifted edges,
        divided by its standard deviation.
    """

    box: Box
    residual: FloatArray
    slope: BlockSums
    sums: Array
    flagged: int
    spots: npt.NDArray[np.int64]
    strengths: FloatArray


@dataclass
class ResidualSums:
    """Sums accumulated over the volume, box by box, in order.

    Attributes
    ----------
    sums : ndarray of shape (10,)
        Over the known voxels: their number, the sums of the squared residual and of the
        squared noise level, and the number of residuals beyond three times the noise
        level. Over the voxels with a gradient: their number, and the sums of the
        residual's magnitude in units of the noise level, of the gradient, of both
        squares and of the product.
    """

    slope: SlopeSums
    sums: Array = field(default_factory=lambda: np.zeros(10))
    flagged: int = 0
    spots: list[npt.NDArray[np.int64]] = field(default_factory=list)
    strengths: list[FloatArray] = field(default_factory=list)

    def add(self, found: BoxFindings) -> None:
        """Add the findings of the next box."""
        self.slope.add(found.slope)
        self.sums += found.sums
        self.flagged += found.flagged
        if len(found.spots) and self.flagged <= MAX_GROUPED_VOXELS:
            self.spots.append(found.spots)
            self.strengths.append(found.strengths)


@dataclass(frozen=True)
class BoxComparison:
    """Compares boxes of a result with the scan, in this or another process.

    Attributes
    ----------
    reach : tuple of int
        Margin that the smoothing needs along each axis, in voxels of the scan.
    widths : tuple of float
        Width of the smoothing along each axis, in voxels.
    limit : float
        Number of standard deviations above which smoothed residuals are flagged.
    """

    pair: Pair
    noise: ResidualNoise
    reach: Sequence[int]
    widths: tuple[float, float, float]
    limit: float

    def __call__(
        self, box: Box, should_stop: ShouldStop = never_stop, worker: int = 0
    ) -> BoxFindings:
        """Compare one box."""
        from scipy import ndimage

        pair, noise = self.pair, self.noise
        around = pair.widened(box, self.reach)
        inner = within(box, around)
        scan, simulated = pair.scan_and_simulation(around, noise.blur)
        smooth, edges, result = smoothed(scan, simulated, self.widths, noise)
        strength = np.abs(smooth) - np.float32(_EDGE_SHIFT) * edges
        strength = (strength / np.float32(noise.smoothed))[inner]
        residual = scan - simulated
        smooth_residual = ndimage.gaussian_filter(
            np.nan_to_num(residual), self.widths, mode="nearest", truncate=TRUNCATE
        )
        residual = residual[inner]
        known = np.isfinite(residual)
        flagged = known & (strength > self.limit)
        n = int(np.count_nonzero(flagged))
        listed = flagged if n <= MAX_GROUPED_VOXELS else np.zeros_like(flagged)
        signed = np.copysign(strength, smooth[inner])
        return BoxFindings(
            box,
            np.asarray(residual, np.float32),
            block_sums(pair.shape, box, result[inner], smooth_residual[inner], known),
            _sums(residual, known, simulated, inner, noise),
            n,
            np.argwhere(listed) + [part.start for part in box],
            signed[listed].astype(np.float32),
        )


def _sums(
    residual: FloatArray,
    known: npt.NDArray[np.bool_],
    simulated: FloatArray,
    inner: Box,
    noise: ResidualNoise,
) -> Array:
    """Return the sums of a box, as in `ResidualSums`."""
    values = residual[known].astype(np.float64)
    level = noise.at(np.nan_to_num(simulated[inner]))
    sizes = np.abs(residual) / level
    beyond = np.count_nonzero(sizes[known] > 3)
    # There is no gradient next to unknown voxels.
    slopes = _gradient(simulated)[inner]
    both = known & np.isfinite(slopes)
    sizes, gradient = (v[both].astype(np.float64) for v in (sizes, slopes))
    return np.array(
        [
            values.size,
            np.dot(values, values),
            np.square(level[known], dtype=np.float64).sum(),
            beyond,
            sizes.size,
            sizes.sum(),
            gradient.sum(),
            np.dot(sizes, sizes),
            np.dot(gradient, gradient),
            np.dot(sizes, gradient),
        ]
    )


def smoothed(
    scan: FloatArray,
    simulated: FloatArray,
    widths: tuple[float, float, float],
    noise: ResidualNoise,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the smoothed residual, the gradient, and the smoothed simulated scan.

    The residual and the gradient are in units of the noise level; the mean of
    ``noise.centres`` is subtracted from the simulated scan.
    """
    from scipy import ndimage

    level = noise.at(np.nan_to_num(simulated))
    residual = np.nan_to_num((scan - simulated) / level)
    # Zero padding keeps values small at the border, where fewer voxels contribute.
    smooth = ndimage.gaussian_filter(
        residual, widths, mode="constant", truncate=TRUNCATE
    )
    middle = np.float32(noise.centres.mean())
    grey = np.where(np.isfinite(simulated), simulated, middle)
    grey = ndimage.gaussian_filter(grey, widths, mode="nearest", truncate=TRUNCATE)
    return smooth, _gradient(grey) / level, grey - middle


def _gradient(values: FloatArray) -> FloatArray:
    """Return the magnitude of the gradient; axes of one voxel are ignored."""
    axes = tuple(i for i, n in enumerate(values.shape) if n > 1)
    if not axes:
        return np.zeros_like(values)
    slopes = np.gradient(values, axis=axes)
    slopes = slopes if isinstance(slopes, (tuple, list)) else [slopes]
    total: FloatArray = np.sqrt(sum(np.square(slope) for slope in slopes))
    return total
