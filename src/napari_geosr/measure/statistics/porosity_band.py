"""Porosity band: what the porosity may be, by the deviations of a restoration.

Where the deviations were not calibrated, there is no band, only a spread: half of what
the porosity changes when all voxels move by one deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_geosr.measure.number_text import percent_range_text, range_text
from napari_geosr.measure.statistic import Figures, Row, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def ends(totals: SweepTotals) -> list[float] | None:
    """Lowest and highest porosity."""
    band = totals.band
    return None if band is None or band.porosity is None else list(band.porosity)


def nominal(totals: SweepTotals) -> float | None:
    """Share of volumes whose porosity such a band holds."""
    return None if totals.band is None else totals.band.nominal


def factor(totals: SweepTotals) -> float | None:
    """Number of deviations that the band reaches."""
    return None if totals.band is None else totals.band.factor


def spread(totals: SweepTotals) -> float | None:
    """Half of what the porosity changes when all voxels move by one deviation."""
    return None if totals.band is None else totals.band.spread


def pore_density(totals: SweepTotals) -> list[float] | None:
    """Fewest and most pores per mm³ (image: mm²)."""
    band = totals.band
    if band is None or band.pore_count is None:
        return None
    found = [totals.per_millimetre(count) for count in band.pore_count]
    low, high = found
    return None if low is None or high is None else [low, high]


def _shown_ends(figures: Figures) -> tuple[float, float] | None:
    """The band, or what the spread makes of the porosity."""
    if figures["porosity_band"] is not None:
        low, high = figures["porosity_band"]
        return low, high
    if figures["porosity_spread"] is None:
        return None
    middle, half = figures["porosity"], figures["porosity_spread"]
    return max(0.0, middle - half), min(1.0, middle + half)


def _is_band(compared: Sequence[Figures]) -> bool:
    return any(figures["porosity_band"] is not None for figures in compared)


def _title(compared: Sequence[Figures]) -> str:
    """Without a calibrated band it is the spread, and called so."""
    name = "Porosity band" if _is_band(compared) else "Porosity spread"
    first = next(f for f in compared if f["porosity_spread"] is not None)
    return f"{name} ({_reach(first)})"


def _reach(figures: Figures) -> str:
    """How often, or how far, the band reaches: ``90 %``, ``±2 std``."""
    nominal: Any = figures["porosity_band_nominal"]
    if nominal is not None:
        return f"{100 * nominal:g} %"
    return f"±{figures['porosity_band_factor'] or 1:g} std"


def _help(compared: Sequence[Figures]) -> str:
    if _is_band(compared):
        return (
            "Porosity when all voxels are shifted together by the number of standard "
            "deviations calibrated for the model."
        )
    return (
        "Porosity when all voxels are shifted together by one standard deviation of "
        "the restoration. It is not calibrated, so it is only a rough guide."
    )


STATISTICS = (
    VolumeStatistic(
        "porosity_band",
        ends,
        order=60,
        row=Row(
            _title,
            order=30,
            value=_shown_ends,
            text=percent_range_text,
            compares=False,
            help=_help,
        ),
    ),
    VolumeStatistic("porosity_band_nominal", nominal, order=61),
    VolumeStatistic("porosity_band_factor", factor, order=62),
    VolumeStatistic("porosity_spread", spread, order=63),
    VolumeStatistic(
        "pores_per_mm3_band",
        pore_density,
        flat=False,
        order=64,
        row=Row(
            "Pores per mm³ within it",
            order=40,
            text=range_text,
            compares=False,
            help="Smallest and largest number of pores within the band (counted at "
            "its ends and its middle).",
        ),
    ),
    VolumeStatistic(
        "pores_per_mm2_band",
        pore_density,
        flat=True,
        order=64,
        row=Row("Pores per mm² within it", order=40, text=range_text, compares=False),
    ),
)
