"""Plans how many spots of a sample to scan, of what size, and where.

The porosity of spots varies around the porosity of the sample. The standard deviation
between spots is determined from cubes of the spot's size in an existing scan: a
low-resolution scan of the whole sample, or a high-resolution scan of a single spot.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import ExitStack
from statistics import NormalDist

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.units import shown_units
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.lazy import cache_limited
from napari_geosr.measure.morphometry.two_point import decay_length, lags, pair_steps
from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.planning.cells import (
    SMALLEST_SPOT,
    Cubes,
    SpotCounts,
    cell_steps,
    whole_voxels,
)
from napari_geosr.measure.planning.config import PlanConfig
from napari_geosr.measure.planning.own_interval import interval_of_scan
from napari_geosr.measure.planning.remarks import plan_remarks, size_remarks
from napari_geosr.measure.planning.result import FEWEST, Costs, ScanPlan, SizeRow, Spot
from napari_geosr.measure.planning.variation import MOST_EXTRAPOLATED, Variation
from napari_geosr.measure.porosity import searched, segment_steps
from napari_geosr.measure.porosity_run import PorosityRun, SweepProgress, prepare
from napari_geosr.measure.remarks import remarks as grey_remarks
from napari_geosr.measure.segment import shifted_thresholds
from napari_geosr.measure.thresholds.stages import hysteresis_steps

#: Minimum number of cubes for a standard deviation, by what was scanned (the whole
#: sample or one spot) and the number of axes.
_ENOUGH = {"whole": {2: 4, 3: 8}, "spot": {2: 16, 3: 27}}
#: Maximum edge of cubes in a scan of one spot, relative to the scan's shortest edge.
_PART = 0.25
#: Relative tolerance to which the half-width of an interval is computed.
_TOLERANCE = 1e-9
#: Difference between two porosities that is only due to rounding.
_ROUNDING = 1e-12


def plan_steps(
    volume: Volume,
    config: PlanConfig,
    mask: ArrayLike | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ScanPlan]:
    """Plan the scan of a sample from an existing scan of the sample, or of one spot.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.
    config : PlanConfig
    mask : ArrayLike of the volume's shape, optional
        Sample mask; non-zero inside the sample.
    should_stop : callable
        Called for every slab.

    Yields
    ------
    Step

    Returns
    -------
    ScanPlan

    Raises
    ------
    VolumeError
        If the volume has no pores or only pores, or the spot is too small or too large
        for the volume.
    Cancelled
        If `should_stop` returns True.
    """
    volume = volume.select()
    own = config.porosity_config()
    run, warnings = prepare(volume, own, mask, None, None, False, should_stop, None)
    yield from (WarningIssued(message=message) for message in warnings)
    with ExitStack() as caches:
        for array, nbytes in run.plan.caches:
            caches.enter_context(cache_limited(array, nbytes))
        wanted, shortest = _spot_and_scan(run, config)
        progress = SweepProgress(2 * len(run.slabs))
        histogram, threshold = yield from segment_steps(run, warnings, progress)
        for message in grey_remarks(
            histogram, own, threshold, volume.name, searched(run)
        ):
            yield WarningIssued(message=message)
        if config.hysteresis is not None:
            limits = shifted_thresholds(histogram, threshold)
            yield from hysteresis_steps(run, histogram, threshold, limits)
        phases = run.phases(threshold, histogram.n_nonfinite, purpose="the plan")
    for note in phases.notes:
        yield WarningIssued(message=note)
    fitting = shortest * (1.0 if config.scan == "whole" else _PART)
    counts = yield from cell_steps(phases, whole_voxels(min(wanted, fitting)))
    # Spots must consist of whole voxels only if they are placed in this scan.
    spot = float(counts.spots.edge) if config.scan == "whole" else wanted
    distances = lags(phases.shape, phases.flat)
    axes = (1, 2) if phases.flat else (0, 1, 2)
    both, pairs = yield from pair_steps(phases, axes, distances)
    s2 = both.sum(axis=0) / np.maximum(pairs.sum(axis=0), 1)
    known = pairs.sum(axis=0) > 0
    found = np.array(distances, float)[known]
    enough = _ENOUGH[config.scan][2 if phases.flat else 3]
    variation = _variation(volume, counts, enough, found, s2[known])
    length = decay_length([int(d) for d in found], s2[known])
    plan = _plan(
        volume, config, phases, counts, (wanted, spot), variation, length, threshold
    )
    for remark in plan.remarks:
        yield WarningIssued(message=remark)
    return plan


def _spot_and_scan(run: PorosityRun, config: PlanConfig) -> tuple[float, float]:
    """Return the edge of a spot and the shortest edge of the scan, in voxels.

    Raises
    ------
    VolumeError
        If the spot is too small or too large, or the voxel size is unknown.
    """
    geometry, name = run.geometry, run.name
    first = 1 if geometry.flat else 0
    sizes = list(geometry.voxel_size)[first:]
    lengths = [n * v for n, v in zip(run.shape[first:], sizes, strict=True)]
    voxel, shortest = min(sizes), min(lengths)
    unit = shown_units(geometry.unit, sizes)
    try:
        edge = config.spot_edge(shortest, voxel, geometry.unit)
    except ValueError as error:
        raise VolumeError(
            f"Scans cannot be planned from {name!r}: {error}. Give the voxel size "
            "(--voxel-size, --unit)."
        ) from error
    if config.is_relative:
        # A spot given in per cent of a small scan is never rejected as too small.
        edge = max(edge, SMALLEST_SPOT * voxel)
    spot = f"A spot of {number_text(edge)} {unit}"
    if shortest < 4 * SMALLEST_SPOT * voxel:
        raise VolumeError(
            f"{name!r} is only {shortest / voxel:.3g} voxels wide; a plan needs at "
            f"least {4 * SMALLEST_SPOT}. Use a larger scan, or one with smaller "
            "voxels."
        )
    if edge < SMALLEST_SPOT * voxel:
        raise VolumeError(
            f"{spot} is only {_voxels_text(edge / voxel)} wide in {name!r}; at least "
            f"{SMALLEST_SPOT} are needed. Choose a larger spot, or use a scan with "
            "smaller voxels.",
            fields=["spot"],
        )
    if edge > MOST_EXTRAPOLATED * shortest:
        raise VolumeError(
            f"{spot} is more than {MOST_EXTRAPOLATED} times as wide as {name!r} "
            f"({number_text(shortest)} {unit}): how much such spots differ cannot be "
            "predicted from this scan. Choose a smaller spot, or use a larger scan.",
            fields=["spot"],
        )
    if config.scan == "whole" and edge > shortest / 2:
        raise VolumeError(
            f"{spot} is more than half as wide as {name!r} "
            f"({number_text(shortest)} {unit}). "
            "Scan the whole sample, or choose a smaller spot. If this scan shows only "
            "one spot of a larger sample, state that (--scan spot).",
            fields=["spot"],
        )
    return edge / voxel, shortest / voxel


def _voxels_text(number: float) -> str:
    """Format a small number of voxels: ``1 voxel``, ``2.5 voxels``."""
    text = f"{number:.2g}"
    return f"{text} voxel{'' if text == '1' else 's'}"


def _variation(
    volume: Volume,
    counts: SpotCounts,
    enough: int,
    distances: np.ndarray,
    s2: np.ndarray,
) -> Variation:
    """Return the variation of the porosity of cubes as a function of their size."""
    ndim = 2 if counts.cells.flat else 3
    measured = tuple(c for c in counts.all_sizes() if len(c) >= enough)
    if not measured:
        raise VolumeError(
            f"Too few cubes of {volume.name!r} lie inside the sample for a plan. Use "
            "a larger scan or a smaller spot."
        )
    if not any(c.sd > 0 for c in measured):
        raise VolumeError(
            f"{volume.name!r} has no pores, or only pores, at this threshold, so no "
            "plan is possible. Choose another threshold."
        )
    return Variation(measured, distances, s2, ndim)


def _plan(
    volume: Volume,
    config: PlanConfig,
    phases: Phases,
    counts: SpotCounts,
    edges: tuple[float, float],
    variation: Variation,
    length: float | None,
    threshold: float,
) -> ScanPlan:
    """Compute the number of spots and their positions.

    Parameters
    ----------
    edges : tuple of 2 float
        Edge of a spot in voxels: as requested, and as planned.
    """
    whole = config.scan == "whole"
    wanted, spot = edges
    spots = counts.spots
    scan = phases.scan
    porosity = scan.count(scan.pores) / scan.sample_voxels
    accepted = float(config.precision) * porosity
    rows = [
        _row(cubes.edge, cubes, scan, porosity, config, variation)
        for cubes in counts.all_sizes()
        if cubes.edge >= SMALLEST_SPOT and len(cubes) >= FEWEST
    ]
    own = _row(spot, spots, scan, porosity, config, variation)
    n = own.n_spots
    factor = _factor(config, variation, spot)
    edge = variation.representative_edge(accepted, factor)
    places = _places(spots, n, config.seed, phases) if whole else ()
    alone = None
    if not whole:
        alone = interval_of_scan(counts.cells, porosity, float(config.confidence))
    return ScanPlan(
        name=volume.name,
        unit=phases.unit,
        voxel_size=phases.edge,
        flat=phases.flat,
        whole=whole,
        threshold=threshold,
        porosity=porosity,
        accepted_error=accepted,
        confidence=float(config.confidence),
        spot_edge=spot * phases.edge,
        sd=own.sd,
        n_spots=n,
        n_possible=len(spots) if whole else None,
        covered=spots.sample / scan.sample_voxels if whole else None,
        covered_porosity=float(spots.porosity.mean()) if whole else None,
        half_width=own.half_width,
        scan_interval=None if alone is None else alone.ends,
        correlation_length=None if length is None else length * phases.edge,
        representative_edge=None if edge is None else edge * phases.edge,
        sizes=tuple(rows),
        spots=places,
        costs=_costs(config, n, len(spots) if whole else None),
        remarks=(
            *size_remarks(phases, wanted, spot, config),
            *plan_remarks(
                phases, spots, variation, length, porosity, accepted, config, own, rows
            ),
            *(() if alone is None else alone.remarks()),
        ),
        settings=config.model_dump(mode="json"),
    )


def _factor(config: PlanConfig, variation: Variation, edge: float) -> float:
    """Return the half-width of the interval in standard errors.

    A scan of the whole sample contains all spots, so that their standard deviation is
    known; from a single spot, it is only estimated, and the t-distribution applies.
    """
    tail = 0.5 + float(config.confidence) / 2
    if config.scan == "whole":
        return NormalDist().inv_cdf(tail)
    from scipy.stats import t

    return float(t.ppf(tail, variation.n_independent(edge) - 1))


def _row(
    edge: float,
    cubes: Cubes,
    phases: Phases,
    porosity: float,
    config: PlanConfig,
    variation: Variation,
) -> SizeRow:
    """Return the row of the plan with the number of spots of this size."""
    sd = variation.sd(edge)
    factor = _factor(config, variation, edge)
    accepted = float(config.precision) * porosity
    population, bias, covered = math.inf, 0.0, math.nan
    if config.scan == "whole":
        population = len(cubes)
        bias = float(cubes.porosity.mean()) - porosity
        if abs(bias) < _ROUNDING:
            bias = 0.0
        covered = cubes.sample / phases.sample_voxels
    n = n_spots(sd, accepted, factor, population, bias)
    return SizeRow(
        voxels=edge,
        n_cubes=len(cubes),
        sd=sd,
        is_measured=variation.is_measured(edge),
        n_spots=n,
        half_width=half_width(sd, n, factor, population, bias),
        share=n / population * covered if population < math.inf else None,
    )


def n_spots(
    sd: float,
    accepted: float,
    factor: float,
    population: float = math.inf,
    bias: float = 0.0,
) -> int:
    """Return the minimum number of random spots for an interval of the accepted width.

    Parameters
    ----------
    sd : float
        Standard deviation of the porosity between spots.
    accepted : float
        Accepted half-width of the interval of the mean porosity.
    factor : float
        Number of standard errors that the half-width covers, such as 1.96.
    population : float
        Number of spots in the sample, if known; each spot is drawn at most once.
    bias : float
        Difference between the mean porosity of all of these spots and that of the
        sample, parts of which no spot covers. If it exceeds `accepted`, all spots are
        planned.

    Examples
    --------
    >>> n_spots(0.02, 0.01, 1.96)
    16
    >>> n_spots(0.02, 0.01, 1.96, population=16)
    8
    >>> n_spots(0.02, 0.01, 1.96, population=16, bias=0.005)
    12
    """
    variance = (factor * sd) ** 2
    needed = variance / (accepted**2 + variance / population)
    n = max(FEWEST, math.ceil(needed - 1e-9))
    if population == math.inf:
        return n
    low, high = min(n, int(population)), int(population)
    while bias and low < high:
        middle = (low + high) // 2
        if half_width(sd, middle, factor, population, bias) <= accepted:
            high = middle
        else:
            low = middle + 1
    return low


def half_width(
    sd: float,
    n: int,
    factor: float,
    population: float = math.inf,
    bias: float = 0.0,
) -> float:
    """Return the half-width of the interval of the mean porosity of random spots.

    With a bias, the error of the mean of the spots is normally distributed around the
    bias. The half-width is exceeded with the same probability as without a bias.

    Examples
    --------
    >>> half_width(0.02, 16, 1.96), half_width(0.02, 16, 1.96, 16, bias=-0.03)
    (0.0098, 0.03)
    """
    left = max(0.0, 1 - n / population)
    error, bias = sd * math.sqrt(left / n), abs(bias)
    if not (bias and error):
        return factor * error + bias
    normal = NormalDist(bias, error)
    confidence = 2 * NormalDist().cdf(factor) - 1
    low, high = bias, bias + factor * error
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        if normal.cdf(middle) - normal.cdf(-middle) < confidence:
            low = middle
        else:
            high = middle
    return high


def _places(spots: Cubes, n: int, seed: int, phases: Phases) -> tuple[Spot, ...]:
    """Draw random spots, one from each of `n` groups of similar porosity.

    The sizes of the groups differ by at most one.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(spots.porosity, kind="stable")
    places = []
    half = (spots.edge - 1) / 2
    for stratum, group in enumerate(np.array_split(order, n), start=1):
        chosen = int(rng.choice(group))
        corner = [int(v) for v in spots.starts[chosen]]
        middle = [0 if phases.flat and i == 0 else half for i in range(3)]
        z, y, x = (
            origin + (start + m) * phases.edge
            for origin, start, m in zip(phases.origin, corner, middle, strict=True)
        )
        porosity = float(spots.porosity[chosen])
        places.append(Spot(stratum, (z, y, x), porosity))
    return tuple(places)


def _costs(config: PlanConfig, n: int, possible: int | None) -> Costs | None:
    """Return the time, energy and CO2eq, if the duration of a scan is known."""
    if config.hours_per_spot is None:
        return None
    hours = n * config.hours_per_spot
    saved = None if possible is None else (possible - n) * config.hours_per_spot
    return Costs(hours, saved, config.kilowatts, config.kilograms_per_kilowatt_hour)
