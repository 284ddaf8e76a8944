"""Pores for which it is unknown whether they belong to a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from napari_geosr.measure.groups import BoolArray, Group, GroupSummary, Table, summary
from napari_geosr.measure.number_text import percent_text


def evaluated(
    text: str, table: Table, units: Mapping[str, str], size: str
) -> tuple[BoolArray, GroupSummary]:
    """Find and summarise the pores of a group; `size` is a column of the table."""
    group = Group(text)
    inside, outside = group.in_and_out(table, units)
    sizes = table[size]
    unknown = ~(inside | outside)
    absent = summary(text, unknown, sizes)
    missing = (
        column
        for column in sorted(group.columns)
        if np.isnan(table[column][unknown].astype(np.float64)).any()
    )
    border = table.get("touches_border", np.zeros(len(unknown), bool))
    found = replace(
        summary(text, inside, sizes),
        unknown=absent.count,
        unknown_share=absent.share_of_size if absent.count else None,
        missing_columns=tuple(missing),
        unknown_at_border=int(np.count_nonzero(border[unknown])),
    )
    return inside, found


def summary_of(
    group: str | GroupSummary,
    inside: BoolArray,
    table: Table,
    units: Mapping[str, str],
    size: str,
) -> GroupSummary:
    """Summarise pores that were selected in the dock; `size` is a column of the table.

    Parameters
    ----------
    group : str or GroupSummary
        The filter that selects these pores; empty if they were selected by hand. A
        summary of the same pores is returned unchanged.
    inside : ndarray of bool, shape (n,)

    Raises
    ------
    ConfigError
        If the filter does not fit the table.
    """
    if isinstance(group, GroupSummary):
        return group
    if group:
        found, complete = evaluated(group, table, units, size)
        if np.array_equal(found, inside):
            return complete
    return summary(group, inside, table[size])


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
