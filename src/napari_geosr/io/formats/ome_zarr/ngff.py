"""OME-NGFF metadata: axes, units, and the scale and translation of each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        For each level, voxels of the finest level per voxel along each axis.
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
    """The `multiscales` in a group's attributes: under ``"ome"`` since version 0.5."""
    ome = attributes.get("ome")
    block = ome if isinstance(ome, Mapping) else attributes
    found = block.get("multiscales", [])
    return [m for m in found if isinstance(m, Mapping)]


def channel_names(attributes: AnyMapping) -> tuple[str, ...]:
    """Labels of the channels from a group's ``omero`` block; () if there are none."""
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
    """Axis letters of a `multiscales` entry; "" if they are not among T, C, Z, Y, X."""
    axes = entry.get("axes")
    if axes is None:  # before version 0.3, there were always five
        return "TCZYX" if ndim == 5 else ""
    names = [str(a["name"] if isinstance(a, Mapping) else a).upper() for a in axes]
    letters = "".join(names)
    fits = len(names) == ndim and set(names) <= set("TCZYX")
    return letters if fits and len(set(names)) == ndim else ""


def geometry(
    entry: AnyMapping, level: int, axes: str
) -> tuple[dict[str, float], dict[str, float], str]:
    """Voxel size and origin by axis letter, and unit, of one level.

    Transformations of the dataset are applied first, then those of the whole entry.

    Parameters
    ----------
    entry : mapping
        An entry of ``multiscales``.
    level : int
        0 is the finest.
    axes : str
        Letters of the stored axes.
    """
    n = len(axes)
    scale, place = [1.0] * n, [0.0] * n
    steps = [
        *entry["datasets"][level].get("coordinateTransformations", []),
        *entry.get("coordinateTransformations", []),
    ]
    for step in steps:
        if step.get("type") == "scale" and len(step.get("scale", [])) == n:
            by = [float(v) for v in step["scale"]]
            scale = [a * b for a, b in zip(scale, by, strict=True)]
            place = [a * b for a, b in zip(place, by, strict=True)]
        moved = step.get("translation", [])
        if step.get("type") == "translation" and len(moved) == n:
            place = [a + float(b) for a, b in zip(place, moved, strict=True)]
    units = {a: _unit(entry, i) for i, a in enumerate(axes) if a in "ZYX"}
    unit = units["X"]
    size, origin = {}, {}
    for i, letter in enumerate(axes):
        if letter not in "ZYX":
            continue
        own = units[letter]
        known = PIXEL not in (own, unit)
        size[letter] = convert_length(scale[i], own, unit) if known else scale[i]
        origin[letter] = convert_length(place[i], own, unit) if known else place[i]
    return size, origin, unit


def _unit(entry: AnyMapping, axis: int) -> str:
    axes = entry.get("axes") or []
    item = axes[axis] if axis < len(axes) else {}
    text = item.get("unit") if isinstance(item, Mapping) else None
    return parse_unit(text) or PIXEL
