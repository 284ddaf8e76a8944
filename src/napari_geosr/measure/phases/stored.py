"""Reads morphometry from the JSON file of a report and the tables next to it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyMapping
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.phases.findings import Morphometry, Number, Quantity
from napari_geosr.measure.phases.requested import StatisticModule, named_quantities


def morphometry_from_json(
    values: AnyMapping, unit: str, *, flat: bool, tables: Mapping[str, Path]
) -> dict[str, Morphometry]:
    """Rebuild the statistics of a report.

    Statistics from packages that are no longer installed are left out.

    Parameters
    ----------
    values : mapping
        Entry ``morphometry`` of the JSON file.
    unit : str
        Unit of the report.
    flat : bool
        Whether an image was measured.
    tables : mapping of Path
        Files of tables by their names; those that do not exist are left out.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the values were written by another release.
    OSError
        If a table cannot be read.
    """
    found = {}
    for name in values:
        if name not in MORPHOMETRY.names():
            continue
        module: StatisticModule = MORPHOMETRY.load(name)
        one = values[name]
        quantities = named_quantities(module, flat=flat)
        own = {
            table: read_columns(tables[table])
            for table in getattr(module, "TABLES", ())
            if table in tables and tables[table].is_file()
        }
        found[name] = Morphometry(
            name,
            module.TITLE,
            quantities,
            {q.name: _value(q, one["values"][q.name], unit) for q in quantities},
            unit,
            str(one["convention"]),
            tuple(map(str, one["sources"])),
            tuple(map(str, one["remarks"])),
            dict(one["histograms"]),
            dict(one["curves"]),
            own,
        )
    return found


def _value(quantity: Quantity, stored: AnyMapping, unit: str) -> Number:
    """Return the value in the unit of the report."""
    value: Number = stored["value"]
    in_file = quantity.value_in(1.0, unit)
    if value is None or in_file in (None, 1.0):
        return value
    assert in_file is not None
    return float(value) / float(in_file)


def read_columns(path: Path) -> dict[str, npt.NDArray[np.str_]]:
    """Read columns of a table as text, as written by `measure.reports.export`."""
    with path.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    columns = {}
    for i, title in enumerate(head):
        cells = [row[i] for row in rows]
        while cells and not cells[-1]:  # shorter columns end with empty cells
            cells.pop()
        columns[title] = np.array(cells, np.str_)
    return columns
