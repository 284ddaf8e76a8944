"""Checks whether a restored volume is consistent with its scan.

The restored volume is blurred and averaged over each voxel of the scan. The difference
from the scan, the residual, should be noise. If it is larger, the result contains
structure that is not in the scan, or lacks structure that is. A result that is wrong
everywhere has a similar residual everywhere; therefore, results are also assessed by
the regression of the scan on the result (`slope`), and by comparing the residual with
the scan's own noise (`noise`). The ground truth is not known, so details that the scan
cannot resolve, such as the shape of a pore within a voxel, cannot be checked.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.consistency.boxes import (
    MAX_GROUPED_VOXELS,
    BoxComparison,
    BoxFindings,
    ResidualNoise,
    ResidualSums,
    smoothed,
)
from napari_geosr.measure.consistency.noise import Windows, excess, windows
from napari_geosr.measure.consistency.regions import MismatchRegion, mismatch_regions
from napari_geosr.measure.consistency.slope import SlopeSums
from napari_geosr.measure.resolution.redegrade import (
    TRUNCATE,
    Box,
    Pair,
    blur_reach,
    evenly,
    within,
)
from napari_geosr.measure.slabs.sharing import SlabPool

Array = npt.NDArray[np.float64]

#: Candidate standard deviations of the blur, in voxels of the scan; the one with the
#: smallest residual is used.
_BLURS = (0.0, 0.35, 0.6, 0.85, 1.1, 1.5)
#: Edge length of the boxes that are distributed to processes, in voxels of the result.
_SHARED_EDGE = 192
#: Approximate number of result voxels from which blur and noise are estimated.
_SAMPLE_VOXELS = 1 << 20
#: Edge length of the sampled boxes, in voxels.
_SAMPLE_EDGE = 64
#: Number of grey-value classes with equal voxel counts; each has its own noise level.
_LEVELS = 12
#: Minimum width of a class, as a fraction of the range of grey values.
_MIN_CLASS_WIDTH = 1e-3
#: Minimum noise of a class, as a fraction of the median of all classes.
_MIN_NOISE = 0.2
#: Standard deviation of the smoothing of the residual, in units of the smallest voxel
#: edge: a pore of a few voxels then stands out even from noise stronger than its
#: contrast.
SMOOTHING = 1.5
#: Number of standard deviations by which a flagged residual must exceed the expected
#: maximum of pure noise.
_MARGIN = 1.2
#: Absolute correlation above which the residual follows the structure of the result.
STRUCTURE_LIMIT = 0.1
#: Limits of the regression slope of the scan on a consistent result, with a tolerance
#: of three standard errors. Conservative models have slopes above 1 when the
#: noise is strong: they underestimate contrast.
SLOPE_LIMITS = (0.92, 1.25)
_SLOPE_ERRORS = 3.0
#: Maximum noise in the noisiest windows of a residual that is pure noise, relative to
#: that in quiet windows of the scan.
EXCESS_LIMIT = 1.3
#: Maximum RMS of a residual that is pure noise, relative to the noise.
RMS_LIMIT = 1.25
#: Maximum fraction of voxels beyond three standard deviations in a residual that is
#: pure noise.
BEYOND_LIMIT = 0.05
_MAD = 1.4826


Fault = Literal[
    "uniform",
    "shows too much",
    "shows too little",
    "places",
    "excess",
    "structure",
    "large",
]


@dataclass(frozen=True)
class Consistency:
    """Agreement of a result with its scan.

    Attributes
    ----------
    residual_rms : float
        Root mean square of scan minus simulated scan of the result, in grey values.
    noise : float
        Noise of the scan: robust standard deviation of the residual, hardly affected by
        edges and outliers.
    beyond_3_sigma : float
        Fraction of voxels with a residual beyond three standard deviations of the noise
        at their grey value; 0.0027 for Gaussian noise.
    noise_rms : float
        Root mean square of the noise level at the voxels' grey values, which is the
        expected `residual_rms` if the residual is pure noise.
    structure : float
        Correlation of the residual's magnitude, in units of the noise, with the
        gradient of the result: about 0 for noise, positive if edges or fine structure
        have changed, negative if whole phases have changed.
    slope : float or None
        Regression slope of the scan on the result, both smoothed: 1 if the contrast of
        both agrees, smaller if the result exaggerates or invents structure, larger if
        it underestimates contrast. None if the result is uniform, or the volume is too
        small.
    slope_error : float or None
        Standard error of the slope.
    is_uniform : bool
        Whether the result is uniform.
    excess : float
        Variation of the residual within a few voxels, relative to that of the scan in
        uniform regions: about 1 or less for noise, whatever its correlation.
    blur : tuple of float
        Standard deviation of the best-fitting point-spread function along each axis, in
        voxels of the scan.
    limit : float
        Number of standard deviations above which smoothed residuals are flagged.
    flagged_voxels : int
        Number of voxels beyond the limit.
    places : tuple of MismatchRegion
        Regions of flagged voxels, strongest first; empty if more than 200 000 voxels
        are flagged.
    """

    residual_rms: float
    noise: float
    noise_rms: float
    beyond_3_sigma: float
    structure: float
    slope: float | None
    slope_error: float | None
    is_uniform: bool
    excess: float
    blur: tuple[float, ...]
    limit: float
    flagged_voxels: int
    places: tuple[MismatchRegion, ...]

    @property
    def is_consistent(self) -> bool:
        """Whether all values are within the limits, which allow for noise."""
        return not self.faults

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Findings beyond the limits, most serious first."""
        found: dict[Fault, bool] = {
            "uniform": self.is_uniform,
            "shows too much": self._slope_is_beyond(SLOPE_LIMITS[0], -1),
            "shows too little": self._slope_is_beyond(SLOPE_LIMITS[1], 1),
            "places": self.flagged_voxels > 0,
            "excess": self.excess > EXCESS_LIMIT,
            "structure": abs(self.structure) > STRUCTURE_LIMIT,
            "large": self.residual_rms > RMS_LIMIT * self.noise_rms
            or self.beyond_3_sigma > BEYOND_LIMIT,
        }
        return tuple(name for name, is_found in found.items() if is_found)

    def _slope_is_beyond(self, limit: float, sign: int) -> bool:
        if self.slope is None or self.slope_error is None:
            return False
        return sign * (self.slope - limit) > _SLOPE_ERRORS * self.slope_error


