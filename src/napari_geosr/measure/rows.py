"""Reports as rows of text for people: sensible digits and units, differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.units import MILLIMETRES

if TYPE_CHECKING:
    from napari_geosr.measure.report import PorosityReport

#: What stands where there is no value.
NOTHING = "–"
_POWERS = {-3: "⁻³", -2: "⁻²", -1: "⁻¹", 1: "", 2: "²", 3: "³"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Units that values are shown in, small to large.
_SHOWN_UNITS = ("nm", "µm", "mm", "m")


@dataclass(frozen=True)
class Figure:
    """One quantity: how it is called, and its value in a report.

    `power` is that of the length it contains (3 for a volume), with the value in the
    report's unit; 0 for pure numbers.
    """

    label: str
    value: Callable[[PorosityReport], float | None]
    power: int = 0
    suffix: str = ""
    compares: bool = True


def number_text(value: float) -> str:
    """Three significant digits; integers whole up to a million."""
    if not math.isfinite(value):
        return NOTHING
    if value < 0:
        return f"\N{MINUS SIGN}{number_text(-value)}"
    if float(value).is_integer() and value < 10**6:
        return f"{int(value):,}".replace(",", "\u202f")
    if not 1e-3 <= value < 10**6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    if value >= 1000:
        whole = round(value, 2 - math.floor(math.log10(abs(value))))
        return f"{int(whole):,}".replace(",", "\u202f")
    text = f"{value:#.3g}"
    return text.rstrip(".")


def percent_text(fraction: float) -> str:
    """A fraction as a percentage with three significant digits."""
    return f"{100 * fraction:.3g} %"


def difference_text(before: float | None, after: float | None) -> str:
    """Relative change from `before` to `after`, signed."""
    if before is None or after is None or not before:
        return NOTHING
    change = 100 * (after - before) / abs(before)
    if abs(change) < 0.05:
        return "0.0 %"
    digits = 0 if abs(change) >= 99.5 else 1
    return f"{change:+.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def figures_for(report: PorosityReport) -> tuple[Figure, ...]:
    """What is shown of a volume or, with areas for volumes, of an image."""
    size = report.size_column
    power, measure = (2, "mm²") if report.is_flat else (3, "mm³")
    per_size = "perimeter" if report.is_flat else "surface area"
    density = "pores_per_mm2" if report.is_flat else "pores_per_mm3"
    specific = f"specific_{per_size.replace(' ', '_')}"

    def quantile(column: str, which: str) -> Callable[[PorosityReport], float | None]:
        """A function that takes one quantile of a column from a report."""
        return lambda r: r.quantiles(column)[which]

    return (
        Figure("Pores", lambda r: r.pore_count),
        Figure(f"Pores per {measure}", lambda r: getattr(r, density)),
        Figure(f"Mean pore {size}", quantile(size, "mean"), power),
        Figure(f"Median pore {size}", quantile(size, "median"), power),
        Figure(f"Largest pore {size}", quantile(size, "max"), power),
        Figure("Mean equivalent diameter", quantile("equivalent_diameter", "mean"), 1),
        Figure(f"Specific {per_size}", lambda r: getattr(r, specific), -1),
        Figure("Euler number", lambda r: r.euler_number),
        Figure(
            "Smaller pores (not counted)",
            lambda r: r.small_pore_count,
        ),
        Figure("Threshold", lambda r: r.threshold, compares=False),
    )


def table_rows(
    reports: Sequence[PorosityReport], *, reference: int = 0
) -> list[tuple[str, list[str], list[str]]]:
    """Rows of (label, one text per report, one difference to the reference each).

    Lengths share one unit in a row, chosen by the size of the reference's value.
    """
    rows: list[tuple[str, list[str], list[str]]] = []
    for label, name in (
        ("Porosity", "porosity"),
        ("Open porosity", "open_porosity"),
        ("Closed porosity", "closed_porosity"),
    ):
        values = [float(getattr(report, name)) for report in reports]
        texts = [percent_text(value) for value in values]
        rows.append((label, texts, _differences([*values], reference)))
    below = [_sensitivity_row(reports)]
    if any(report.band is not None for report in reports):
        below += _band_rows(reports)
    rows[1:1] = below
    for figure in figures_for(reports[reference]):
        if reports[reference].is_flat != all(r.is_flat for r in reports):
            continue
        row = _row(figure, reports, reference)
        if row is not None:
            rows.append(row)
    return rows


def _sensitivity_row(
    reports: Sequence[PorosityReport],
) -> tuple[str, list[str], list[str]]:
    """The porosity at both shifted thresholds; not an error of the measurement."""
    ends = [(report.porosity_low, report.porosity_high) for report in reports]
    texts = [
        "no change" if low == high else f"{_between((low, high), 100)} %"
        for low, high in ends
    ]
    return "Threshold sensitivity (±5 %)", texts, [""] * len(reports)


def band_title(report: PorosityReport) -> str:
    """How often, or how far, the band of a report reaches: ``90 %``, ``±2 std``."""
    assert report.band is not None
    if report.band.nominal is not None:
        return f"{100 * report.band.nominal:g} %"
    return f"±{report.band.factor or 1:g} std"


def _band_rows(
    reports: Sequence[PorosityReport],
) -> list[tuple[str, list[str], list[str]]]:
    """What porosity and pores per volume may be; deviations of others are not known."""
    title = next(band_title(r) for r in reports if r.band is not None)
    ends: list[tuple[float, float] | None] = []
    for report in reports:
        band = report.band
        if band is None or band.porosity is not None:
            ends.append(None if band is None else band.porosity)
        else:
            low, high = report.porosity - band.spread, report.porosity + band.spread
            ends.append((max(0.0, low), min(1.0, high)))
    texts = [NOTHING if e is None else f"{_between(e, 100)} %" for e in ends]
    nothing = [""] * len(reports)
    banded = any(r.band is not None and r.band.porosity is not None for r in reports)
    # Without a band that is known to hold the truth it is the spread, and called so.
    name = "Porosity band" if banded else "Porosity spread"
    rows = [(f"{name} ({title})", texts, nothing)]
    if any(report.density_band is not None for report in reports):
        size = "mm²" if reports[0].is_flat else "mm³"
        texts = [
            NOTHING if (d := r.density_band) is None else _between(d) for r in reports
        ]
        rows.append((f"Pores per {size} within it", texts, nothing))
    return rows


def _between(ends: tuple[float, float], times: float = 1.0) -> str:
    """Both ends with as many digits as tell them apart."""
    low, high = (times * end for end in ends)
    if times == 1.0 and (low == high or min(low, high) >= 1000):
        return f"{number_text(low)} to {number_text(high)}"
    width = high - low
    digits = 1 if width <= 0 else min(4, max(0, 1 - math.floor(math.log10(width))))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _differences(values: Sequence[float | None], reference: int) -> list[str]:
    return [
        "" if i == reference else difference_text(values[reference], value)
        for i, value in enumerate(values)
    ]


def _row(
    figure: Figure, reports: Sequence[PorosityReport], reference: int
) -> tuple[str, list[str], list[str]] | None:
    values = [figure.value(report) for report in reports]
    if all(value is None for value in values):
        return None
    units = [report.unit for report in reports]
    suffix = figure.suffix
    if figure.power:
        values, suffix = _in_one_unit(values, units, figure.power, reference)
    texts = [
        NOTHING if value is None else f"{number_text(value)} {suffix}".rstrip()
        for value in values
    ]
    differences = (
        _differences(values, reference) if figure.compares else [""] * len(values)
    )
    return figure.label, texts, differences


def _in_one_unit(
    values: Sequence[float | None], units: Sequence[str], power: int, reference: int
) -> tuple[list[float | None], str]:
    """Values of a length to `power` in a unit that suits the reference's."""
    known = [
        v is not None and u in MILLIMETRES for v, u in zip(values, units, strict=True)
    ]
    if not any(known):
        return list(values), f"pixel{_POWERS[power]}"
    millimetres = [
        v * MILLIMETRES[u] ** power if v is not None and u in MILLIMETRES else None
        for v, u in zip(values, units, strict=True)
    ]
    typical = millimetres[reference] or next((v for v in millimetres if v), 0.0) or 0.0
    length = abs(typical) ** (1 / power) if typical else 0.0
    unit = "µm"
    if length:
        fitting = [u for u in _SHOWN_UNITS if length >= 0.999 * MILLIMETRES[u]]
        unit = fitting[-1] if fitting else _SHOWN_UNITS[0]
        if power < 0:
            # 1/µm is read for "how much surface in a micrometre": numbers below 1.
            unit = units[reference] if known[reference] else unit
    factor = MILLIMETRES[unit] ** power
    shown = [None if v is None else v / factor for v in millimetres]
    return shown, f"{unit}{_POWERS[power]}"


def summary_rows(report: PorosityReport) -> list[tuple[str, str]]:
    """Rows of (label, value with unit) for people."""
    return [(label, texts[0]) for label, texts, _ in table_rows([report])]
