"""Porosity of sub-volumes: their spread, and an interval by bootstrap."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.number_text import percent_text
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.findings import Findings, Quantity
from napari_geosr.measure.phases.parts import add_planes
from napari_geosr.measure.phases.sampling_error import (
    FEWEST_INDEPENDENT,
    NORMAL_FACTOR,
    independent_parts,
    porosity_variance,
    student_factor,
)
from napari_geosr.measure.sums import SweepTotals

TITLE = "Sub-volumes"
ABOUT = "Porosity of sub-volumes: variation, 95 % interval, representative size."
CONVENTION = (
    "The smallest box around the sample is divided into nearly cubic sub-volumes, "
    "four along its longest edge, or more if the box is flat (edges of a sub-volume "
    "differ by at most 25 %); those with at least half of their voxels in the "
    "sample are used. Voxels that are not cubic may lie in two sub-volumes, and count "
    "in each in proportion to the part inside it. Sub.low and Sub.high are the 2.5th "
    "and 97.5th percentiles of the porosity of 2000 bootstrap samples of the "
    "sub-volumes, drawn with replacement (seed 0), widened because neighbouring "
    "sub-volumes are correlated: their distances from the mean are multiplied by "
    "t ÷ 1.96 × the standard error of the porosity ÷ that of the bootstrap, if this "
    "is more than 1. The variance of the porosity of the sample is the mean of the "
    "covariance over all pairs of smaller sub-volumes (up to 16 along the longest "
    "edge), up to the distance at which it vanishes (Lantuéjoul 1991); t is the 97.5th "
    "percentile of Student's distribution for n − 1 (at least 4) degrees of freedom, "
    "where n is the number of independent sub-volumes that would give this variance. "
    "If n is below 3, Sub.low and Sub.high are not given. RVE is the mean edge length "
    "at and above which 1.96 standard deviations of the porosity of sub-volumes are at "
    "most 5 % of the porosity φ (Kanit et al. 2003): 1.96 SD ÷ φ ≤ 0.05."
)
SOURCES = (
    "Kanit T, Forest S, Galliet I, Mounoury V, Jeulin D. Determination of the size "
    "of the representative volume element for random composites. Int J Solids Struct "
    "40:3647-3679 (2003), definition of the representative volume by its error. "
    "doi:10.1016/S0020-7683(03)00143-4",
    "Lantuéjoul C. Ergodicity and integral range. J Microsc 161:387-403 (1991), "
    "relation of the variance of a mean to the covariance. "
    "doi:10.1111/j.1365-2818.1991.tb03099.x",
    "Efron B, Tibshirani RJ. An Introduction to the Bootstrap. Chapman & Hall "
    "(1993), definition of the percentile interval. doi:10.1007/978-1-4899-4541-9",
)
QUANTITIES = (
    Quantity("Sub.N", "sub-volumes inside the sample"),
    Quantity("Sub.SD", "standard deviation of their porosity", text="points"),
    Quantity("Sub.low", "porosity, lower end of the 95 % interval", text="percent"),
    Quantity("Sub.high", "porosity, upper end of the 95 % interval", text="percent"),
    Quantity(
        "RVE",
        "edge length at which the porosity of sub-volumes varies by at most ± 5 %",
        1,
    ),
)
#: Minimum number of sub-volumes along the longest edge for the interval.
_PARTS = 4
#: Maximum ratio of the longest to the shortest edge of a sub-volume.
_MOST_UNEQUAL = 1.25
#: Minimum edge length of a sub-volume for the interval, in voxels.
_LEAST_EDGE = 2
#: Numbers of sub-volumes along the longest edge for the points of the curve.
_CURVE = (16, 12, 8, 6, 4, 3, 2)
#: Minimum edge length of a sub-volume for the curve, in voxels.
_SMALLEST = 4
#: Number of bootstrap samples.
_RESAMPLED = 2000
#: Minimum number of sub-volumes for an interval.
_FEWEST = 8
#: Number of independent sub-volumes below which there is no interval.
_LEAST_INDEPENDENT = 3.0
#: Number of sub-volumes below which their standard deviation, and hence RVE, is
#: uncertain.
_ENOUGH = 27
#: Accepted relative error of the porosity of a representative volume.
_ACCEPTED = 0.05
#: Maximum relative difference between porosities that may be due to rounding.
_ROUNDING = 0.005


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Count the pore voxels of sub-volumes, and resample the sub-volumes."""
    scan = phases.scan
    shape = _edges(scan)
    divisions = _divisions(shape)
    if not divisions:
        sizes = " × ".join(map(str, scan.sample_shape[1 if scan.flat else 0 :]))
        return Findings(
            {},
            [
                "There are no sub-volumes: the smallest box around the sample "
                f"({sizes} voxels) cannot be divided into enough nearly cubic parts. "
                "Measure a larger or thicker volume."
            ],
        )
    counts = yield from _counted(scan, shape, divisions)
    fractions = [_fractions(*found) for found in counts]
    own = fractions[0]
    values: dict[str, float | None] = {"Sub.N": len(own[0])}
    remarks = []
    if len(own[0]) < _FEWEST:
        remarks.append(
            f"Only {len(own[0])} sub-volumes lie in the sample, too few for an "
            "interval. Measure a larger volume."
        )
        return Findings(values, remarks)
    values["Sub.SD"] = float((own[0] / own[1]).std(ddof=1))
    smallest = max(counts, key=lambda found: found[0].size)
    independent, width = _set_interval(values, own, porosity_variance(*smallest[:2]))
    porosity = totals.pore_voxels / totals.sample_voxels
    remarks += _correlated(independent)
    remarks += _coverage(own, width, totals, scan.sample_voxels)
    rows = [
        (_edge(shape, numbers), float((p / s).std(ddof=1)), len(p))
        for numbers, (p, s) in zip(divisions, fractions, strict=True)
        if len(p) >= _FEWEST
    ]
    rows.sort()
    if not 0 < porosity < 1:
        which = "pores" if porosity else "solid"
        remarks.append(
            "RVE (representative volume) cannot be determined: the sample contains "
            f"only {which}."
        )
    elif (found := _representative(rows, porosity)) is not None:
        values["RVE"], n, n_sizes = found
        if n_sizes == 1:
            remarks.append(
                "RVE (representative volume) is uncertain: the porosity of smaller "
                "sub-volumes varies by more than ± 5 %, so only the largest size is "
                "representative, and no larger one confirms it. Measure a larger "
                "volume."
                if len(rows) > 1
                else "RVE (representative volume) is uncertain: sub-volumes of only "
                "one size fit into the sample. Measure a larger volume."
            )
        if n < _ENOUGH:
            remarks.append(
                f"RVE (representative volume) is uncertain: only {n} sub-volumes have "
                "this size. The standard deviation of their porosity has an error of "
                f"about ± {200 / math.sqrt(2 * (n - 1)):.0f} %, and it can be too "
                "small by chance or because the sample is symmetric. Measure a larger "
                "volume."
            )
    else:
        remarks.append(
            "RVE (representative volume) cannot be determined: even the porosity of "
            "the largest sub-volumes varies by more than ± 5 %. `napari-geosr plan` "
            "estimates how large a representative volume would have to be."
        )
    curve = {"distance": [e for e, _, _ in rows], "SD": [sd for _, sd, _ in rows]}
    return Findings(values, remarks, curves={"subvolumes": curve})