def consistency_steps(
    pair: Pair,
    residual: Any,
    voxel_size: Sequence[float],
    *,
    name: str = "scan",
    pool: SlabPool | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Consistency]:
    """Compare a result with its scan, box by box.

    Parameters
    ----------
    residual : array-like of the scan's shape, floating
        Receives scan minus simulated scan of the result; NaN where either is unknown.
    voxel_size : sequence of float
        Voxel size of the scan along Z, Y, X.
    pool : SlabPool, optional
        Processes that share the boxes, which are then smaller. The result does not
        depend on the number of processes.

    Returns
    -------
    Consistency

    Raises
    ------
    VolumeError
        If the scan and the result have no voxels in common.
    Cancelled
        If `should_stop` returns True.
    """
    widths = _widths(voxel_size, pair.shape)
    yield StageStarted(message="Estimating blur and noise of the scan")
    noise = _estimate(pair, widths, name, should_stop)
    reach = _reach(widths)
    outer = tuple(a + b for a, b in zip(reach, blur_reach(noise.blur), strict=True))
    boxes = pair.boxes(outer, None if pool is None else _SHARED_EDGE)
    limit = math.sqrt(2 * math.log(max(2, math.prod(pair.shape)))) + _MARGIN
    sums = ResidualSums(SlopeSums(pair.shape))
    work = BoxComparison(pair, noise, reach, widths, limit)
    yield StageStarted(0, len(boxes), message="Comparing with the scan")
    with closing(_findings(work, boxes, pool, should_stop)) as findings:
        for done, found in enumerate(findings, start=1):
            residual[found.box] = found.residual
            sums.add(found)
            yield BlockDone(done, len(boxes))
    return _result(sums, noise, limit)


def _findings(
    work: BoxComparison,
    boxes: Sequence[Box],
    pool: SlabPool | None,
    should_stop: ShouldStop,
) -> Generator[BoxFindings, None, None]:
    """Compare the boxes in order, in the processes of a pool if there is one."""
    try:
        if pool is not None and len(boxes) > 1:
            yield from pool.results(work, boxes, should_stop)
            return
        for box in boxes:
            if should_stop():
                raise Cancelled("Stopped.")
            yield work(box)
    except Cancelled:
        raise Cancelled("The comparison with the scan was cancelled.") from None


def _widths(
    voxel_size: Sequence[float], shape: Sequence[int]
) -> tuple[float, float, float]:
    """Return the smoothing's standard deviation in voxels; 0 along axes of length 1."""
    smallest = min(voxel_size)
    z, y, x = (
        SMOOTHING * smallest / edge if n > 1 else 0.0
        for edge, n in zip(voxel_size, shape, strict=True)
    )
    return z, y, x


def _reach(widths: Sequence[float]) -> tuple[int, int, int]:
    z, y, x = (math.ceil(TRUNCATE * w + 1) + 1 if w else 0 for w in widths)
    return z, y, x


