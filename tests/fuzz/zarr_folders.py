"""Zarr folders of every kind: versions 2 and 3, with and without OME-NGFF metadata."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from hypothesis import strategies as st
from variants import DTYPES, EDGES, Array, Expected, voxels
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

_WORDS = {"µm": "micrometer", "nm": "nanometer", "mm": "millimeter"}
_KINDS = {"T": "time", "C": "channel"}


@st.composite
def zarr_folders(draw: st.DrawFn, folder: Path) -> tuple[Path, Expected]:
    """Write a zarr of any kind, and return the expected result of reading it."""
    is_ome = draw(st.booleans())
    path = folder / ("made.ome.zarr" if is_ome else "made.zarr")
    version = draw(st.sampled_from([2, 3]))
    if not is_ome:
        axes = draw(st.sampled_from(["YX", "ZYX", "TZYX", "TCZYX"]))
        array = _written(draw, path, "", axes, version)
        return path, Expected(array, axes)
    orders = ["YX", "ZYX", "CYX", "TYX", "CZYX", "TZYX", "TCZYX", "XYZ", "ZXY", "ZCYX"]
    axes = draw(st.sampled_from(orders))
    group = zarr.open_group(path, mode="w", zarr_format=version)
    array = _written(draw, path, "0", axes, version)
    entry, expected = _multiscale(draw, axes, array)
    entries: dict[str, Any] = {"multiscales": [entry]}
    if draw(st.booleans()) and min(array.shape) > 1:
        coarse = array[tuple(slice(None, None, 2) for _ in axes)]
        group.create_array("1", data=np.ascontiguousarray(coarse))
        scale = entry["datasets"][0]["coordinateTransformations"][0]["scale"]
        twice = {"type": "scale", "scale": [2 * s for s in scale]}
        entry["datasets"].append({"path": "1", "coordinateTransformations": [twice]})
    if version == 3:
        group.attrs["ome"] = {"version": "0.5", **entries}
    else:
        entry["version"] = "0.4"
        group.attrs.update(entries)
    return path, expected


def _multiscale(
    draw: st.DrawFn, axes: str, array: Array
) -> tuple[dict[str, Any], Expected]:
    unit = draw(st.sampled_from([None, *_WORDS]))
    spatial = [a for a in axes if a in "ZYX"]
    size = {a: draw(EDGES) for a in spatial}
    place = {a: draw(st.sampled_from([-3.5, 0.0, 12.25])) for a in spatial}
    described: list[Any] = []
    for letter in axes:
        axis = {"name": letter.lower(), "type": _KINDS.get(letter, "space")}
        if unit is not None and letter in size:
            axis["unit"] = _WORDS[unit]
        described.append(axis)
    scale = [size.get(a, 1.0) for a in axes]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if draw(st.booleans()):
        moved = [place.get(a, 0.0) for a in axes]
        steps.append({"type": "translation", "translation": moved})
    else:
        place = dict.fromkeys(spatial, 0.0)
    entry: dict[str, Any] = {
        "axes": described,
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    if draw(st.booleans()):  # of the entire entry, after those of the levels
        twice = [2.0 if a in size else 1.0 for a in axes]
        entry["coordinateTransformations"] = [{"type": "scale", "scale": twice}]
        size = {a: 2 * v for a, v in size.items()}
        place = {a: 2 * v for a, v in place.items()}
    return entry, Expected(array, axes, size, unit or "pixel", place)


def _written(draw: st.DrawFn, path: Path, inner: str, axes: str, version: int) -> Array:
    """Write an array without some of its chunks, which contain the fill value."""
    shape = tuple(draw(st.integers(1, 9 if a in "YX" else 4)) for a in axes)
    dtype = np.dtype(draw(st.sampled_from([*DTYPES, "u8", "?", "f2"])))
    if draw(st.booleans()):
        dtype = dtype.newbyteorder(">")
    array = voxels(draw, shape, dtype.str)
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    fill = draw(st.sampled_from([0, 1]))
    more: dict[str, Any] = {}
    if version == 3:
        if draw(st.booleans()):
            more["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
        codec = draw(st.sampled_from([None, ZstdCodec(), GzipCodec(), BloscCodec()]))
        more["compressors"] = codec
    else:
        more["order"] = draw(st.sampled_from("CF"))
        more["chunk_key_encoding"] = {
            "name": "v2",
            "separator": draw(st.sampled_from("./")),
        }
        if draw(st.booleans()):
            more["compressors"] = None
    made = zarr.create_array(
        path,
        name=inner or None,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        fill_value=bool(fill) if dtype.kind == "b" else fill,
        zarr_format=version,
        overwrite=not inner,
        **more,
    )
    made[...] = array
    block = more.get("shards") or chunks
    if draw(st.booleans()):
        _leave_out(draw, path / inner, array, block, fill)
    return array


def _leave_out(
    draw: st.DrawFn, folder: Path, array: Array, block: tuple[int, ...], fill: int
) -> None:
    """Delete some chunks, and expect the fill value there."""
    names = {".zarray", ".zattrs", ".zgroup", "zarr.json"}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in names)
    rng = random.Random(draw(st.integers(0, 9)))
    for file in rng.sample(files, rng.randint(0, len(files))):
        numbers = str(file.relative_to(folder)).replace(".", "/").split("/")
        index = [int(n) for n in numbers if n.isdecimal()]
        key = tuple(
            slice(i * b, (i + 1) * b) for i, b in zip(index, block, strict=True)
        )
        array[key] = fill
        file.unlink()
