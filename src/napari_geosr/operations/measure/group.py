"""Checks definitions of groups of pores; states assumed units and missing values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import Group
from napari_geosr.measure.groups.missing import (
    assumed_remarks,
    evaluated,
    missing_remarks,
)
from napari_geosr.measure.groups.missing import with_units as with_units
from napari_geosr.measure.porosity_run import geometry_of
from napari_geosr.measure.reports.table import IN_GROUP, column_units

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport


def unit_remarks(volume: Volume, config: PorosityConfig) -> list[str]:
    """State the unit of numbers for which the definition of a group gives none."""
    if config.group is None:
        return []
    units = column_units(geometry_of(volume.select()), config.statistics)
    return assumed_remarks(config.group, units)


def filter_remarks(report: PorosityReport, text: str) -> list[str]:
    """State the units that a filter assumes, and how many pores lack a value.

    Parameters
    ----------
    report : PorosityReport
    text : str
        Filter that fits the pore table.
    """
    groups = report.groups
    if report.group is not None:
        groups = {IN_GROUP: report.group, **groups}
    size = report.size_column
    _, found = evaluated(text, report.table, report.units, size, groups)
    return [
        *assumed_remarks(text, report.units),
        *missing_remarks(found, flat=report.is_flat),
    ]


def kept_remarks(report: PorosityReport, name: str) -> list[str]:
    """State how many pores lack a value that decides whether they belong to a group."""
    return missing_remarks(report.groups[name], flat=report.is_flat)


def check_group(volumes: Mapping[str, Volume], config: PorosityConfig) -> None:
    """Refuse a group that cannot be evaluated in all volumes.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Volumes by their titles.
    config : PorosityConfig

    Raises
    ------
    ConfigError
        If a column is unknown, or a unit does not fit.
    """
    if config.group is None:
        return
    group = Group(config.group)
    for title, volume in volumes.items():
        try:
            group.check(column_units(geometry_of(volume.select()), config.statistics))
        except ConfigError as error:
            if len(volumes) == 1:
                raise
            raise ConfigError(f"{title}: {error}") from error