#: Numbers of voxels; fractions of voxels if the edges of sub-volumes cut them.
Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]
#: Edges of the box around the sample, in units of the shortest edge of a voxel.
Edges = tuple[float, float, float]
#: Numbers of sub-volumes along Z, Y, X.
Division = tuple[int, ...]


def _edges(scan: Phases) -> Edges:
    (n_z, n_y, n_x), (z, y, x) = scan.sample_shape, scan.voxel
    return n_z * z, n_y * y, n_x * x


def _divisions(shape: Edges) -> list[Division]:
    """Return the divisions of a box; the first one is that for the interval.

    The list is empty if the box cannot be divided into nearly cubic sub-volumes.
    """
    longest = max(shape)
    numbers = range(_PARTS, max(_PARTS, int(longest // _SMALLEST)) + 1)
    own = next(
        (d for n in numbers if (d := _nearly_cubic(shape, n, _LEAST_EDGE))), None
    )
    if own is None:
        return []
    curve = [_nearly_cubic(shape, n, _SMALLEST) for n in _CURVE]
    return [own, *(d for d in curve if d is not None and d != own)]


def _nearly_cubic(shape: Edges, n: int, least: int) -> Division | None:
    """Divide a box into nearly cubic parts, `n` of them along its longest edge.

    Returns None if the parts would be too small, or not nearly cubic.

    Parameters
    ----------
    shape : tuple of 3 float
    n : int
    least : int
        Minimum edge length of a part.
    """
    division = tuple(max(1, round(k * n / max(shape))) for k in shape)
    edges = [k / m for k, m in zip(shape, division, strict=True) if k > 1]
    if not edges or min(edges) < least or max(edges) > _MOST_UNEQUAL * min(edges):
        return None
    return division


def _edge(shape: Edges, division: Division) -> float:
    """Return the mean edge length of a part."""
    edges = [k / m for k, m in zip(shape, division, strict=True) if k > 1]
    return sum(edges) / len(edges)


def _correlated(independent: float) -> list[str]:
    """Remark on an interval from few independent sub-volumes."""
    if independent >= FEWEST_INDEPENDENT:
        return []
    problem = "are unreliable"
    if independent < _LEAST_INDEPENDENT:
        problem = "are not given"
    return [
        f"Sub.low and Sub.high {problem}: the porosity is correlated over so "
        "large a part of the sample that the sub-volumes are equivalent to only "
        f"{independent:.1f} independent ones. Measure a larger volume."
    ]


def _coverage(
    own: tuple[Counts, Counts],
    width: float,
    totals: SweepTotals,
    sample_voxels: int,
) -> list[str]:
    """Remark on a difference between the sub-volumes and the whole sample.

    The difference is compared with the width of the interval from the bootstrap alone:
    the porosity of this sample does not depend on the correlation of its parts.
    """
    pores, sample = (float(part.sum()) for part in own)
    porosity, average = totals.pore_voxels / totals.sample_voxels, pores / sample
    if abs(average - porosity) <= max(width / 4, _ROUNDING * porosity):
        return []
    return [
        f"The sub-volumes cover only {percent_text(sample / sample_voxels)} of "
        f"the sample; their mean porosity is {percent_text(average)} instead of "
        f"{percent_text(porosity)}. The values of sub-volumes do not apply to the "
        "whole sample."
    ]


def _counted(
    scan: Phases, shape: Edges, divisions: Sequence[Division]
) -> Generator[Step, None, list[tuple[Counts, Counts, Counts]]]:
    """Count pore, sample and all voxels in sub-volumes, for each division."""
    limits, counts = [], []
    for division in divisions:
        z, y, x = (
            box.start + np.array([*np.rint(np.arange(m) * k / m), k]) / voxel
            for m, k, box, voxel in zip(
                division, shape, scan.sample_box, scan.voxel, strict=True
            )
        )
        whole = np.diff(z)[:, None, None] * np.diff(y)[:, None] * np.diff(x)
        is_cut = any((each != np.rint(each)).any() for each in (z, y, x))
        found = whole if is_cut else whole.astype(np.int64)
        limits.append((z, y, x))
        counts.append((np.zeros_like(found), np.zeros_like(found), found))
    slabs = scan.slabs
    yield StageStarted(0, len(slabs), message="Measuring sub-volumes")
    for i, slab in enumerate(slabs):
        pores = scan.planes(scan.pores, slab)
        sample = scan.sample_planes(slab)
        for own, targets in zip(limits, counts, strict=True):
            for target, mask in zip(targets, (pores, sample), strict=False):
                if mask is not None:
                    add_planes(target, mask, slab.start, own)
        yield BlockDone(i + 1, len(slabs))
    return [
        (p, s if scan.sample is not None else whole, whole) for p, s, whole in counts
    ]


def _fractions(pores: Counts, sample: Counts, whole: Counts) -> tuple[Counts, Counts]:
    """Return the voxel counts of the sub-volumes in the sample, sorted by porosity."""
    used = 2 * sample >= whole
    p, s = pores[used], sample[used]
    order = np.lexsort((s, p / s))  # so that axis order does not affect the draws
    return p[order], s[order]


def _set_interval(
    values: dict[str, float | None], own: tuple[Counts, Counts], variance: float
) -> tuple[float, float]:
    """Set the 95 % interval of the porosity, unless it would be meaningless.

    Parameters
    ----------
    values : dict
        Receives the new values.
    own : tuple of 2 ndarray
        Pore voxels and sample voxels of the sub-volumes.
    variance : float
        Variance of the porosity of the whole sample.

    Returns
    -------
    independent : float
        Number of independent sub-volumes that would give the same interval.
    width : float
        Width of the interval of the bootstrap, without the correlation.
    """
    pores, sample = own
    n = len(pores)
    drawn = np.random.default_rng(0).integers(0, n, (_RESAMPLED, n))
    found = pores[drawn].sum(axis=1) / sample[drawn].sum(axis=1)
    resampled = float(found.var())
    between = float((pores / sample).var(ddof=1))
    independent = independent_parts(between, max(variance, resampled), n)
    factor = 1.0
    if resampled > 0:
        errors = math.sqrt(max(1.0, variance / resampled))
        factor = errors * max(1.0, student_factor(independent) / NORMAL_FACTOR)
    mean = float(pores.sum() / sample.sum())
    low, high = (float(end) for end in np.quantile(found, (0.025, 0.975)))
    if independent >= _LEAST_INDEPENDENT:
        values["Sub.low"] = max(0.0, mean - factor * (mean - low))
        values["Sub.high"] = min(1.0, mean + factor * (high - mean))
    return independent, high - low


def _representative(
    rows: Sequence[tuple[float, float, int]], porosity: float
) -> tuple[float, int, int] | None:
    """Find the smallest edge at and above which the spread is within its limit.

    Returns
    -------
    tuple of float, int and int, or None
        The edge, the number of sub-volumes of this size, and the number of sizes within
        the limit; None if there is no such edge.
    """
    found = None
    for n_sizes, (edge, sd, n) in enumerate(reversed(rows), start=1):
        if NORMAL_FACTOR * sd > _ACCEPTED * porosity:
            break
        found = edge, n, n_sizes
    return found
