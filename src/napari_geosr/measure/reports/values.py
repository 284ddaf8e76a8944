"""Values of one or more volumes as a table of numbers: a row for every quantity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from napari_geosr.core.units import MILLIMETRES, shown_unit
from napari_geosr.measure.groups import GroupSummary
from napari_geosr.measure.number_text import change_in_percent, unit_text
from napari_geosr.measure.reports.rows import (
    PERCENTAGES,
    FiguresSource,
    bands_of,
    group_rows,
    in_unit,
    reference_column,
    statistic_rows,
    value_of,
    words_of,
)
from napari_geosr.measure.statistic import Row, VolumeStatistic

#: Unit of values that are fractions in the report and percentages in the table.
PERCENT = "%"


class ValueRow(NamedTuple):
    """One quantity of several volumes.

    Attributes
    ----------
    name : str
        Key of the value in ``report.json``, or its standard name.
    label : str
        Name in the report.
    unit : str
        Unit of all values of the row; empty for dimensionless numbers.
    values : list of float, int or None
        One value per volume; None if it is unknown.
    changes : list of float or None
        Relative difference from the reference in per cent; None if not meaningful.
    lows, highs : list of float or None
        Ends of the band of each value; empty if no bands were measured.
    """

    name: str
    label: str
    unit: str
    values: list[Any]
    changes: list[float | None]
    lows: Sequence[float | None] = ()
    highs: Sequence[float | None] = ()

    @classmethod
    def of(
        cls,
        name: str,
        label: str,
        unit: str,
        values: list[Any],
        reference: int | None = None,
    ) -> ValueRow:
        """Return a row with the changes relative to the value `reference`, if any."""
        changes = [
            None
            if reference is None or i == reference
            else change_in_percent(values[reference], value)
            for i, value in enumerate(values)
        ]
        return cls(name, label, unit, values, changes)


def value_rows(
    reports: Sequence[FiguresSource], *, reference: int = 0
) -> Iterator[ValueRow]:
    """Yield the rows of all quantities that are known for any of the reports.

    The rows are those that the report shows, but the units do not depend on the values:
    lengths are in the unit of the first report with a known unit, numbers of
    objects are given per mm³ or mm², as in ``report.json``, and fractions in per cent.
    """
    figures = [report.figures for report in reports]
    flat = reports[0].is_flat
    comparable = all(report.is_flat == flat for report in reports)
    for statistic, row in statistic_rows(reports):
        if not (comparable or row.file_unit in PERCENTAGES):
            continue
        found = [value_of(statistic, row, one) for one in figures]
        for part, values in _parts(found):
            if all(value is None for value in values):
                continue
            unit, values = _with_unit(statistic, row, values, reports)
            ends = [
                _with_unit(statistic, row, one, reports)[1]
                for one in bands_of(statistic.name, reports)
            ]
            made = ValueRow.of(
                f"{statistic.name} {part}".rstrip(),
                f"{words_of(row.title, figures)}{', ' if part else ''}{part}",
                unit,
                values,
                reference if row.compares else None,
            )
            yield made._replace(lows=ends[0], highs=ends[1])
    for label, groups, _ in group_rows(reports):
        yield from _of_group(label, groups)


def value_table(reports: Mapping[str, FiguresSource]) -> Iterator[list[Any]]:
    """Yield the head and the rows of the table, as cells.

    Parameters
    ----------
    reports : mapping
        Reports by the title of their column.
    """
    titles = list(reports)
    reference = reference_column(titles)
    compared = [i for i in range(len(titles)) if i != reference]
    changes = [f"{titles[i]}: change (%)" for i in compared]
    rows = list(value_rows(list(reports.values()), reference=reference))
    banded = [
        i
        for i in range(len(titles))
        if any(row.lows and row.lows[i] is not None for row in rows)
    ]
    ends = [f"{titles[i]}: {end}" for i in banded for end in ("low", "high")]
    yield ["name", "quantity", "unit", *titles, *changes, *ends]
    for row in rows:
        found = [row.changes[i] for i in compared]
        bands = [
            limits[i] if limits else None
            for i in banded
            for limits in (row.lows, row.highs)
        ]
        yield [row.name, row.label, row.unit, *row.values, *found, *bands]


def _parts(values: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield single numbers: the ends of ranges, or the values along the axes."""
    first = next((value for value in values if value is not None), None)
    if isinstance(first, Mapping):
        for key in first:
            yield str(key), [None if v is None else v.get(key) for v in values]
    elif isinstance(first, Sequence):
        for i, end in enumerate(("low", "high")):
            yield end, [None if v is None else v[i] for v in values]
    else:
        yield "", list(values)


def _with_unit(
    statistic: VolumeStatistic,
    row: Row,
    values: list[Any],
    reports: Sequence[FiguresSource],
) -> tuple[str, list[Any]]:
    """Convert the values of a row to one unit, and return this unit and the values."""
    if row.file_unit in PERCENTAGES:
        return row.file_unit, [
            None if value is None else 100 * value for value in values
        ]
    if not statistic.power:
        return row.file_unit, values
    units = [shown_unit(r.unit, r.voxel_size, flat=r.is_flat) for r in reports]
    known = [unit for unit in units if unit in MILLIMETRES]
    length = known[0] if known else units[0]
    if known and row.unit:
        length = row.unit
    converted = in_unit(values, units, statistic.power, length)
    return unit_text(length, statistic.power), converted


def _of_group(label: str, groups: Sequence[GroupSummary | None]) -> Iterator[ValueRow]:
    """Yield the number of pores in a group, and its share of the pore volume."""
    counts = [None if group is None else group.count for group in groups]
    shares = [
        None if g is None or g.share_of_size is None else 100 * g.share_of_size
        for g in groups
    ]
    yield ValueRow.of("group", label, "", counts)
    share = f"{label}, share of the pores by size"
    yield ValueRow.of("group share", share, PERCENT, shares)
