"""Porosity of every slice: a profile along Z, with the standard error of each value."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.phases.findings import Findings, Quantity
from napari_geosr.measure.phases.sampling_error import porosity_variance
from napari_geosr.measure.sums import SweepTotals

TITLE = "Profile along Z"
ABOUT = "Porosity of every slice along Z, and how much it varies."
CONVENTION = (
    "The porosity of a slice is its number of pore voxels ÷ its number of sample "
    "voxels. Its standard error is estimated from 32 × 32 equal fields of the slice: "
    "its square is the mean of the covariance over all pairs of fields, up to the "
    "distance at which it vanishes (Lantuéjoul 1991). Prof.SD is the standard "
    "deviation of the porosity between slices in which the area of the sample is "
    "at least half of its largest area; Prof.min and Prof.max are the extremes in "
    "these slices, and Prof.slope is the slope of the regression line along Z."
)
SOURCES = (
    "Lantuéjoul C. Ergodicity and integral range. J Microsc 161:387-403 (1991), "
    "relation of the variance of a mean to the covariance. "
    "doi:10.1111/j.1365-2818.1991.tb03099.x",
)
QUANTITIES = (
    Quantity(
        "Prof.SD", "standard deviation of the porosity between slices", text="points"
    ),
    Quantity("Prof.min", "lowest porosity of a slice", text="percent"),
    Quantity("Prof.max", "highest porosity of a slice", text="percent"),
    Quantity("Prof.slope", "change of the porosity along Z per unit length", -1),
)
#: Number of fields into which a slice is divided along each axis.
_FIELDS = 32
#: Minimum area of the sample in a slice that is evaluated, as a fraction of the largest
#: area in all slices.
_ENOUGH = 0.5


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the porosity of every slice."""
    scan = phases.scan
    slabs = scan.slabs
    step = _slice_distance(phases)
    parts = []
    yield StageStarted(0, len(slabs), message="Measuring the profile along Z")
    for i, slab in enumerate(slabs):
        pores = _field_counts(scan.planes(scan.pores, slab))
        sample = scan.sample_planes(slab)
        whole = np.ones((1, *scan.shape[1:]), bool) if sample is None else sample
        parts.append((pores, np.broadcast_to(_field_counts(whole), pores.shape)))
        yield BlockDone(i + 1, len(slabs))
    pores, sample = (
        np.concatenate(part).astype(float) for part in zip(*parts, strict=True)
    )
    totals_of_slices = sample.sum(axis=(1, 2))
    known = totals_of_slices > 0
    porosity = pores.sum(axis=(1, 2)) / np.maximum(totals_of_slices, 1)
    used = known & (totals_of_slices >= _ENOUGH * totals_of_slices.max(initial=0))
    found = porosity[used]
    values: dict[str, float | None] = dict.fromkeys(q.name for q in QUANTITIES)
    remarks = []
    if len(found) < 2:
        remarks.append(
            "The profile along Z has no statistics: fewer than two slices contain "
            "enough of the sample."
        )
    else:
        heights = np.flatnonzero(used) * step
        values = {
            "Prof.SD": float(found.std(ddof=1)),
            "Prof.min": float(found.min()),
            "Prof.max": float(found.max()),
            "Prof.slope": _slope(heights, found),
        }
    curve = {
        "distance": (np.flatnonzero(known) * step).tolist(),
        "porosity": porosity[known].tolist(),
        "standard_error": [
            standard_error(p, s)
            for p, s in zip(pores[known], sample[known], strict=True)
        ],
    }
    return Findings(values, remarks, curves={"profile": curve})


def _slice_distance(phases: Phases) -> float:
    """Return the distance between slices of the scan, in edges of cubic voxels."""
    original = phases.original
    return 1.0 if original is None else original.voxel_size[0] / phases.edge


def _field_counts(planes: Mask) -> np.ndarray:
    """Count voxels in the fields, up to 32 × 32, of each slice; shape (Z, Y, X)."""
    _, n_y, n_x = planes.shape
    rows = np.unique(np.arange(_FIELDS) * n_y // _FIELDS)
    columns = np.unique(np.arange(_FIELDS) * n_x // _FIELDS)
    by_rows = np.add.reduceat(planes, rows, axis=1, dtype=np.int64)
    counts: np.ndarray = np.add.reduceat(by_rows, columns, axis=2)
    return counts


def _slope(heights: np.ndarray, porosity: np.ndarray) -> float:
    """Return the slope of the regression line; 0 if it is only a rounding error."""
    slope = float(np.polyfit(heights - heights.mean(), porosity, 1)[0])
    return slope if abs(slope) * len(heights) > 1e-12 else 0.0


def standard_error(pores: np.ndarray, sample: np.ndarray) -> float:
    """Return the standard error of the porosity of a slice, from its fields.

    The error is NaN (unknown) if fewer than two fields contain sample voxels.

    Parameters
    ----------
    pores, sample : ndarray of shape (Y, X)
        Numbers of pore voxels and of sample voxels in each field.

    Examples
    --------
    >>> import numpy as np
    >>> standard_error(np.array([[1, 3]]), np.array([[10, 10]]))
    0.1
    """
    return round(math.sqrt(porosity_variance(pores, sample)), 12)
