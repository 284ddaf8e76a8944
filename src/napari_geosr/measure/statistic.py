"""What a statistic is: a column of the pore table, or a figure of the whole volume.

`napari_geosr.measure.statistics` says where they stand and how one is added.
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
Figures = AnyMapping
#: A text, or a function of the figures of all volumes compared that gives it.
Words = str | Callable[[Sequence[Figures]], str]
#: Place of what does not ask for one: after everything that does.
LAST = 1000.0


@dataclass(frozen=True)
class Colour:
    """Pores can be coloured by this column.

    Attributes
    ----------
    logarithmic : bool
        For sizes, which span decades.
    order : float
        Place in the list of colourings, lowest first.
    """

    logarithmic: bool = False
    order: float = LAST


@dataclass(frozen=True)
class PoreStatistic:
    """A column of the pore table, of the CSV file and of the dock.

    Attributes
    ----------
    name : str
        Words joined by underscores: the name of the column, and its title in the dock.
    function : callable
        From `Pores` to an array of shape (n,).
    power : int
        Of the length that the values contain: 3 for a volume, 0 for a pure number.
    unit : str
        Of values that contain no length, such as ``"voxel"``.
    flat : bool or None
        Only for images (True), only for volumes (False), or for both.
    order : float
        Place in the table, lowest first.
    colour : Colour or None
        Whether, and how, pores can be coloured by it.
    """

    name: str
    function: Callable[[Pores], np.ndarray]
    power: int = 0
    unit: str = ""
    flat: bool | None = None
    order: float = LAST
    colour: Colour | None = None

    def unit_in(self, length: str) -> str:
        """Unit of the values where lengths are in `length`."""
        return unit_text(length, self.power) if self.power else self.unit


@dataclass(frozen=True)
class Row:
    """How a figure is shown to people, in the dock, the terminal and the HTML page.

    Attributes
    ----------
    title : str or callable
        Its label; details in brackets are left out where there is little room.
    order : float
        Place among the rows, lowest first.
    value : callable, optional
        From the figures of a volume to what is shown; by default the figure itself. No
        row is shown where all values are None.
    text : callable, optional
        From a value to its text; by default three digits and the unit.
    compares : bool
        Whether the difference to another volume is shown.
    help : str or callable
        Tool tip of the dock; by default the label.
    """

    title: Words
    order: float = LAST
    value: Callable[[Figures], Any] | None = None
    text: Callable[[Any], str] | None = None
    compares: bool = True
    help: Words = ""


@dataclass(frozen=True)
class VolumeStatistic:
    """A figure of the whole volume: a key of the JSON file, and a row for people.

    Attributes
    ----------
    name : str
        Words joined by underscores: the key in ``PorosityReport.figures`` and in JSON.
    function : callable
        From `SweepTotals` to a number, a mapping of numbers, a pair of ends, or None.
    power : int
        Of the length that the value contains. In JSON the value is null where the voxel
        size is unknown.
    unit_key : str
        Key of the unit in JSON, after the last figure that names it; empty for none.
    flat : bool or None
        Only of images (True), only of volumes (False), or of both.
    order : float
        Place in the JSON file, lowest first; settings have `SETTINGS_ORDER`.
    in_json : bool
        False for what is only shown as a row.
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


#: Place of the settings of the measurement among the figures in the JSON file.
SETTINGS_ORDER = 200.0
