"""Porosity intervals from samples and from standard deviations, for a benchmark.

A row describes one scan: ``truth`` is the known porosity; ``tta`` and ``samples`` hold
the porosity of a mean image, the shift that it needs (``needed``), and its porosities
for all `SHIFTS` (``shares``); ``samples`` also holds the porosity of each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

import napari_geosr as geosr
from napari_geosr.measure.interval import conformal_factor

Array = np.ndarray[Any, Any]
Row = dict[str, Any]

#: The bundled model with which the diffusion model is compared.
BASELINE = "foam-sr-x4"
#: Coverage of the intervals.
NOMINAL = 0.9
#: Shifts at which the porosity is stored, in standard deviations: up to 200 in steps
#: of at most 1.3 %, as deviations of flips and rotations are often far too small.
SHIFTS = np.sinh(np.linspace(-6, 6, 961))
#: Number of random divisions of all scans into calibration and test.
DIVISIONS = 500


@dataclass(frozen=True)
class Band:
    """A way to compute an interval.

    Attributes
    ----------
    title : str
    score : callable
        Smallest factor for which the interval of a row contains the true porosity.
    ends : callable
        Interval of a row for a factor.
    factor : float or None
        Fixed factor; None if it is calibrated.
    """

    title: str
    score: Callable[[Row], float]
    ends: Callable[[Row, float], tuple[float, float]]
    factor: float | None = None


def shift_score(name: str) -> Callable[[Row], float]:
    """Return the score of intervals from shifts by each voxel's standard deviation."""
    return lambda row: abs(float(row[name]["needed"]))


def shift_ends(name: str) -> Callable[[Row, float], tuple[float, float]]:
    """Return the ends of intervals from shifts by each voxel's standard deviation."""

    def ends(row: Row, factor: float) -> tuple[float, float]:
        shares = row[name]["shares"]
        high, low = (float(np.interp(s, SHIFTS, shares)) for s in (-factor, factor))
        return min(low, row[name]["porosity"]), max(high, row[name]["porosity"])

    return ends


#: Smallest standard deviation of the porosities of samples: about a voxel of a result.
#: Samples without any pores have the same porosity.
_LEAST_SPREAD = 1e-5


def centre_and_spread(row: Row) -> tuple[float, float]:
    """Return mean and standard deviation of the porosities of the samples."""
    each = row["samples"]["each porosity"]
    return float(np.mean(each)), max(float(np.std(each, ddof=1)), _LEAST_SPREAD)


def spread_score(row: Row) -> float:
    """Return the error of the mean porosity in standard deviations of the samples."""
    centre, spread = centre_and_spread(row)
    return abs(row["truth"] - centre) / spread


def spread_ends(row: Row, factor: float) -> tuple[float, float]:
    """Return the interval of `factor` standard deviations of the samples."""
    centre, spread = centre_and_spread(row)
    return centre - factor * spread, centre + factor * spread


def quantiles(row: Row) -> tuple[float, float]:
    """Return the quantiles of the samples' porosities for the nominal coverage."""
    tail = (1 - NOMINAL) / 2
    low, high = np.quantile(row["samples"]["each porosity"], [tail, 1 - tail])
    return float(low), float(high)


def quantile_score(row: Row) -> float:
    """Return how far each quantile must be moved outwards, as a porosity (0 to 1)."""
    low, high = quantiles(row)
    return max(low - row["truth"], row["truth"] - high)


def quantile_ends(row: Row, factor: float) -> tuple[float, float]:
    """Return the quantiles, each moved outwards by `factor`."""
    low, high = quantiles(row)
    return low - factor, high + factor


def bands(*, of_samples: bool = True) -> list[Band]:
    """Return all kinds of intervals, in the order of the table.

    Parameters
    ----------
    of_samples : bool
        Whether to include those that are computed from samples.
    """
    card = geosr.load_model(BASELINE).card.uncertainty
    assert card is not None
    tta, samples = (shift_score(n) for n in ("tta", "samples"))
    tta_ends, sample_ends = (shift_ends(n) for n in ("tta", "samples"))
    known = [
        Band(f"{BASELINE}, factor on its card", tta, tta_ends, card.factor),
        Band(f"{BASELINE}, calibrated", tta, tta_ends),
    ]
    if not of_samples:
        return known
    return [
        *known,
        Band("samples, 5 to 95 % quantiles", quantile_score, quantile_ends, 0.0),
        Band(
            "samples, quantiles moved apart, calibrated", quantile_score, quantile_ends
        ),
        Band(
            "samples, spread of the porosities, calibrated", spread_score, spread_ends
        ),
        Band("samples, deviation of each voxel, calibrated", samples, sample_ends),
    ]


def signed_factor(scores: Sequence[float]) -> float:
    """Return the conformal quantile of scores that may be negative."""
    least = min(*scores, 0.0)
    return conformal_factor([score - least for score in scores], NOMINAL) + least


def coverage(band: Band, factor: float, rows: Sequence[Row]) -> tuple[int, list[float]]:
    """Return how many intervals contain the true porosity, and all half-widths."""
    ends = [band.ends(row, factor) for row in rows]
    held = sum(
        low <= row["truth"] <= high for (low, high), row in zip(ends, rows, strict=True)
    )
    return held, [(high - low) / 2 for low, high in ends]


def divided(band: Band, rows: Sequence[Row]) -> tuple[Array, Array]:
    """Return coverages and median half-widths for random divisions of all scans."""
    shares, widths = [], []
    rng = np.random.default_rng(0)
    for _ in range(DIVISIONS):
        order = rng.permutation(len(rows))
        first, second = ([rows[i] for i in part] for part in np.array_split(order, 2))
        factor = band.factor
        if factor is None:
            factor = signed_factor([band.score(row) for row in first])
        held, halves = coverage(band, factor, second)
        shares.append(held / len(second))
        widths.append(np.median(halves))
    return np.array(shares), np.array(widths)


def band_table(calibration: list[Row], test: list[Row]) -> str:
    """Return one row per kind of interval: factor, coverage and width."""
    lines = [
        "| interval | factor | true porosity in the interval (95 % confidence) | "
        "half-width in percentage points: median; mean | "
        "relative half-width, median | coverage in random divisions | "
        "median half-width in random divisions |",
        "|---|---|---|---|---|---|---|",
    ]
    for band in bands(of_samples="samples" in test[0]):
        factor = band.factor
        if factor is None:
            factor = signed_factor([band.score(row) for row in calibration])
        held, halves = coverage(band, factor, test)
        low, high = stats.binomtest(held, len(test)).proportion_ci()
        relative = [h / row["truth"] for h, row in zip(halves, test, strict=True)]
        shares, widths = divided(band, [*calibration, *test])
        lines.append(
            f"| {band.title} | {factor:.3g} | {held} of {len(test)} "
            f"({held / len(test):.0%}; {low:.0%} to {high:.0%}) | "
            f"{100 * np.median(halves):.2f}; {100 * np.mean(halves):.2f} | "
            f"{np.median(relative):.1%} | {shares.mean():.0%} ± {shares.std():.0%} | "
            f"{100 * widths.mean():.2f} ± {100 * widths.std():.2f} |"
        )
    return "\n".join(lines)
