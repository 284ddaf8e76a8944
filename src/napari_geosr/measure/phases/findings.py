"""Results of morphometry: quantities under their standard names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.config import format_enough
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import MILLIMETRES, PIXEL
from napari_geosr.measure.number_text import unit_text

Number = float | int | None
#: Lowest and highest value.
Band = tuple[float, float]
Table = Mapping[str, npt.NDArray[np.generic]]
#: Columns of curves that are lengths.
LENGTHS = ("distance", "MIL")


@dataclass(frozen=True)
class Quantity:
    """A quantity of a whole volume.

    Attributes
    ----------
    name : str
        Standard name, such as ``"Tb.Th"``.
    title : str
        Description in words.
    power : int
        Power of the unit of length.
    per_millimetre : bool
        Whether values are given per millimetre (squared, cubed), as is usual for
        numbers of objects.
    flat_name : str
        Name in an image; empty if it is the same, ``"-"`` if not defined there.
    text : str
        ``"percent"`` for a fraction that is shown as a percentage, ``"points"`` for
        one that is shown in percentage points.
    flat_title : str
        Description for an image; empty if it is the same.
    flat_power : int or None
        Power of the unit of length in an image; None if the same as in a volume.
    """

    name: str
    title: str
    power: int = 0
    per_millimetre: bool = False
    flat_name: str = ""
    text: str = ""
    flat_title: str = ""
    flat_power: int | None = None

    def unit_in(self, unit: str) -> str:
        """Return the unit of the values in files, for a volume in `unit`."""
        if not self.power:
            return ""
        return unit_text(self._length(unit), self.power)

    def value_in(self, value: Number, unit: str) -> Number:
        """Convert a value from `unit` to the unit of files."""
        length = self._length(unit)
        if value is None or length == unit:
            return value
        return float(value) * (MILLIMETRES[unit] / MILLIMETRES[length]) ** self.power

    def _length(self, unit: str) -> str:
        return "mm" if self.per_millimetre and unit in MILLIMETRES else unit


@dataclass(frozen=True)
class Column:
    """A column that a statistic adds to the pore table.

    Attributes
    ----------
    name : str
    power : int
        Power of the unit of length.
    unit : str
        Unit of values that contain no unit of length, such as ``"°"``.
    flat : bool or None
        Whether the column is only for images (True), only for volumes (False), or for
        both (None).
    """

    name: str
    power: int = 0
    unit: str = ""
    flat: bool | None = None

    def unit_in(self, length: str) -> str:
        """Return the unit of the values if lengths are in `length`."""
        return unit_text(length, self.power) if self.power else self.unit


@dataclass(frozen=True, eq=False)
class Findings:
    """Results of a statistic, with lengths in voxels.

    Attributes
    ----------
    values : mapping of float, int or None
        Values by the name of the quantity; None if not measurable.
    remarks : tuple of str
        Limitations of the values for this volume, in sentences.
    histograms : mapping
        Counts and edges by name; edges are lengths in voxels.
    curves : mapping
        Tables of curves by name: columns by their names. Values are in voxels in
        the columns in `LENGTHS` and in columns named after a quantity.
    columns : mapping of ndarray
        Columns for the pore table, in the unit of the volume; described in
        ``COLUMNS`` of the module.
    tables : mapping
        Tables for separate files, by the name of the file: columns by their names, in
        the units of the file; they may have different lengths.
    """

    values: Mapping[str, Number]
    remarks: Sequence[str] = ()
    histograms: Mapping[str, tuple[Sequence[int], Sequence[float]]] = field(
        default_factory=dict
    )
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    columns: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Morphometry:
    """The result of one statistic, in physical units.

    Attributes
    ----------
    name, title : str
        Key and title of the statistic.
    quantities : tuple of Quantity
    values : mapping
        Values by name, in `unit` to the power of the quantity.
    unit : str
        Unit of length; ``"pixel"`` if the voxel size is unknown.
    convention : str
        How the values are defined, in sentences.
    sources : tuple of str
        Publications that define them.
    remarks : tuple of str
    histograms, curves : mapping
        As in `Findings`, lengths in `unit`.
    tables : mapping
        As in `Findings`; not part of the JSON file.
    bands : mapping
        Lowest and highest value at the threshold and at both shifted thresholds, by
        the name of the quantity; empty if they were not measured.
    """

    name: str
    title: str
    quantities: tuple[Quantity, ...]
    values: Mapping[str, Number]
    unit: str
    convention: str
    sources: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    histograms: Mapping[str, AnyDict] = field(default_factory=dict)
    curves: Mapping[str, AnyDict] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict, repr=False)
    bands: Mapping[str, Band] = field(default_factory=dict)

    def to_json_dict(self, shown: str | None = None) -> AnyDict:
        """Return the values with their units, and how they are defined.

        Parameters
        ----------
        shown : str, optional
            Unit name to write if the unit is unknown; see
            `napari_geosr.core.units.shown_unit`.
        """
        unit = shown if shown and self.unit == PIXEL else self.unit
        return {
            "values": {
                q.name: {
                    "value": q.value_in(self.values[q.name], self.unit),
                    "unit": q.unit_in(unit),
                    "title": q.title,
                    **self._band_in_file(q),
                }
                for q in self.quantities
            },
            "histograms": {k: {**v, "unit": unit} for k, v in self.histograms.items()},
            "curves": {k: self._with_units(v, unit) for k, v in self.curves.items()},
            "convention": self.convention,
            "sources": list(self.sources),
            "remarks": list(self.remarks),
        }

    def _band_in_file(self, quantity: Quantity) -> dict[str, Number]:
        """Return the ends of a quantity's band in the unit of files, if it has one."""
        ends = self.bands.get(quantity.name, ())
        in_file = [quantity.value_in(end, self.unit) for end in ends]
        return dict(zip(("low", "high"), in_file, strict=False))

    def _with_units(self, curve: AnyMapping, length: str) -> AnyDict:
        """Return a curve with the unit of length, and those of its quantities."""
        units = {
            q.name: unit_text(length, q.power) if q.power else ""
            for q in self.quantities
            if q.name in curve
        }
        return {**curve, "unit": length} | ({"units": units} if units else {})