def _estimate(
    pair: Pair,
    widths: tuple[float, float, float],
    name: str,
    should_stop: ShouldStop,
) -> ResidualNoise:
    """Estimate blur and noise from some boxes of the volume."""
    widest = max(_BLURS)
    reach = tuple(
        a + b for a, b in zip(_reach(widths), blur_reach((widest,) * 3), strict=True)
    )
    boxes = pair.boxes(reach, _SAMPLE_EDGE)
    sample = list(evenly(boxes, _SAMPLE_VOXELS // math.prod(pair.factors)))
    blur = _best_blur(pair, sample, should_stop)
    parts = []
    for box in sample:
        around = pair.widened(box, _reach(widths))
        parts.append((within(box, around), *pair.scan_and_simulation(around, blur)))
    grey = np.concatenate([simulated[inner].ravel() for inner, _, simulated in parts])
    residual = np.concatenate([(s - sim)[inner].ravel() for inner, s, sim in parts])
    known = np.isfinite(residual)
    grey, residual = grey[known], residual[known]
    if not len(residual):
        raise VolumeError(
            f"There is no voxel at which both {name!r} and its result are finite. "
            "Check that this is the right result."
        )
    variances: list[Windows] = [windows(s, s - sim, inner) for inner, s, sim in parts]
    edges = _class_edges(grey)
    centres, levels = [float(grey.mean())], [_robust_std(residual)]
    if len(edges) > 2:
        classes = np.clip(np.searchsorted(edges, grey, "right") - 1, 0, len(edges) - 2)
        # Sort by class, so that every voxel is visited once.
        order = np.argsort(classes, kind="stable")
        cuts = np.searchsorted(classes[order], np.arange(1, len(edges) - 1))
        centres = list((edges[1:] + edges[:-1]) / 2)
        levels = [_robust_std(part) for part in np.split(residual[order], cuts)]
    overall = _robust_std(residual)
    minimum = max(_MIN_NOISE * float(np.median(levels)), float(np.finfo("f4").tiny))
    noise = ResidualNoise(
        blur,
        np.array(centres),
        np.maximum(levels, minimum),
        overall,
        smoothed=1.0,
        excess=excess(variances, pair.shape),
    )
    smooth = [
        smoothed(scan, simulated, widths, noise)[0][inner].ravel()
        for inner, scan, simulated in parts
    ]
    return replace(noise, smoothed=_robust_std(np.concatenate(smooth)) or 1.0)


def _class_edges(grey: Array) -> Array:
    """Return quantiles of the grey values that differ by more than rounding errors.

    A phase of a noise-free result has a single grey value. If rounding errors divided
    it into several classes, the noise levels would depend on these errors.
    """
    edges: Array = np.quantile(grey, np.linspace(0, 1, _LEVELS + 1))
    least = _MIN_CLASS_WIDTH * float(edges[-1] - edges[0])
    wide: Array = edges[np.diff(edges, prepend=-np.inf) > least]
    return wide


def _best_blur(
    pair: Pair, sample: Sequence[Box], should_stop: ShouldStop
) -> tuple[float, float, float]:
    """Return the blur, along Z and in the plane, that gives the smallest residual."""
    deep = pair.shape[0] > 1

    @cache
    def power(along: int, plane: int) -> float:
        """Return the mean squared residual for the blurs with these indices."""
        blur = (_BLURS[along] if deep else 0.0, _BLURS[plane], _BLURS[plane])
        if should_stop():
            raise Cancelled("The comparison with the scan was cancelled.")
        total, n = 0.0, 0
        for box in sample:
            scan, simulated = pair.scan_and_simulation(box, blur)
            residual = scan - simulated
            residual = residual[np.isfinite(residual)]
            total += float(np.square(residual, dtype=np.float64).sum())
            n += residual.size
        return total / max(1, n)

    numbers = range(len(_BLURS))
    best = min((power(i if deep else 0, i), (i if deep else 0, i)) for i in numbers)[1]
    while deep:  # descend until no neighbour is better
        near = [
            (i, j)
            for i in numbers[max(0, best[0] - 1) : best[0] + 2]
            for j in numbers[max(0, best[1] - 1) : best[1] + 2]
        ]
        lower = min(near, key=lambda at: power(*at))
        if lower == best:
            break
        best = lower
    along, plane = _BLURS[best[0]] if deep else 0.0, _BLURS[best[1]]
    return along, plane, plane


def _result(sums: ResidualSums, noise: ResidualNoise, limit: float) -> Consistency:
    n, squares, noise_squares, beyond, n_pairs, *pairs = sums.sums.tolist()
    n, n_pairs = max(1, n), max(1, n_pairs)
    a, b, aa, bb, ab = (value / n_pairs for value in pairs)
    slope = sums.slope.slope()
    spread = math.sqrt(max(0.0, aa - a * a) * max(0.0, bb - b * b))
    return Consistency(
        residual_rms=math.sqrt(squares / n),
        noise=noise.overall,
        noise_rms=math.sqrt(noise_squares / n),
        beyond_3_sigma=beyond / n,
        structure=float((ab - a * b) / spread) if spread > 0 else 0.0,
        slope=None if slope is None else slope[0],
        slope_error=None if slope is None else slope[1],
        is_uniform=sums.slope.is_result_uniform,
        excess=noise.excess,
        blur=noise.blur,
        limit=limit,
        flagged_voxels=sums.flagged,
        places=mismatch_regions(sums.spots, sums.strengths)
        if sums.flagged <= MAX_GROUPED_VOXELS
        else (),
    )


def _robust_std(values: AnyArray) -> float:
    """Return the standard deviation estimated from the median absolute deviation."""
    if not len(values):
        return 0.0
    return float(_MAD * np.median(np.abs(values - np.median(values))))
