"""Angles of projections: out of a file, a range, or what the scan's file says."""

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

Angles = npt.NDArray[np.float64]

_DEGREES = {"deg", "degs", "degree", "degrees", "°"}
_RADIANS = {"rad", "rads", "radian", "radians"}
#: So many angles that all lie within a full turn of radians may well be radians.
_MANY = 10


@dataclass(frozen=True)
class StoredAngles:
    """Angles that a scan's file holds.

    Attributes
    ----------
    values : ndarray of shape (n,)
    unit : str or None
        As the file says it; None where it says nothing.
    where : str
        File and place inside it, for messages.
    """

    values: Angles
    unit: str | None
    where: str


@dataclass(frozen=True)
class GivenAngles:
    """What a person says about the angles; it overrules the file.

    Attributes
    ----------
    angles : path, sequence of float or None
        A text file with one angle a line, or the angles themselves.
    angle_range : tuple of float or None
        First angle and end of evenly spaced angles, in degrees.
    endpoint : bool
        Whether the last projection was taken at the end of the range; otherwise one
        step before it.
    unit : str or None
        ``"deg"`` or ``"rad"``, of `angles` or of those in the file.
    """

    angles: str | Path | Sequence[float] | Angles | None = None
    angle_range: tuple[float, float] | None = None
    endpoint: bool = False
    unit: str | None = None

    def resolve(self, n: int, title: str, stored: StoredAngles | None) -> Angles:
        """Angles in degrees of a scan of `n` projections.

        Raises
        ------
        FileError
            If there are none, not `n`, or it cannot be told what they mean.
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
                f"{title} does not say its angles. Give a text file with one angle a "
                "line (--angles FILE), or a range (--angle-range 0,180)."
            )
        if found.values.shape != (n,):
            raise FileError(
                f"{title} has {n} projections, but {found.where} has "
                f"{found.values.size} angles. Give one angle for each projection."
            )
        return in_degrees(found, self.unit)

    def _spaced(self, n: int, title: str, first: float, end: float) -> Angles:
        if not (math.isfinite(first) and math.isfinite(end)) or first == end:
            raise ProjectionsError(
                f"{title}: {first:g} to {end:g} is no range of angles. Give the first "
                "angle and the end in degrees, e.g. 0,180."
            )
        return np.linspace(first, end, n, endpoint=self.endpoint)


def in_degrees(stored: StoredAngles, unit: str | None = None) -> Angles:
    """Angles in degrees; `unit` overrules what the file says.

    Raises
    ------
    FileError
        If nothing says the unit and the values look like radians, or the unit is no
        unit of angles.
    """
    said = unit or stored.unit
    word = (said or "").strip().casefold()
    if word in _RADIANS:
        return np.rad2deg(stored.values)
    if word in _DEGREES:
        return stored.values
    if word:
        raise FileError(
            f"{stored.where}: {said!r} is no unit of angles. Say deg or rad."
        )
    values = stored.values[np.isfinite(stored.values)]
    largest = float(np.abs(values).max(initial=0.0))
    if len(values) >= _MANY and largest < 2.02 * math.pi:
        raise FileError(
            f"{stored.where} does not say whether its angles (0 … {largest:.4g}) are "
            "degrees or radians. Say which (--angle-unit deg or --angle-unit rad)."
        )
    return stored.values


def read_angles(path: Path) -> StoredAngles:
    """Read a text file with one angle a line.

    Empty lines and lines that begin with ``#`` are left out; they, or a first line of
    words, may say ``degrees`` or ``radians``.

    Raises
    ------
    FileError
        If a line holds anything else.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text file"
        raise FileError(
            f"{path} cannot be read as a list of angles: {reason}. Give a text file "
            "with one angle a line."
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
                f"{path.name}, line {number}: {text[:40]!r} is no angle. One number a "
                "line is needed."
            ) from error
    if not values:
        raise FileError(f"{path.name} holds no angles. One number a line is needed.")
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


def stored_in(item: Any, where: str) -> StoredAngles:
    """Angles of an HDF5 dataset, with the unit that its attributes say."""
    from napari_geosr.io.hdf5_items import text_of

    if np.dtype(item.dtype).kind not in "iuf":
        raise FileError(f"{where}: the angles are no numbers. Give them in a file.")
    said = text_of(item.attrs.get("units", item.attrs.get("unit", ""))).strip()
    values = np.ravel(np.asarray(item[()], np.float64))
    return StoredAngles(values, said or None, where)
