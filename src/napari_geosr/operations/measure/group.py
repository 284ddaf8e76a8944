"""Checks the definition of a group of pores, and counts pores that lack a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import Group
from napari_geosr.measure.groups.missing import missing_remarks
from napari_geosr.measure.porosity_run import geometry_of
from napari_geosr.measure.reports.table import column_units

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport


def unit_remarks(volume: Volume, config: PorosityConfig) -> list[str]:
    """State the unit of numbers for which the definition of a group gives none."""
    if config.group is None:
        return []
    units = column_units(geometry_of(volume.select()), config.statistics)
    return [
        f"The group {config.group!r} compares {column!r} with a number without a unit: "
        f"the number is in {unit}."
        for column, unit in Group(config.group).without_unit(units).items()
    ]


def kept_remarks(report: PorosityReport, name: str) -> list[str]:
    """State how many pores lack a value on which a kept group depends."""
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
