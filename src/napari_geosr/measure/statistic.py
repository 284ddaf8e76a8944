"""Descriptions of statistics: columns of the pore table, and values of a volume.

`napari_geosr.measure.statistics` explains where they appear and how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.types import AnyMapping
from napari_geosr.measure.number_text import unit_text
from napari_geosr.measure.sums import Pores, SweepTotals

#: Values of a whole volume by the name of their statistic.
Values = AnyMapping
#: A string, or a function that returns a string for the values of all volumes.
Words = str | Callable[[Sequence[Values]], str]
#: Default of `order`: after all statistics and columns with an explicit order.
LAST = 1000.0


@dataclass(frozen=True)
class Colour:
    """How pores are coloured by a column.

    Attributes
    ----------
    logarithmic : bool
        Whether the scale is logarithmic, as for sizes, which span decades.
    order : float
        Position in the list of colourings, lowest first.
    """

    logarithmic: bool = False
    order: float = LAST


@dataclass(frozen=True)
class PoreStatistic:
    """A column of the pore table, of the CSV file and of the dock.

    Attributes
    ----------
    name : str
        Words joined by underscores; the name of the column and its title in the dock.
    function : callable
        Maps `Pores` to an array of shape (n,).
    power : int
        Power of the unit of length: 3 for a volume, 0 for a dimensionless number.
    unit : str
        Unit of values that contain no unit of length, such as ``"voxel"``.
    flat : bool or None
        Defined only for images (True), only for volumes (False), or for both (None).
    order : float
        Position in the table, lowest first.
    colour : Colour or None
        How pores are coloured by this column; None if they cannot be.
    """

    name: str
    function: Callable[[Pores], np.ndarray]
    power: int = 0
    unit: str = ""
    flat: bool | None = None
    order: float = LAST
    colour: Colour | None = None

    def unit_in(self, length: str) -> str:
        """Return the unit of the values if lengths are in `length`."""
        return unit_text(length, self.power) if self.power else self.unit


@dataclass(frozen=True)
class Row:
    """How a value is displayed in the dock, the terminal and the HTML page.

    Attributes
    ----------
    title : str or callable
        Label; details in brackets are omitted if there is little space.
    order : float
        Position among the rows, lowest first.
    value : callable, optional
        Maps the values of a volume to the value displayed; by default, the value of the
        statistic. The row is hidden if all values are None.
    text : callable, optional
        Maps a value to its text; by default three significant digits and the unit.
    compares : bool
        Whether the difference from another volume is shown.
    help : str or callable
        Tool tip of the dock; by default the label.
    unit : str
        Unit of length; by default one that suits the value.
    file_unit : str
        Unit in ``values.csv`` of values without a power of the unit of length, such as
        ``"1/mm³"``; ``"%"`` for fractions, which are then written as percentages.
    """

    title: Words
    order: float = LAST
    value: Callable[[Values], Any] | None = None
    text: Callable[[Any], str] | None = None
    compares: bool = True
    help: Words = ""
    unit: str = ""
    file_unit: str = ""


@dataclass(frozen=True)
class VolumeStatistic:
    """A value of the whole volume: a key of the JSON file, and a displayed row.

    Attributes
    ----------
    name : str
        Words joined by underscores: the key in ``PorosityReport.figures`` and in JSON.
    function : callable
        Maps `SweepTotals` to a number, a mapping of numbers, a pair of limits, or None.
    power : int
        Power of the unit of length. In JSON, the value is null if the voxel size is
        unknown.
    unit_key : str
        Key of the unit in JSON, written after the last value that uses it; empty for
        none.
    flat : bool or None
        Defined only for images (True), only for volumes (False), or for both (None).
    order : float
        Position in the JSON file, lowest first; settings have `SETTINGS_ORDER`.
    in_json : bool
        False for values that are only displayed.
    row : Row or None
    """

    name: str
    function: Callable[[SweepTotals], Any]
    power: int = 0
    unit_key: str = ""
    flat: bool | None = None
    order: float = LAST
    in_json: bool = True
    row: Row | None = None


#: Position of the settings of the measurement among the figures in the JSON file.
SETTINGS_ORDER = 200.0
