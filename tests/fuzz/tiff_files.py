"""TIFF files of every kind: dialects, types, byte orders, codecs, tiles and strips."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from hypothesis import note
from hypothesis import strategies as st
from variants import DTYPES, EDGES, UNITS, Array, Expected, voxels

_CODECS = [None, None, "zlib", "lzw", "packbits", "zstd", "lzma", "adobe_deflate"]


@st.composite
def tiff_files(draw: st.DrawFn, folder: Path) -> tuple[Path, Expected]:
    """Write a TIFF file of any kind, and return the expected result of reading it."""
    kind = draw(st.sampled_from(["plain", "shaped", "imagej", "ome", "colours"]))
    make = {
        "plain": _plain,
        "shaped": _plain,
        "imagej": _imagej,
        "ome": _ome,
        "colours": _colours,
    }[kind]
    array, expected, options = make(draw, kind)
    path = folder / ("made.ome.tif" if kind == "ome" else "made.tif")
    note(f"{array.dtype.str} {array.shape} {options}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if a dialect cannot hold the values
        tifffile.imwrite(path, array, **options)
    return path, expected


def _layout(draw: st.DrawFn, array: Array, *, imagej: bool = False) -> dict[str, Any]:
    """Layout of the voxels in the file."""
    options: dict[str, Any] = {"compression": draw(st.sampled_from(_CODECS))}
    if array.dtype.kind == "b" and options["compression"] == "lzma":
        options["compression"] = None
    has_predictor = array.dtype.str[1:] in ("u1", "i1", "u2", "i2", "u4", "i4", "f4")
    if options["compression"] not in (None, "packbits") and has_predictor:
        options["predictor"] = draw(st.booleans())
    layout = draw(st.sampled_from(["one", "strips", "tiles"]))
    if layout == "strips":
        options["rowsperstrip"] = draw(st.integers(1, 9))
    elif layout == "tiles":
        options["tile"] = (16, 32)
    if not imagej:
        options["bigtiff"] = draw(st.booleans())
        options["byteorder"] = draw(st.sampled_from("<>"))
    return options


def _plain(draw: st.DrawFn, kind: str) -> tuple[Array, Expected, dict[str, Any]]:
    axes = draw(st.sampled_from(["YX", "ZYX", "ZYX", "TZYX"]))
    if kind == "plain":
        axes = axes[-3:]  # pages contain no further information
    shape = _shape(draw, axes)
    array = voxels(draw, shape, draw(st.sampled_from([*DTYPES, "?", "f2", "u8", "i8"])))
    options = _layout(draw, array)
    options |= {"photometric": "minisblack"}
    options |= {"metadata": None} if kind == "plain" else {"metadata": {"axes": axes}}
    size: dict[str, float] = {}
    unit = "pixel"
    if draw(st.booleans()):  # resolution tags
        edges = {"Y": draw(EDGES), "X": draw(EDGES)}
        per = {a: 10_000 / edge for a, edge in edges.items()}
        options["resolution"] = (per["X"], per["Y"])
        options["resolutionunit"] = "CENTIMETER"
        size, unit = edges, "µm"
    return array, Expected(array, axes, size, unit), options


def _shape(draw: st.DrawFn, axes: str) -> tuple[int, ...]:
    # tifffile interprets a last axis of length one as samples.
    limits = {"Y": (1, 40), "X": (2, 50)}
    return tuple(draw(st.integers(*limits.get(a, (1, 4)))) for a in axes)


def _imagej(draw: st.DrawFn, kind: str) -> tuple[Array, Expected, dict[str, Any]]:
    axes = draw(st.sampled_from(["YX", "ZYX", "ZCYX", "TYX", "TZYX", "TZCYX", "CYX"]))
    array = voxels(draw, _shape(draw, axes), draw(st.sampled_from(["u1", "u2", "f4"])))
    options = _layout(draw, array, imagej=True)
    options["imagej"] = True
    if array.dtype == np.uint16 or array.dtype == np.float32:
        options["predictor"] = False
    metadata: dict[str, Any] = {"axes": axes}
    size: dict[str, float] = {}
    unit = "pixel"
    if draw(st.booleans()):
        spelling = draw(st.sampled_from(sorted(UNITS)))
        unit = UNITS[spelling]
        size = {a: draw(EDGES) for a in "ZYX"}
        metadata |= {"unit": spelling.replace("µ", "\\u00B5"), "spacing": size["Z"]}
        options["resolution"] = (1 / size["X"], 1 / size["Y"])
    options["metadata"] = metadata
    return array, Expected(array, axes, size, unit), options


def _ome(draw: st.DrawFn, kind: str) -> tuple[Array, Expected, dict[str, Any]]:
    orders = ["YX", "ZYX", "CYX", "TYX", "CZYX", "ZCYX", "TZYX", "ZTYX", "TCZYX"]
    axes = draw(st.sampled_from([*orders, "CTZYX", "ZCTYX", "TZCYX"]))
    array = voxels(draw, _shape(draw, axes), draw(st.sampled_from(DTYPES)))
    options = _layout(draw, array)
    metadata: dict[str, Any] = {"axes": axes}
    size: dict[str, float] = {}
    origin: dict[str, float] = {}
    unit = "pixel"
    if draw(st.booleans()):
        unit = draw(st.sampled_from(["µm", "nm", "mm"]))
        size = {a: draw(EDGES) for a in "ZYX"}
        for letter, edge in size.items():
            metadata[f"PhysicalSize{letter}"] = edge
            metadata[f"PhysicalSize{letter}Unit"] = unit
        if draw(st.booleans()):
            origin = {a: draw(st.sampled_from([-3.5, 0.0, 12.25])) for a in "YX"}
            n = int(np.prod(array.shape[:-2], dtype=int))
            metadata["Plane"] = {
                f"Position{a}{end}": [value] * n
                for a, place in origin.items()
                for end, value in (("", place), ("Unit", unit))
            }
    options |= {"photometric": "minisblack", "ome": True, "metadata": metadata}
    return array, Expected(array, axes, size, unit, origin), options


def _colours(draw: st.DrawFn, kind: str) -> tuple[Array, Expected, dict[str, Any]]:
    separate = draw(st.booleans())
    axes = draw(st.sampled_from(["CYX", "ZCYX"] if separate else ["YXC", "ZYXC"]))
    lengths = {"C": 3, "Z": draw(st.integers(1, 3))}
    lengths |= {"Y": draw(st.integers(2, 40)), "X": draw(st.integers(5, 50))}
    array = voxels(
        draw, tuple(lengths[a] for a in axes), draw(st.sampled_from(["u1", "u2"]))
    )
    options = _layout(draw, array)
    options |= {
        "photometric": "rgb",
        "planarconfig": "separate" if separate else "contig",
        "metadata": None,
    }
    return array, Expected(array, axes), options
