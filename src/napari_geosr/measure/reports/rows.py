"""Values of one or more volumes as rows of text, with their differences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from napari_geosr.core.units import MILLIMETRES, PIXEL, VOXEL, shown_unit
from napari_geosr.measure.groups import GroupSummary
from napari_geosr.measure.number_text import (
    NOTHING,
    POINTS,
    difference_text,
    number_text,
    percent_text,
    points_text,
)
from napari_geosr.measure.phases.findings import Morphometry
from napari_geosr.measure.statistic import Row, Values, VolumeStatistic, Words
from napari_geosr.measure.statistics import volume_statistics

_POWERS = {-3: "⁻³", -2: "⁻²", -1: "⁻¹", 1: "", 2: "²", 3: "³"}
#: Units for display, from small to large.
_SHOWN_UNITS = ("nm", "µm", "mm", "m")
#: Name of the column with which the other columns are compared; without a column of
#: this name, they are compared with the first one.
_TRUTH = "truth"
#: End of the name of a standard deviation; the rest is the name of the mean.
_SPREAD = ".SD"
#: Format of values by the `text` of their quantity.
_TEXTS = {"percent": percent_text, "points": points_text}
#: Units of fractions, which tables of numbers contain as percentages.
PERCENTAGES = ("%", POINTS)
#: Unit in tables of numbers by the `text` of the quantity.
_FILE_UNITS = dict(zip(("percent", "points"), PERCENTAGES, strict=True))


class FiguresSource(Protocol):
    """Source of the rows: a `napari_geosr.measure.reports.report.PorosityReport`."""

    @property
    def figures(self) -> Values:
        """Values by the name of their statistic."""

    @property
    def unit(self) -> str:
        """Unit of length of the values."""

    @property
    def voxel_size(self) -> tuple[float, ...]:
        """Edge lengths of a voxel."""

    @property
    def is_flat(self) -> bool:
        """Whether an image was measured."""

    @property
    def group(self) -> GroupSummary | None:
        """The requested group of pores."""

    @property
    def groups(self) -> Mapping[str, GroupSummary]:
        """Groups of pores that were kept later, by the name of their column."""

    @property
    def morphometry(self) -> Mapping[str, Morphometry]:
        """Requested statistics of both phases by name."""


class StatisticRow(NamedTuple):
    """A value of several volumes: label, displayed values, differences and tool tip."""

    label: str
    texts: list[str]
    differences: list[str]
    help: str


def reference_column(titles: Sequence[str]) -> int:
    """Return the index of the column with which the others are compared."""
    return titles.index(_TRUTH) if _TRUTH in titles else 0


def figure_rows(
    reports: Sequence[FiguresSource], *, reference: int = 0
) -> Iterator[StatisticRow]:
    """Yield rows with one value per report, and its difference from the reference.

    The lengths in a row share one unit, chosen by the size of the reference's value.
    All rows of volumes (areas) share the unit of the first of these rows, and a
    standard deviation has the unit of its mean.
    """
    figures = [report.figures for report in reports]
    units = [shown_unit(one.unit, one.voxel_size, flat=one.is_flat) for one in reports]
    flat = reports[reference].is_flat
    # Only fractions are comparable between images (sections of pores) and volumes.
    comparable = all(report.is_flat == flat for report in reports)
    chosen: dict[int, str] = {}
    of_means: dict[str, str] = {}
    for statistic, row in statistic_rows(reports, flat=flat):
        if row.text is None and not comparable:
            continue
        values = [value_of(statistic, row, one) for one in figures]
        if all(value is None for value in values):
            continue
        differences = [""] * len(values)
        whole, bands = False, bands_of(statistic.name, reports)
        ends = [list(one) for one in bands]
        if row.text is None:
            power = statistic.power
            unit = (
                chosen.get(power)
                or of_means.get(statistic.name.removesuffix(_SPREAD))
                or _row_unit(values, units, power, reference)
            )
            if row.unit and any(one in MILLIMETRES for one in units):
                unit = row.unit
            if power > 1 and values[reference]:
                chosen[power] = unit
            of_means[statistic.name] = unit
            values = in_unit(values, units, power, unit)
            suffix = f"{unit}{_POWERS[power]}" if power else ""
            if suffix in (PIXEL, VOXEL):
                suffix += "s"
            ends = [in_unit(one, units, power, unit) for one in bands]
            shown = [*values, *ends[0], *ends[1]]
            whole = all(value is None or float(value).is_integer() for value in shown)
            texts = [_number(value, suffix, whole) for value in values]
        else:
            texts = [NOTHING if v is None else row.text(v) for v in values]
        texts = [
            _with_band(text, low, high, row, whole)
            for text, low, high in zip(texts, *ends, strict=True)
        ]
        if row.compares:
            differences = _differences(values, reference)
        label = words_of(row.title, figures)
        yield StatisticRow(label, texts, differences, words_of(row.help, figures))
    for label, groups, help_text in group_rows(reports):
        yield _group_row(label, groups, help_text, flat=reports[0].is_flat)


def group_rows(
    reports: Sequence[FiguresSource],
) -> Iterator[tuple[str, list[GroupSummary | None], str]]:
    """Yield the label, the summary in every report, and the tool tip of each group."""
    requested = [report.group for report in reports]
    if (named := next(filter(None, requested), None)) is not None:
        help_text = "Pores that match the expression."
        yield f"Group ({named.text})", requested, help_text
    for name in dict.fromkeys(name for report in reports for name in report.groups):
        kept = [report.groups.get(name) for report in reports]
        texts = {
            group.text or "selected by hand" for group in kept if group is not None
        }
        label = f"Group {name} ({'; '.join(sorted(texts))})"
        yield label, kept, "Pores that were kept as a group."


def _group_row(
    label: str, groups: Sequence[GroupSummary | None], help_text: str, *, flat: bool
) -> StatisticRow:
    texts = []
    for group in groups:
        if group is None:
            texts.append(NOTHING)
            continue
        share = "" if group.share_of_size is None else percent_text(group.share_of_size)
        size = "area" if flat else "volume"
        texts.append(f"{group.count} of {group.total} ({share} by {size})")
    return StatisticRow(label, texts, [""] * len(texts), help_text)


def table_rows(
    reports: Sequence[FiguresSource], *, reference: int = 0
) -> list[tuple[str, list[str], list[str]]]:
    """Return rows of text: label, value per report, difference from the reference."""
    return [
        (row.label, row.texts, row.differences)
        for row in figure_rows(reports, reference=reference)
    ]


def summary_rows(report: FiguresSource) -> list[tuple[str, str]]:
    """Return rows of (label, value with unit)."""
    return [(row.label, row.texts[0]) for row in figure_rows([report])]


def statistic_rows(
    reports: Sequence[FiguresSource], *, flat: bool | None = None
) -> list[tuple[VolumeStatistic, Row]]:
    """Return the displayed statistics in the order of their rows.

    Parameters
    ----------
    reports : sequence
    flat : bool, optional
        Whether to return those of an image; by default, those of the first report.
    """
    flat = reports[0].is_flat if flat is None else flat
    found = [(s, s.row) for s in volume_statistics(flat=flat) if s.row is not None]
    found.sort(key=lambda pair: pair[1].order)
    return [*found, *_morphometry_rows(reports)]


def _morphometry_rows(
    reports: Sequence[FiguresSource],
) -> list[tuple[VolumeStatistic, Row]]:
    """Return the rows of the statistics that were requested for any of the reports."""
    quantities = {
        quantity.name: quantity
        for report in reports
        for found in report.morphometry.values()
        for quantity in found.quantities
    }
    return [
        (
            VolumeStatistic(name, lambda _: None, quantity.power),
            Row(
                f"{name} ({quantity.title})",
                text=_TEXTS.get(quantity.text),
                help=quantity.title,
                unit="mm" if quantity.per_millimetre else "",
                file_unit=_FILE_UNITS.get(quantity.text, ""),
            ),
        )
        for name, quantity in quantities.items()
    ]


def value_of(statistic: VolumeStatistic, row: Row, figures: Values) -> Any:
    """Return the displayed value of a volume; None if it is unknown."""
    if statistic.name not in figures:  # an image among volumes
        return None
    return figures[statistic.name] if row.value is None else row.value(figures)


def bands_of(
    name: str, reports: Sequence[FiguresSource]
) -> tuple[list[float | None], list[float | None]]:
    """Return the lower and upper ends of the bands of a quantity, one per report."""
    found = [
        next((m.bands[name] for m in r.morphometry.values() if name in m.bands), None)
        for r in reports
    ]
    lows, highs = ([None if b is None else b[i] for b in found] for i in (0, 1))
    return lows, highs


def _with_band(
    text: str, low: float | None, high: float | None, row: Row, whole: bool
) -> str:
    """Add a band in brackets to the text of a value, which has the unit.

    The ends are formatted as the value is; if both read the same, no band is added.
    """
    if low is None or high is None:
        return text
    if row.file_unit in PERCENTAGES:
        ends = [percent_text(end).removesuffix(" %") for end in (low, high)]
    else:
        ends = [number_text(end, whole=whole) for end in (low, high)]
    return text if ends[0] == ends[1] else f"{text} ({ends[0]} to {ends[1]})"


def words_of(words: Words, figures: Sequence[Values]) -> str:
    """Return a label or tool tip, which may depend on the values."""
    return words if isinstance(words, str) else words(figures)


def _number(value: float | None, suffix: str, whole: bool) -> str:
    if value is None:
        return NOTHING
    return f"{number_text(value, whole=whole)} {suffix}".rstrip()


def _differences(values: Sequence[float | None], reference: int) -> list[str]:
    return [
        "" if i == reference else difference_text(values[reference], value)
        for i, value in enumerate(values)
    ]


def _row_unit(
    values: Sequence[float | None], units: Sequence[str], power: int, reference: int
) -> str:
    """Choose a unit of length that suits the reference's value."""
    known = [
        v is not None and u in MILLIMETRES for v, u in zip(values, units, strict=True)
    ]
    if not any(known):
        return next((unit for unit in units if unit != PIXEL), PIXEL)
    millimetres = in_unit(values, units, power, "mm")
    typical = millimetres[reference] or next((v for v in millimetres if v), 0.0) or 0.0
    if not power or not typical:
        return "µm"
    if power < 0:
        # Keep a unit of the volumes, such as 1/µm, even if values are below 1; if their
        # units differ, choose the one that gives the most readable value.
        own = {u for u, is_known in zip(units, known, strict=True) if is_known}
        return min(
            sorted(own),
            key=lambda u: abs(math.log10(abs(typical) * MILLIMETRES[u] ** -power) - 1),
        )
    length = abs(typical) ** (1 / power)
    fitting = [u for u in _SHOWN_UNITS if length >= 0.999 * MILLIMETRES[u]]
    return fitting[-1] if fitting else _SHOWN_UNITS[0]


def in_unit(
    values: Sequence[float | None], units: Sequence[str], power: int, unit: str
) -> list[float | None]:
    """Convert values of dimension length ** `power` to `unit`; None if not possible."""
    if not power or unit not in MILLIMETRES:
        return list(values)
    factor = MILLIMETRES[unit] ** power
    return [
        v * MILLIMETRES[u] ** power / factor
        if v is not None and u in MILLIMETRES
        else None
        for v, u in zip(values, units, strict=True)
    ]
