"""Groups of pores that were kept after the measurement, as columns of the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from napari_geosr.measure.groups import Group, GroupSummary
from napari_geosr.measure.groups.missing import missing_remarks


def with_kept(
    groups: Mapping[str, GroupSummary], name: str, new: GroupSummary
) -> dict[str, GroupSummary]:
    """Append a group to the groups that were kept after the measurement.

    An earlier group of the same name is dropped. Groups with expressions that refer to
    it then precede the new group, so `definitions` leaves them out.
    """
    return {n: group for n, group in groups.items() if n != name} | {name: new}


def definitions(
    groups: Mapping[str, GroupSummary], measured: Collection[str]
) -> dict[str, str]:
    """Return the expressions of the groups that a new measurement can reproduce.

    Parameters
    ----------
    groups : mapping of GroupSummary
        Groups by the name of their column, in the order in which they were kept.
    measured : collection of str
        Columns of the table of a new measurement.

    Returns
    -------
    dict of str
        Only groups that compare measured columns or earlier groups of this kind.

    Examples
    --------
    >>> large = GroupSummary("d>20um", 1, 2, None)
    >>> drawn = GroupSummary("", 1, 2, None)
    >>> both = GroupSummary("large==1 & drawn==1", 1, 2, None)
    >>> groups = {"large": large, "drawn": drawn, "both": both}
    >>> definitions(groups, {"equivalent_diameter"})
    {'large': 'd>20um'}
    """
    found: dict[str, str] = {}
    for name, group in groups.items():
        if group.text and not _lacking(group, {*measured, *found}):
            found[name] = group.text
    return found


def _lacking(group: GroupSummary, known: Collection[str]) -> list[str]:
    """Return the columns that an expression compares but that `known` lacks."""
    return sorted(Group(group.text).columns - set(known))


def group_texts(
    groups: Mapping[str, GroupSummary], measured: Collection[str], *, flat: bool
) -> list[str]:
    """Describe how the pores of each group were selected, and which lack a value."""
    texts, defined = [], definitions(groups, measured)
    known: set[str] = set(measured)
    for name, group in groups.items():
        if name in defined:
            known.add(name)
            how = f"selected by {group.text}."
        elif not group.text:
            how = "selected by hand; the selection is not part of this text."
        else:
            # Groups of these names were kept later, and are described below.
            replaced = list(groups)[list(groups).index(name) :]
            *first, last = (
                f"an earlier {n}" if n in replaced else n
                for n in _lacking(group, known)
            )
            lacking = f"{', '.join(first)} and {last} are" if first else f"{last} is"
            how = f"selected by {group.text}, where {lacking} not part of this text."
        texts.append(
            f"Group of pores {name}: {group.count} of {group.total} pores, {how}"
        )
        texts += missing_remarks(group, flat=flat)
    return texts