class LittleMemoryError(Exception):
    """A statistic needs more memory than is available.

    Parameters
    ----------
    needed : int
        Memory in bytes that would suffice.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are needed.")
        self.needed = needed


def figure_units(found: Mapping[str, Morphometry], length: str) -> dict[str, str]:
    """Return the unit of each value in `Morphometry.values`, given the unit of length.

    Unlike in files, numbers of objects are not converted to values per millimetre.
    """
    quantities = [quantity for one in found.values() for quantity in one.quantities]
    return {q.name: unit_text(length, q.power) if q.power else "" for q in quantities}


def memory_remark(what: str, needed: int, *, has_budget: bool) -> str:
    """Return a remark on values that were not measured for lack of memory.

    Parameters
    ----------
    what : str
        Beginning of the sentence, such as "The pore network was".
    needed : int
        Memory in bytes that would suffice.
    has_budget : bool
        Whether the user limited the memory.
    """
    more = ", or increase the memory budget (--memory)" if has_budget else ""
    return (
        f"{what} not measured: the measurement needs {format_enough(needed)} of "
        f"memory. Measure a part of the volume{more}."
    )


def wide_remark(name: str, voxels: float | None, shape: Sequence[int]) -> list[str]:
    """Warn if a thickness is too large for the sample.

    Spheres then extend beyond the border, and too few of them fit into the sample.

    Parameters
    ----------
    name : str
        Name of the quantity.
    voxels : float or None
        Its value in voxels.
    shape : sequence of int
        Edges of the sample's bounding box in voxels; edges of one voxel do not count.
    """
    edge = min((n for n in shape if n > 1), default=1)
    if voxels is None or voxels <= edge / 2:
        return []
    return [
        f"{name} ({voxels:.0f} voxels) is unreliable, because the shortest edge of the "
        f"sample is {edge} voxels. A larger sample is needed."
    ]


def coarse_remark(name: str, voxels: float | None) -> list[str]:
    """Warn if a thickness is too small for this voxel size.

    Parameters
    ----------
    name : str
        Name of the quantity.
    voxels : float or None
        Its value in voxels.
    """
    if voxels is None or voxels >= 8:
        return []
    share = 100 * 0.5 / voxels
    word = "unreliable" if voxels < 3 else "uncertain"
    return [
        f"{name} is only {voxels:.1f} voxels, so its value is {word} (half a voxel "
        f"is {share:.0f} % of it). Scan with smaller voxels for a more accurate "
        "value."
    ]
