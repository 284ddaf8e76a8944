"""Porosity interval, from the standard deviations of a restoration.

If the standard deviations are not calibrated, there is only a spread: half the
difference in porosity between shifts of all voxels by −1 and by +1 standard deviation.
The mean of samples of a calibrated diffusion model has an interval without standard
deviations, from the porosities of the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_geosr.measure.number_text import percent_range_text, range_text
from napari_geosr.measure.statistic import Row, Values, VolumeStatistic
from napari_geosr.measure.sums import SweepTotals


def ends(totals: SweepTotals) -> list[float] | None:
    """Return the lowest and highest porosity."""
    interval = totals.interval
    return (
        None
        if interval is None or interval.porosity is None
        else list(interval.porosity)
    )


def nominal(totals: SweepTotals) -> float | None:
    """Return the nominal coverage of the interval, if it was measured."""
    return None if totals.interval is None else totals.interval.nominal


def factor(totals: SweepTotals) -> float | None:
    """Return the half-width of the interval in standard deviations."""
    return None if totals.interval is None else totals.interval.factor


def spread(totals: SweepTotals) -> float | None:
    """Return half the difference in porosity between shifts by −1 and +1 deviation.

    With samples, the standard deviation of their porosities is returned.
    """
    return None if totals.interval is None else totals.interval.spread


def pore_density(totals: SweepTotals) -> list[float] | None:
    """Return the minimum and maximum number of pores per mm³ (image: mm²)."""
    interval = totals.interval
    if interval is None or interval.pore_count is None:
        return None
    low, high = (totals.per_millimetre(count) for count in interval.pore_count)
    return None if low is None or high is None else [low, high]


def _shown_ends(figures: Values) -> tuple[float, float] | None:
    """Return the interval; if it is not calibrated, return porosity ± spread."""
    if figures["porosity_interval"] is not None:
        low, high = figures["porosity_interval"]
        return low, high
    if figures["porosity_spread"] is None:
        return None
    middle, half = figures["porosity"], figures["porosity_spread"]
    return max(0.0, middle - half), min(1.0, middle + half)


def _has_interval(compared: Sequence[Values]) -> bool:
    return any(figures["porosity_interval"] is not None for figures in compared)


def _title(compared: Sequence[Values]) -> str:
    """Return the title of the row; it names the spread if no interval is calibrated."""
    name = "Porosity interval" if _has_interval(compared) else "Porosity spread"
    first = next(f for f in compared if f["porosity_spread"] is not None)
    return f"{name} ({_reach(first)})"


def _reach(figures: Values) -> str:
    """State the nominal coverage or half-width, such as ``90 %`` or ``±2 std``."""
    nominal: Any = figures["porosity_interval_nominal"]
    if nominal is not None:
        return f"{100 * nominal:g} %"
    return f"±{figures['porosity_interval_factor'] or 1:g} std"


def _help(compared: Sequence[Values]) -> str:
    has_samples = [
        f["porosity_interval_factor"] is None
        for f in compared
        if f["porosity_interval"] is not None
    ]
    if has_samples and all(has_samples):
        return (
            "Quantiles of the porosities of the samples, moved apart by the porosity "
            "that was calibrated for the model."
        )
    if has_samples:
        return (
            "Porosity when the grey values of all voxels are shifted together by the "
            "number of standard deviations calibrated for the model."
        )
    return (
        "Porosity when the grey values of all voxels are shifted together by one "
        "standard deviation of the restoration. It is not calibrated, so it is only a "
        "rough guide."
    )


STATISTICS = (
    VolumeStatistic(
        "porosity_interval",
        ends,
        order=60,
        row=Row(
            _title,
            order=30,
            value=_shown_ends,
            text=percent_range_text,
            file_unit="%",
            compares=False,
            help=_help,
        ),
    ),
    VolumeStatistic("porosity_interval_nominal", nominal, order=61),
    VolumeStatistic("porosity_interval_factor", factor, order=62),
    VolumeStatistic("porosity_spread", spread, order=63),
    VolumeStatistic(
        "pores_per_mm3_interval",
        pore_density,
        flat=False,
        order=64,
        row=Row(
            "Pores per mm³ in the interval",
            order=40,
            text=range_text,
            file_unit="1/mm³",
            compares=False,
            help="Minimum and maximum number of pores within the interval (counted at "
            "its ends and in its middle).",
        ),
    ),
    VolumeStatistic(
        "pores_per_mm2_interval",
        pore_density,
        flat=True,
        order=64,
        row=Row(
            "Pores per mm² in the interval",
            order=40,
            text=range_text,
            compares=False,
            file_unit="1/mm²",
        ),
    ),
)
