"""OME-NGFF metadata: axes, units, and the scale and translation of each level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from napari_geosr.core.file_warnings import Note
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.io.stamp import Stamp

VERSION = "0.5"
_UNIT_WORDS = {
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
}
#: Colours of the channels, in order, for additive blending.
_COLOURS = ("FF0000", "00FF00", "0000FF", "FF00FF", "00FFFF", "FFFF00")
_TYPES = {"T": "time", "C": "channel"}


def multiscale(
    stamp: Stamp, name: str, factors: Sequence[Sequence[int]], method: str
) -> AnyDict:
    """Create a `multiscales` entry of version 0.5.

    Parameters
    ----------
    stamp : Stamp
        Geometry of the finest level.
    name : str
    factors : sequence of sequence of int
        Voxel size of each level along each axis, relative to that of the finest level.
    method : str
        How the coarser levels were computed.
    """
    axes = []
    for letter in stamp.axes:
        axis = {"name": letter.lower(), "type": _TYPES.get(letter, "space")}
        if letter in "ZYX" and stamp.unit != PIXEL:
            axis["unit"] = _UNIT_WORDS[stamp.unit]
        axes.append(axis)
    datasets = []
    for level, factor in enumerate(factors):
        scale, place = [], []
        for letter, f in zip(stamp.axes, factor, strict=True):
            if letter in "ZYX":
                size = stamp.size_along(letter)
                scale.append(size * f)
                # The centre of a coarse voxel is the mean of the fine voxels' centres.
                place.append(stamp.origin_along(letter) + (f - 1) / 2 * size)
            else:
                scale.append(1.0)
                place.append(0.0)
        transformations = [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": place},
        ]
        datasets.append(
            {"path": str(level), "coordinateTransformations": transformations}
        )
    return {"name": name, "axes": axes, "datasets": datasets, "type": method}


def find_multiscales(attributes: AnyMapping) -> list[AnyMapping]:
    """Return `multiscales` from a group's attributes (in ``"ome"`` since 0.5)."""
    ome = attributes.get("ome")
    block = ome if isinstance(ome, Mapping) else attributes
    found = block.get("multiscales", [])
    return [m for m in found if isinstance(m, Mapping)]


def channel_names(attributes: AnyMapping) -> tuple[str, ...]:
    """Return the channel labels in a group's ``omero`` block; () if there are none."""
    ome = attributes.get("ome")
    block = ome if isinstance(ome, Mapping) else attributes
    omero = block.get("omero")
    found = omero.get("channels", []) if isinstance(omero, Mapping) else []
    names = [str(c.get("label", "")) if isinstance(c, Mapping) else "" for c in found]
    return tuple(names) if any(names) else ()


def omero(names: Sequence[str], windows: Sequence[tuple[float, float]]) -> AnyDict:
    """Create the ``omero`` block with names and display settings of the channels.

    Parameters
    ----------
    names : sequence of str
    windows : sequence of tuple of float
        Lowest and highest grey value of each channel.
    """
    channels = []
    for i, (name, (low, high)) in enumerate(zip(names, windows, strict=True)):
        window = {"min": low, "max": high, "start": low, "end": high}
        colour = _COLOURS[i % len(_COLOURS)]
        channels.append(
            {"label": name, "color": colour, "window": window, "active": True}
        )
    return {"channels": channels}


def axes_of(entry: AnyMapping, ndim: int) -> str:
    """Return the axis letters of a `multiscales` entry; "" if any is not in TCZYX."""
    axes = entry.get("axes")
    if axes is None:  # before version 0.3, there were always five axes
        return "TCZYX" if ndim == 5 else ""
    names = [str(a["name"] if isinstance(a, Mapping) else a).upper() for a in axes]
    letters = "".join(names)
    fits = len(names) == ndim and set(names) <= set("TCZYX")
    return letters if fits and len(set(names)) == ndim else ""


@dataclass
class LevelSpace:
    """Voxel size and origin of a level by axis letter, where the file states them.

    Attributes
    ----------
    size, origin : dict
        In `unit`; empty where unknown.
    unit : str
        ``"pixel"`` when unknown.
    notes : list of str
        Notes on assumptions and on information that was ignored.
    """

    size: dict[str, float] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    unit: str = PIXEL
    notes: list[str] = field(default_factory=list)


def geometry(entry: AnyMapping, level: int, axes: str) -> LevelSpace:
    """Return the voxel size, origin and unit of one level.

    Transformations of the dataset are applied first, then those of the whole entry.

    Parameters
    ----------
    entry : mapping
        An entry of ``multiscales``.
    level : int
        Index of the level; 0 is the finest.
    axes : str
        Letters of the stored axes.
    """
    found = LevelSpace()
    spatial = [i for i, letter in enumerate(axes) if letter in "ZYX"]
    scale, place = [1.0] * len(axes), [0.0] * len(axes)
    is_scaled = False
    for step in _transformations(entry, level):
        kind = step.get("type")
        values = _numbers(step.get(kind), len(axes)) if isinstance(kind, str) else None
        if kind == "scale":
            if values is None or not all(_is_edge(values[i]) for i in spatial):
                return _unknown(f"The scale in the file, {step.get(kind)}, is invalid")
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            place = [a * b for a, b in zip(place, values, strict=True)]
            is_scaled = True
        elif kind == "translation":
            if values is None or not all(math.isfinite(values[i]) for i in spatial):
                text = f"The translation in the file, {step.get(kind)}, is invalid; it "
                found.notes.append(f"{text}was ignored.")
                continue
            place = [a + b for a, b in zip(place, values, strict=True)]
    units = {axes[i]: _unit(entry, i, found.notes) for i in spatial}
    found.unit = units["X"]
    if not is_scaled and found.unit != PIXEL:
        return _unknown("The file specifies no scale")
    for i in spatial:
        letter, own = axes[i], units[axes[i]]
        if found.unit != PIXEL and own == PIXEL:
            text = (
                f"The unit of the voxel size along {letter} is not in the file; it was "
                f"taken to be {found.unit}, as along X."
            )
            found.notes.append(Note(text, "slice distance"))
        known = PIXEL not in (own, found.unit)
        change = partial(convert_length, unit=own, to=found.unit) if known else float
        found.size[letter], found.origin[letter] = change(scale[i]), change(place[i])
    return found


def _transformations(entry: AnyMapping, level: int) -> Iterator[AnyMapping]:
    for item in (entry["datasets"][level], entry):
        steps = item.get("coordinateTransformations") or []
        yield from (step for step in steps if isinstance(step, Mapping))


def _unknown(reason: str) -> LevelSpace:
    """Return the geometry of an image without a usable scale."""
    text = f"{reason}, so the voxel size is unknown."
    return LevelSpace(notes=[Note(text, "unit")])


def _numbers(values: object, n: int) -> list[float] | None:
    """Return a list of `n` numbers from a file, or None."""
    if not isinstance(values, list | tuple) or len(values) != n:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    return [float(v) for v in values]


def _is_edge(length: float) -> bool:
    return math.isfinite(length) and length > 0


def _unit(entry: AnyMapping, axis: int, notes: list[str]) -> str:
    axes = entry.get("axes") or []
    item = axes[axis] if axis < len(axes) else {}
    text = item.get("unit") if isinstance(item, Mapping) else None
    unit = parse_unit(text)
    if text and unit is None:
        said = f"The unit {str(text)!r} is not a length unit."
        if said not in notes:
            notes.append(Note(said, "unit"))
    return unit or PIXEL
