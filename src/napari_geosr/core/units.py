"""Length units: one spelling within the package, many accepted from files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from napari_geosr.core.errors import ConfigError

PIXEL = "pixel"
#: Unit in which lengths of volumes of unknown voxel size are shown.
VOXEL = "voxel"
#: Number of spatial axes of a volume; an image has one fewer.
VOLUME_AXES = 3

#: Length of each unit in millimetres, by the spelling used inside the package.
MILLIMETRES: dict[str, float] = {
    "pm": 1e-9,
    "Å": 1e-7,
    "nm": 1e-6,
    "µm": 1e-3,
    "mm": 1.0,
    "cm": 10.0,
    "m": 1e3,
    "in": 25.4,
}

#: Tolerances for rounding errors: relative difference of voxel sizes, and distance
#: between positions as a fraction of a voxel.
_SAME_SIZE = 1e-6
_SAME_POSITION = 1e-2

#: Minimum accepted voxel edge in mm (about the size of a proton), or as a bare number
#: if the unit is unknown.
SMALLEST_EDGE = 1e-12
#: Maximum accepted voxel edge in mm (a thousand kilometres).
LARGEST_EDGE = 1e9

_SPELLINGS = {
    "pm": "pm picometer picometre picometers picometres",
    "Å": "Å Å a angstrom angstroms ångström ångstrom",
    "nm": "nm nanometer nanometre nanometers nanometres",
    "µm": (
        "µm μm um micron microns micrometer micrometre micrometers micrometres "
        "mkm Âµm \\u00b5m \\u00B5m \\u03bcm ┬Ąm"
    ),
    "mm": "mm millimeter millimetre millimeters millimetres",
    "cm": "cm centimeter centimetre centimeters centimetres",
    "m": "m meter metre meters metres",
    "in": 'in inch inches "',
    PIXEL: "pixel pixels px voxel voxels vx",
}
_BY_SPELLING = {
    spelling.casefold(): unit
    for unit, spellings in _SPELLINGS.items()
    for spelling in spellings.split()
}


def parse_unit(text: str | None) -> str | None:
    r"""Return the package's spelling of a length unit from a file or the user.

    Parameters
    ----------
    text : str or None
        Unit, such as ``"micron"``, ``"um"``, ``"\u00B5m"`` (as ImageJ escapes it).

    Returns
    -------
    str or None
        ``"µm"``, ``"mm"``, …, ``"pixel"``; None when `text` is empty or unknown.
    """
    if text is None:
        return None
    # With an ASCII locale, typed non-ASCII characters arrive as escaped bytes.
    typed = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _BY_SPELLING.get(typed.strip().strip("\x00").casefold())


def shown_unit(
    unit: str, voxel_size: Iterable[float], *, flat: bool | None = None
) -> str:
    """Return the name of the unit in which lengths of a volume are shown.

    Parameters
    ----------
    unit : str
        Unit of `voxel_size`; ``"pixel"`` if it is unknown.
    voxel_size : iterable of float
        Edge lengths of a voxel.
    flat : bool, optional
        Whether the volume is an image; by default, True for fewer than three edges.

    Returns
    -------
    str
        `unit`; if it is unknown, ``"voxel"``, or ``"pixel"`` for images. If the edges
        are numbers without a unit, ``"unit"``, because such lengths are not in voxels.

    Examples
    --------
    >>> shown_unit("µm", (1, 1, 1)), shown_unit("pixel", (1, 1, 1))
    ('µm', 'voxel')
    >>> shown_unit("pixel", (1, 1)), shown_unit("pixel", (1.95, 1.95, 1.95))
    ('pixel', 'unit')
    """
    edges = tuple(voxel_size)
    if unit != PIXEL:
        return unit
    if any(edge != 1 for edge in edges):
        return "unit"
    is_flat = len(edges) < VOLUME_AXES if flat is None else flat
    return PIXEL if is_flat else VOXEL


def shown_units(
    unit: str, voxel_size: Iterable[float], *, flat: bool | None = None
) -> str:
    """Return the plural of `shown_unit`: ``"voxels"``, ``"unit"``, ``"µm"``, ….

    Examples
    --------
    >>> shown_units("pixel", (1, 1, 1)), shown_units("pixel", (1.95, 1.95, 1.95))
    ('voxels', 'unit')
    """
    shown = shown_unit(unit, voxel_size, flat=flat)
    return f"{shown}s" if shown in (PIXEL, VOXEL) else shown


def volume_text(volume: float, unit: str, digits: int) -> str:
    """Format a volume in `unit` cubed; for units of length except mm, also in mm³.

    Examples
    --------
    >>> volume_text(1234567.0, "µm", 4), volume_text(21.5, "mm", 4)
    ('1.235e+06 µm³ (0.001235 mm³)', '21.5 mm³')
    >>> volume_text(215.0, "voxel", 4)
    '215 voxel³'
    """
    text = f"{volume:.{digits}g} {unit}³"
    if unit == "mm" or unit not in MILLIMETRES:
        return text
    converted = volume * convert_length(1.0, unit, "mm") ** 3
    return f"{text} ({converted:.{digits}g} mm³)"


def restates_unit(
    unit: str, title: str, voxel_size: Sequence[float], stated: str
) -> bool:
    """Whether a unit given without a voxel size is that of the volume.

    If not, the volume has a voxel size without a unit, to which the unit applies.

    Parameters
    ----------
    unit : str
        The unit given.
    title : str
        Name of the volume.
    voxel_size : sequence of float
        Voxel size of the volume.
    stated : str
        Unit of the volume.

    Raises
    ------
    ConfigError
        If the unit is unknown, or the volume has another unit or no voxel size.
    """
    if stated == PIXEL:
        if set(voxel_size) != {1}:
            return False
        raise ConfigError(
            f"{title} has no voxel size. Give the voxel size as well as its unit "
            f"({unit})."
        )
    if require_unit(unit) == stated:
        return True
    size = " × ".join(f"{edge:g}" for edge in voxel_size)
    raise ConfigError(
        f"{title} already states its voxel size ({size} {stated}). Leave out the unit "
        f"({unit}), or give the voxel size in this unit as well."
    )


def require_unit(text: str) -> str:
    """Return the same as `parse_unit`; raise `ConfigError` for an unknown unit."""
    unit = parse_unit(text)
    if unit is None:
        known = ", ".join(MILLIMETRES)
        raise ConfigError(f"{text!r} is not a length unit. Use one of: {known}.")
    return unit


def check_edge_range(edges: Iterable[float], unit: str) -> None:
    """Raise `ConfigError` for an extremely small or large edge length of a voxel.

    The volume of such a voxel, or its size as stored in a file, may overflow; this is
    reported before a run starts rather than when it ends.
    """
    scale = MILLIMETRES.get(unit, 1.0)
    for edge in edges:
        if edge > 0 and not SMALLEST_EDGE <= edge * scale <= LARGEST_EDGE:
            length = f"{edge:g} {unit}" if unit != PIXEL else f"{edge:g}"
            limits = f"{SMALLEST_EDGE:g} mm and {LARGEST_EDGE:g} mm"
            raise ConfigError(
                f"A voxel size of {length} cannot be right: edge lengths must be "
                f"between {limits}. Check voxel size and unit."
            )


def convert_length(value: float, unit: str, to: str) -> float:
    """Convert `value` from `unit` to `to`; both must be physical units.

    Parameters
    ----------
    value : float
    unit, to : str
        Names of units, such as ``"µm"``.
    """
    if unit == to:
        return value
    try:
        return value * (MILLIMETRES[unit] / MILLIMETRES[to])
    except KeyError as error:
        raise ConfigError(
            f"A length in {unit!r} cannot be converted to {to!r}: set a voxel size "
            "with a physical unit first."
        ) from error


def same_sizes(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether voxel sizes given in the same unit agree, apart from rounding.

    Examples
    --------
    >>> same_sizes((5e-9, 5e-9), (1e-8, 1e-8))
    False
    """
    return len(first) == len(second) and all(
        math.isclose(a, b, rel_tol=_SAME_SIZE)
        for a, b in zip(first, second, strict=True)
    )


def same_position(
    first: Sequence[float], second: Sequence[float], voxel_size: Sequence[float]
) -> bool:
    """Whether two positions agree to a small fraction of a voxel, even far from zero.

    Examples
    --------
    >>> same_position((3e7,), (3e7 + 5,), voxel_size=(5,))
    False
    """
    return all(
        abs(a - b) <= _SAME_POSITION * size
        for a, b, size in zip(first, second, voxel_size, strict=True)
    )
