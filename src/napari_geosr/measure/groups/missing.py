"""Missing values, and numbers without a unit, in the definitions of groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.units import PIXEL, VOXEL
from napari_geosr.measure.groups import (
    ALIASES,
    TOKEN,
    BoolArray,
    Group,
    GroupSummary,
    Table,
    summary,
)
from napari_geosr.measure.number_text import percent_text

#: Column with the number of voxels of each pore, for which no unit is expected.
_OF_VOXELS = "voxels"
#: Column of a group: 1 for its pores, 0 for pores outside it, NaN if unknown.
Membership = npt.NDArray[np.float64]


def membership(inside: BoolArray, outside: BoolArray) -> Membership:
    """Return 1 for pores in a group, 0 for pores outside it, and NaN if unknown.

    Examples
    --------
    >>> membership(np.array([True, False, False]), np.array([False, True, False]))
    array([ 1.,  0., nan])
    """
    return np.where(inside | outside, inside, np.nan)


def evaluated(
    text: str,
    table: Table,
    units: Mapping[str, str],
    size: str,
    groups: Mapping[str, GroupSummary] | None = None,
) -> tuple[Membership, GroupSummary]:
    """Find and summarise the pores of a group.

    Parameters
    ----------
    text : str
    table : mapping of ndarray
    units : mapping of str
    size : str
        Column of the table with the sizes of the pores.
    groups : mapping of GroupSummary, optional
        Groups that are columns of the table. Where it is unknown whether a pore belongs
        to such a group, the summary names the columns in which values for this group
        are missing.

    Returns
    -------
    ndarray of shape (n,)
        See `membership`.
    GroupSummary
    """
    group, groups = Group(text), groups or {}
    inside, outside = group.in_and_out(table, units)
    sizes = table[size]
    unknown = ~(inside | outside)
    absent = summary(text, unknown, sizes)
    missing: set[str] = set()
    for column in group.columns:
        if np.isnan(table[column][unknown].astype(np.float64)).any():
            earlier = groups.get(column)
            missing.update(earlier.missing_columns if earlier else (column,))
    border = table.get("touches_border", np.zeros(len(unknown), bool))
    found = replace(
        summary(text, inside, sizes),
        unknown=absent.count,
        unknown_share=absent.share_of_size if absent.count else None,
        missing_columns=tuple(sorted(missing)),
        unknown_at_border=int(np.count_nonzero(border[unknown])),
    )
    return membership(inside, outside), found


def kept_column(
    group: str | GroupSummary,
    inside: BoolArray | Membership,
    table: Table,
    units: Mapping[str, str],
    size: str,
    groups: Mapping[str, GroupSummary],
) -> tuple[Membership, GroupSummary]:
    """Return the column and summary of pores that were selected in the dock.

    Parameters
    ----------
    group : str or GroupSummary
        The filter that selects these pores; empty if they were selected by hand. A
        summary of the same pores is returned unchanged.
    inside : ndarray of shape (n,)
        True or 1 for the selected pores.
    table, units, size, groups
        See `evaluated`.

    Raises
    ------
    ConfigError
        If the filter does not fit the table.
    """
    column = np.asarray(inside, np.float64)
    if isinstance(group, GroupSummary):
        return column, group
    if group:
        found, complete = evaluated(group, table, units, size, groups)
        if np.array_equal(found == 1, column == 1):
            return found, complete
    return column, summary(group, column == 1, table[size])


def missing_remarks(group: GroupSummary | None, *, flat: bool) -> list[str]:
    """State how many pores lack a value that a group compares, if any do.

    Examples
    --------
    >>> group = GroupSummary("ψ<0.6", 3, 35, 0.1, 19, 0.48, ("sphericity",), 19)
    >>> missing_remarks(group, flat=False)[0][:73]
    '19 of 35 pores (48.0 % of the pore volume) have no sphericity: they touch'
    """
    if group is None or not group.unknown:
        return []
    n = group.unknown
    share = ""
    if group.unknown_share is not None:
        size = "area" if flat else "volume"
        share = f" ({percent_text(group.unknown_share)} of the pore {size})"
    columns = " or ".join(name.replace("_", " ") for name in group.missing_columns)
    have, they, touch = (
        ("has", "It is", "it touches")
        if n == 1
        else (*("have", "They are", "they touch"),)
    )
    reason = ""
    if group.unknown_at_border == n:
        reason = f": {touch} the border"
    elif group.unknown_at_border:
        reason = f"; {group.unknown_at_border} of them touch the border"
    return [
        f"{n} of {group.total} pores{share} {have} no {columns}{reason}. {they} in "
        f"neither the group {group.text!r} nor its opposite."
    ]


def assumed_units(text: str, units: Mapping[str, str]) -> dict[str, str]:
    """Return the units of the columns that are compared with numbers without a unit.

    Parameters
    ----------
    text : str
        Expression.
    units : mapping of str
        Unit of each column.

    Examples
    --------
    >>> assumed_units("d>20 & voxels>8", {"equivalent_diameter": "µm"})
    {'equivalent_diameter': 'µm'}
    """
    found = Group(text).without_unit(units)
    return {column: unit for column, unit in found.items() if column != _OF_VOXELS}


def assumed_remarks(text: str, units: Mapping[str, str]) -> list[str]:
    """State the unit of numbers for which an expression gives none.

    Examples
    --------
    >>> assumed_remarks("d>20", {"equivalent_diameter": "voxel"})[0][-54:]
    'with a number without a unit: the number is in voxels.'
    """
    return [
        f"The group {text!r} compares {column!r} with a number without a unit: the "
        f"number is in {f'{unit}s' if unit in (VOXEL, PIXEL) else unit}."
        for column, unit in assumed_units(text, units).items()
    ]


def with_units(text: str, units: Mapping[str, str]) -> str:
    """Add the unit to each number of an expression that has none.

    Units that cannot be written in expressions are left out.

    Parameters
    ----------
    text : str
        Valid expression.
    units : mapping of str
        Unit of each column.

    Examples
    --------
    >>> with_units("d>20 & ψ<0.6 & d<0.1mm", {"equivalent_diameter": "µm"})
    'd>20 µm & ψ<0.6 & d<0.1mm'
    """
    assumed = assumed_units(text, units)
    parts, column = [], ""
    place = 0
    while (found := TOKEN.match(text, place)) is not None:
        part = text[place : found.end()]
        place = found.end()
        if found["word"]:
            column = ALIASES.get(found["word"], found["word"])
        elif found["number"] and not found["unit"] and column in assumed:
            number = part.rstrip()
            written = f"{number} {assumed[column]}"
            if TOKEN.fullmatch(written):
                part = written + part[len(number) :]
        parts.append(part)
    return "".join(parts) + text[place:]
