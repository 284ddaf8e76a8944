"""The pore table: one row per pore, one column per statistic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.units import shown_unit
from napari_geosr.measure.phases.requested import added_column_units
from napari_geosr.measure.statistics import pore_statistics
from napari_geosr.measure.sums import Geometry, Pores, Table

#: The column that links rows to voxels of the label image.
LABEL = "label"
#: The column that marks the pores of the requested group.
IN_GROUP = "in_group"


def pore_table(pores: Pores) -> Table:
    """Return the columns for `pores`, in display order.

    Row ``i`` describes label ``i + 1``.

    Returns
    -------
    dict of ndarray of shape (n,)

    Raises
    ------
    ConfigError
        If a statistic of another package does not return one value per pore.
    """
    n = len(pores)
    table: Table = {LABEL: np.arange(1, n + 1, dtype=np.int64)}
    for statistic in pore_statistics(flat=pores.geometry.flat):
        values = statistic.function(pores)
        if values.shape != (n,):
            raise ConfigError(
                f"The statistic {statistic.name!r} gave values of shape "
                f"{values.shape} for {n} pores. Update or uninstall the package that "
                "provides it."
            )
        table[statistic.name] = values
    return table


def measured_columns(
    statistics: Sequence[str] = (), *, flat: bool, has_group: bool = False
) -> set[str]:
    """Return the columns of the table of a measurement.

    Parameters
    ----------
    statistics : sequence of str
        Names of the requested statistics, which may add columns.
    flat : bool
        Whether an image is measured.
    has_group : bool
        Whether a group of pores was requested.
    """
    own = {s.name for s in pore_statistics(flat=flat)}
    added = added_column_units(statistics, "", flat=flat)
    return {LABEL, *own, *added, *([IN_GROUP] if has_group else [])}


def column_units(geometry: Geometry, statistics: Sequence[str] = ()) -> dict[str, str]:
    """Return the unit of each column by name; empty for dimensionless numbers.

    Parameters
    ----------
    geometry : Geometry
    statistics : sequence of str
        Names of the requested statistics, which may add columns.
    """
    flat = geometry.flat
    unit = shown_unit(geometry.unit, geometry.voxel_size, flat=flat)
    own = {s.name: s.unit_in(unit) for s in pore_statistics(flat=flat)}
    return {LABEL: "", **own, **added_column_units(statistics, unit, flat=flat)}
