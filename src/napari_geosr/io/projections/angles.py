"""Angles of projections: from a text file, a range, or the scan's own file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import FileError, ProjectionsError
from napari_geosr.io.hdf5.hdf5_items import text_of

Angles = npt.NDArray[np.float64]

_DEGREES = {"deg", "degs", "degree", "degrees", "°"}
_RADIANS = {"rad", "rads", "radian", "radians"}
#: Minimum number of angles for which the unit is considered ambiguous if no angle
#: exceeds about 2π.
_MIN_AMBIGUOUS = 10

#: Largest accepted angle in degrees; up to this value, float64 resolves 1e-9 degrees.
_MAX_ANGLE = 1e6
#: Smallest accepted range of angles, in degrees.
_MIN_RANGE = 1e-3


@dataclass(frozen=True)
class StoredAngles:
    """Angles stored in a scan's file.

    Attributes
    ----------
    values : ndarray of shape (n,)
    unit : str or None
        As stated in the file; None if it does not state one.
    location : str
        File and location inside it, for messages.
    """

    values: Angles
    unit: str | None
    location: str


@dataclass(frozen=True)
class AngleSettings:
    """Angles that the user gives; they take precedence over the file.

    Attributes
    ----------
    angles : path, sequence of float or None
        A text file with one angle per line, or the angles themselves.
    angle_range : tuple of float or None
        First angle and end of a range of evenly spaced angles, in degrees.
    endpoint : bool
        Whether the last projection was taken at the end of the range rather than one
        step before it.
    unit : str or None
        ``"deg"`` or ``"rad"``; unit of `angles`, or of the angles in the file.
    """

    angles: str | Path | Sequence[float] | Angles | None = None
    angle_range: tuple[float, float] | None = None
    endpoint: bool = False
    unit: str | None = None

    def resolve(self, n: int, title: str, stored: StoredAngles | None) -> Angles:
        """Return the angles of a scan of `n` projections, in degrees.

        Raises
        ------
        FileError
            If there are no angles, their number is not `n`, or their unit is unclear.
        ProjectionsError
            If the range is invalid, or both angles and a range are given.
        """
        if self.angles is not None and self.angle_range is not None:
            raise ProjectionsError(
                f"{title}: both angles and a range of angles are given. Give one of "
                "the two."
            )
        if self.angle_range is not None:
            return self._spaced(n, title, *self.angle_range)
        found = stored
        if isinstance(self.angles, str | Path):
            found = read_angles(Path(self.angles).expanduser())
        elif self.angles is not None:
            values = np.asarray(self.angles, np.float64)
            found = StoredAngles(values, self.unit or "deg", "the angles given")
        if found is None:
            raise FileError(
                f"{title} does not contain its angles. Give a text file with one angle "
                "per line (--angles FILE), or a range (--angle-range 0,180)."
            )
        if found.values.shape != (n,):
            raise FileError(
                f"{title} has {n} projections, but {found.location} has "
                f"{found.values.size} angles. Give one angle for each projection."
            )
        return in_degrees(found, self.unit)

    def _spaced(self, n: int, title: str, first: float, end: float) -> Angles:
        if not (math.isfinite(first) and math.isfinite(end)) or first == end:
            raise ProjectionsError(
                f"{title}: {first:g} to {end:g} is not a range of angles. Give the "
                "start and the end of the range in degrees, e.g. 0,180."
            )
        if max(abs(first), abs(end)) > _MAX_ANGLE or abs(end - first) < _MIN_RANGE:
            raise ProjectionsError(
                f"{title}: {first:g} to {end:g} degrees is not a range of scan angles. "
                "Give the start and the end of the range in degrees, e.g. 0,180."
            )
        return np.linspace(first, end, n, endpoint=self.endpoint)


def in_degrees(stored: StoredAngles, unit: str | None = None) -> Angles:
    """Convert angles to degrees; `unit` takes precedence over the file's unit.

    Raises
    ------
    FileError
        If no unit is stated and the values look like radians, or the unit is not a unit
        of angle.
    """
    unit = unit or stored.unit
    word = (unit or "").strip().casefold()
    if word in _RADIANS:
        return np.rad2deg(stored.values)
    if word in _DEGREES:
        return stored.values
    if word:
        raise FileError(
            f"{stored.location}: {unit!r} is not a unit of angle. Give deg or rad."
        )
    values = stored.values[np.isfinite(stored.values)]
    largest = float(np.abs(values).max(initial=0.0))
    if len(values) >= _MIN_AMBIGUOUS and largest < 2.02 * math.pi:
        raise FileError(
            f"{stored.location} does not specify whether its angles (0 … "
            f"{largest:.4g}) are degrees or radians. Give the unit (--angle-unit deg "
            "or --angle-unit rad)."
        )
    return stored.values


def read_angles(path: Path) -> StoredAngles:
    """Read a text file with one angle per line.

    Empty lines and lines that begin with ``#`` are skipped; such a comment, or a header
    line, may give the unit (``degrees`` or ``radians``).

    Raises
    ------
    FileError
        If a line contains anything else, or no line contains an angle.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise FileError(
            f"{path} cannot be read as a list of angles: {reason}. Give a text file "
            "with one angle per line."
        ) from error
    values: list[float] = []
    unit = None
    for number, line in enumerate(lines, start=1):
        text = line.strip().rstrip(",;")
        if not text or text.startswith("#") or (not values and _is_header(text)):
            unit = _unit_in(text) or unit
            continue
        try:
            values.append(float(text))
        except ValueError as error:
            raise FileError(
                f"{path.name}, line {number}: {text[:40]!r} is not an angle. Give one "
                "number per line."
            ) from error
    if not values:
        raise FileError(f"{path.name} contains no angles. Give one number per line.")
    return StoredAngles(np.array(values), unit, path.name)


def _is_header(text: str) -> bool:
    return re.match(r"[A-Za-zθ°\"']{2}", text) is not None and text.lower() not in (
        "nan",
        "inf",
    )


def _unit_in(text: str) -> str | None:
    words = set(re.findall(r"[a-z°]+", text.casefold()))
    if words & _RADIANS:
        return "rad"
    return "deg" if words & _DEGREES else None


def stored_in(item: Any, location: str) -> StoredAngles:
    """Read the angles of an HDF5 dataset, with the unit from its attributes."""
    if np.dtype(item.dtype).kind not in "iuf":
        raise FileError(f"{location}: the angles are not numbers. Give them in a file.")
    unit = text_of(item.attrs.get("units", item.attrs.get("unit", ""))).strip()
    values = np.ravel(np.asarray(item[()], np.float64))
    return StoredAngles(values, unit or None, location)
