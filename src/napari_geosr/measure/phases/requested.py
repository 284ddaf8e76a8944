"""Measures the requested statistics of both phases."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.types import AnyDict
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.findings import (
    LENGTHS,
    Column,
    Findings,
    Morphometry,
    Quantity,
)
from napari_geosr.measure.sums import SweepTotals


class StatisticModule(Protocol):
    """A module in `napari_geosr.measure.morphometry`."""

    TITLE: str
    ABOUT: str
    CONVENTION: str
    SOURCES: tuple[str, ...]
    QUANTITIES: tuple[Quantity, ...]

    def measure(
        self, phases: Phases, totals: SweepTotals
    ) -> Generator[Step, None, Findings]:
        """Measure the quantities."""


def morphometry_steps(
    names: Sequence[str], phases: Phases, totals: SweepTotals
) -> Generator[Step, None, tuple[dict[str, Morphometry], dict[str, Findings]]]:
    """Measure the statistics listed in `names`, in that order.

    Yields
    ------
    Step
        Including a `WarningIssued` for each remark.

    Returns
    -------
    dict of Morphometry
        Results in physical units, by name.
    dict of Findings
        Results as returned by the statistics; their columns belong to the pore table.
    """
    measured: dict[str, Morphometry] = {}
    raw: dict[str, Findings] = {}
    for note in phases.notes:
        yield WarningIssued(message=note)
    for name in names:
        module: StatisticModule = MORPHOMETRY.load(name)
        phases.check()
        raw[name] = yield from module.measure(phases, totals)
        measured[name] = _in_physical_units(name, module, raw[name], phases)
        for remark in measured[name].remarks:
            yield WarningIssued(message=remark)
    return measured, raw


def added_column_units(
    names: Sequence[str], unit: str, *, flat: bool
) -> dict[str, str]:
    """Return the units of the columns that statistics add to the pore table, by name.

    Parameters
    ----------
    names : sequence of str
        Names of the statistics.
    unit : str
        Unit of length.
    flat : bool
        Whether an image is measured.
    """
    columns: list[Column] = []
    for name in names:
        columns += getattr(MORPHOMETRY.load(name), "COLUMNS", ())
    return {c.name: c.unit_in(unit) for c in columns if c.flat in (None, flat)}


def _in_physical_units(
    name: str, module: StatisticModule, found: Findings, phases: Phases
) -> Morphometry:
    edge = phases.edge
    quantities = named_quantities(module, flat=phases.flat)
    own = {_renamed(q, phases.flat).name: q for q in module.QUANTITIES}
    values = {}
    for quantity in quantities:
        value = found.values.get(own[quantity.name].name)
        if value is not None and quantity.power:
            value = float(value) * edge**quantity.power
        values[quantity.name] = value
    return Morphometry(
        name,
        module.TITLE,
        quantities,
        values,
        phases.unit,
        module.CONVENTION,
        module.SOURCES,
        tuple(_with_names(r, module.QUANTITIES, phases.flat) for r in found.remarks),
        {
            key: {
                "counts": list(counts),
                "edges": [e * edge for e in edges],
                "unit": phases.unit,
            }
            for key, (counts, edges) in found.histograms.items()
        },
        {key: _curve(one, module, phases) for key, one in found.curves.items()},
        found.tables,
    )


def named_quantities(module: StatisticModule, *, flat: bool) -> tuple[Quantity, ...]:
    """Return the quantities of a volume, or of an image with the names for images."""
    return tuple(
        _renamed(q, flat)
        for q in module.QUANTITIES
        if not (flat and q.flat_name == "-")
    )


def _with_names(remark: str, quantities: Sequence[Quantity], flat: bool) -> str:
    """Return a remark; for a 2D image, with the names that quantities have in 2D."""
    names = {q.name: q.flat_name for q in quantities if q.flat_name not in ("", "-")}
    if not (flat and names):
        return remark
    longest_first = sorted(names, key=len, reverse=True)
    either = "|".join(re.escape(name) for name in longest_first)
    whole_word = rf"(?<![\w/.])(?:{either})(?![\w/(]|\.\w)"
    return re.sub(whole_word, lambda found: names[found.group()], remark)


def _curve(
    curve: Mapping[str, Sequence[float]], module: StatisticModule, phases: Phases
) -> AnyDict:
    """Return a curve with distances and quantities in physical units."""
    powers = dict.fromkeys(LENGTHS, 1) | {q.name: q.power for q in module.QUANTITIES}
    columns: AnyDict = {
        key: [float(v) * phases.edge ** powers.get(key, 0) for v in values]
        for key, values in curve.items()
    }
    return {**columns, "unit": phases.unit}


def _renamed(quantity: Quantity, flat: bool) -> Quantity:
    """Return the quantity; for a 2D image, with its name, title and unit in 2D."""
    if not flat or quantity.flat_name == "-":
        return quantity
    power = quantity.flat_power
    return replace(
        quantity,
        name=quantity.flat_name or quantity.name,
        title=quantity.flat_title or quantity.title,
        power=quantity.power if power is None else power,
    )
