"""Reads reports from the JSON and CSV files that `export` has written."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.measure.groups import GroupSummary
from napari_geosr.measure.methods import GROUPS, settings_values
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.overview import Overview
from napari_geosr.measure.phases.findings import Morphometry, Number, Quantity
from napari_geosr.measure.phases.requested import StatisticModule, named_quantities
from napari_geosr.measure.reports.report import Histogram, PorosityReport
from napari_geosr.measure.reports.table import IN_GROUP
from napari_geosr.measure.statistics import volume_statistics
from napari_geosr.measure.sums import Table, quantiles_of

#: Columns stored as 0 and 1 in the file and shown as "no" and "yes" in the table.
_YES_OR_NO = ("surface_reliable", "touches_border")
#: Columns of text, added by `explain`.
_WORDS = ("evidence", "similar")
_INTEGERS = ("label", "voxels")
_DIAMETER = "equivalent_diameter"
#: Current names of renamed quantities, keyed by their names in earlier files.
_EARLIER_NAMES = {
    "porosity_band": "porosity_interval",
    "porosity_band_nominal": "porosity_interval_nominal",
    "porosity_band_factor": "porosity_interval_factor",
    "pores_per_mm3_band": "pores_per_mm3_interval",
    "pores_per_mm2_band": "pores_per_mm2_interval",
}


def report_from_files(
    values: AnyMapping,
    table: Path,
    labels: object = None,
    *,
    tables: Mapping[str, Path] | None = None,
    overview: Overview | None = None,
) -> PorosityReport:
    """Rebuild a report from its stored files.

    The histogram of the grey values, the noise, the interval, the graph and the sample
    mask are left out.

    Parameters
    ----------
    values : mapping
        Contents of the JSON file.
    table : Path
        CSV file of the report's pores.
    labels : array-like, optional
        Label of every voxel.
    tables : mapping of Path, optional
        Files of the tables of morphometry, by their names.
    overview : Overview, optional
        Phases on a coarse grid, for the picture.

    Raises
    ------
    FileError
        If a file cannot be read, or was written by another release.
    """
    values = {_EARLIER_NAMES.get(key, key): value for key, value in values.items()}
    try:
        columns, units = _read_table(table)
        morphometry = morphometry_from_json(
            values.get("morphometry") or {},
            str(values["unit"]),
            flat=_is_flat(values),
            tables=tables or {},
        )
        group, methods = values.get("group"), values.get("methods")
        groups = {
            str(name): GroupSummary.from_json_dict(kept)
            for name, kept in (values.get("groups") or {}).items()
        }
        marked = [*groups, *([] if group is None else [IN_GROUP])]
        columns |= {name: columns[name].astype(np.float64) for name in marked}
        return PorosityReport(
            name=str(values["name"]),
            unit=str(values["unit"]),
            voxel_size=tuple(map(float, values["voxel_size"])),
            shape=tuple(map(int, values["shape"])),
            threshold=float(values["threshold"]),
            threshold_rule=str(values["threshold_rule"]),
            phase=str(values["phase"]),
            min_voxels=int(values["min_voxels"]),
            connectivity=int(values["connectivity"]),
            figures=_figures(values, columns)
            | {k: v for one in morphometry.values() for k, v in one.values.items()},
            table=columns,
            units=units,
            labels=labels,
            histogram=_histogram(values["histogram"]),
            grey_histogram=Histogram(np.zeros(0, np.int64), np.zeros(0)),
            warnings=tuple(map(str, values["warnings"])),
            morphometry=morphometry,
            group=None if group is None else GroupSummary.from_json_dict(group),
            groups=groups,
            settings={
                name: values[name]
                for name in ("local_window", "hysteresis")
                if name in values
            }
            | ({} if methods is None else _settings(str(methods))),
            overview=overview,
            threshold_scope=str(values.get("threshold_scope", "")),
        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{table} cannot be read: {error}.") from error
    except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
        raise FileError(
            f"The report of {table} is damaged, or was written by another release of "
            "napari-geosr. Measure again."
        ) from error


def _settings(methods: str) -> AnyDict:
    """Return the settings in a methods section, without the definitions of groups."""
    return {k: v for k, v in settings_values(methods).items() if k != GROUPS}


def _is_flat(values: AnyMapping) -> bool:
    """Whether an image was measured."""
    return all(n == 1 for n in values["shape"][:-2])


def _figures(values: AnyMapping, table: Table) -> AnyDict:
    """Read all values; compute from the table those that are not in the JSON file."""
    flat = _is_flat(values)
    size = "area" if flat else "volume"
    known = volume_statistics(flat=flat)
    # The file may lack a statistic from another package.
    figures = {s.name: values[s.name] for s in known if s.name in values}
    # Without a voxel size, the file lacks figures in voxels: use the table.
    quantiles = quantiles_of(table[size])
    of_size = {"mean": "mean", "median": "median", "largest": "max"}
    figures |= {f"{word}_{size}": quantiles[key] for word, key in of_size.items()}
    figures[f"pore_{size}_quantiles"] = quantiles
    figures[_DIAMETER] = quantiles_of(table[_DIAMETER])
    return figures


def _histogram(values: AnyMapping) -> Histogram:
    counts = np.array(values["counts"], np.int64)
    edges = np.array(values["edges"], np.float64)
    return Histogram(counts, edges, str(values["unit"]))


def _read_table(path: Path) -> tuple[Table, dict[str, str]]:
    """Return the columns of the CSV file, and their units."""
    with path.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    columns: Table = {}
    units: dict[str, str] = {}
    for i, title in enumerate(head):
        name, _, unit = title.removesuffix(")").partition(" (")
        columns[name] = _column(name, [row[i] for row in rows])
        units[name] = unit
    return columns, units


def _column(name: str, cells: list[str]) -> np.ndarray:
    if name in _YES_OR_NO:
        return np.array([cell == "1" for cell in cells], np.bool_)
    if name in _WORDS:
        return np.array(cells, str)
    are_whole = all(cell.lstrip("-").isdigit() for cell in cells)
    if name in _INTEGERS or (cells and are_whole):
        return np.array([int(cell) for cell in cells], np.int64)
    return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)


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
            {
                q.name: (_end(q, one, "low", unit), _end(q, one, "high", unit))
                for q in quantities
                if "low" in one["values"][q.name]
            },
        )
    return found


def _end(quantity: Quantity, stored: AnyMapping, end: str, unit: str) -> float:
    """Return a limit of the interval of a quantity, in the unit of the report."""
    value = _value(quantity, {"value": stored["values"][quantity.name][end]}, unit)
    if value is None:
        raise ValueError(f"a limit of the interval of {quantity.name} is missing")
    return float(value)


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
