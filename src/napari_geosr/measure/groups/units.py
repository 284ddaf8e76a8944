"""Units of the numbers in expressions that define groups of pores."""

from __future__ import annotations

from collections.abc import Mapping

from napari_geosr.core.units import PIXEL, VOXEL
from napari_geosr.measure.groups import ALIASES, TOKEN, Group

#: Numbers of voxels, for which no unit is expected.
_OF_VOXELS = "voxels"


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
    """Return an expression in which the units of numbers are written.

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
