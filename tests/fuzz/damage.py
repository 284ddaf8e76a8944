"""Damage to files: flipped bytes, truncation, other values of tags and of JSON."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import tifffile

#: Values that no program should write, although some do.
_ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 3, 7, 10**6, 2**31, 2**63, 10**18, 10**30, 0.5, -2.5,
    1e308, float("nan"), float("inf"), "", "x", "NaN", "µm", "..", "/", [], {}, [[]],
    [None], ["x", "y"], [1, 2, 3], {"name": "x"}, "\ud800", "a" * 5000, [0] * 300,
]  # fmt: skip
_ODD_NUMBERS = [0, 1, 2, 3, 7, 8, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1]


def damage_bytes(path: Path, seed: int) -> None:
    """Change bytes of a file, mostly in its structure."""
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    if not content:
        return
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        n = len(content)
        near = rng.choice([16, 64, 400, 4096, n])
        at = min(n - 1, rng.randrange(near))
        if rng.random() < 0.2:
            at = n - 1 - at  # some formats keep their structure at the end
        how = rng.randrange(8)
        if how == 0:
            content = content[: max(1, at)]
        elif how == 1:
            content[at : at + rng.randrange(1, 64)] = b""
        elif how == 2:
            content[at:at] = rng.randbytes(rng.randrange(1, 64))
        elif how == 3:
            length = min(len(content) - at, rng.randrange(1, 64))
            content[at : at + length] = bytes([rng.choice([0, 255])]) * length
        elif how == 4:
            number = struct.pack(rng.choice("<>") + "I", rng.choice(_ODD_NUMBERS))
            content[at : at + 4] = number
        else:
            content[at] = rng.choice([content[at] ^ (1 << rng.randrange(8)), 0, 255])
        if not content:
            break
    path.write_bytes(content)


def damage_tiff(path: Path, seed: int) -> None:
    """Give a tag of a TIFF file another type, count or value."""
    rng = random.Random(seed)
    with tifffile.TiffFile(path) as tif:
        page = rng.choice(tif.pages[: min(4, len(tif.pages))])
        tags = list(getattr(page, "tags", None) or tif.pages[0].tags)
        order, is_big = tif.byteorder, tif.is_bigtiff
        places = [tag.offset for tag in tags]
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.choice(places)
        what = rng.choice(["code", "type", "count", "value", "value", "value"])
        number = rng.choice(_ODD_NUMBERS)
        if what == "code":
            codes = [254, 256, 257, 258, 259, 262, 270, 277, 278, 284, 317, 322, 339]
            content[at : at + 2] = struct.pack(order + "H", rng.choice(codes))
        elif what == "type":
            content[at + 2 : at + 4] = struct.pack(order + "H", rng.randrange(20))
        elif what == "count":
            size = 8 if is_big else 4
            content[at + 4 : at + 4 + size] = struct.pack(
                order + ("Q" if is_big else "I"), number
            )
        else:
            start = at + (12 if is_big else 8)
            kind = rng.choice("HI")
            packed = struct.pack(order + kind, number & (0xFFFF if kind == "H" else -1))
            content[start : start + len(packed)] = packed
    path.write_bytes(content)


def damage_description(path: Path, seed: int) -> None:
    """Change some positions in the description of a TIFF file."""
    rng = random.Random(seed)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags.get("ImageDescription")
        if tag is None:
            return
        at, n = tag.valueoffset, tag.count
    text = bytearray(content[at : at + n])
    numbers = [i for i, c in enumerate(text) if chr(c).isdigit()]
    for _ in range(rng.choice([1, 2, 5])):
        i = rng.choice(numbers) if numbers and rng.random() < 0.7 else rng.randrange(n)
        text[i] = ord(rng.choice('0123459-.eXTZC<>"&;{}[],: \n\0\xff'))
    path.write_bytes(content[:at] + bytes(text) + content[at + n :])


def damage_folder(path: Path, seed: int) -> None:
    """Change JSON of a zarr, or its files: truncate, empty, remove, or make them
    folders.
    """
    rng = random.Random(seed)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    described = [p for p in files if p.name[:2] == ".z" or p.name == "zarr.json"]
    for _ in range(rng.choice([1, 1, 2, 3])):
        how = rng.randrange(8)
        file = rng.choice((described if how < 6 else files) or files)
        if not file.is_file():  # it no longer exists
            continue
        if how < 5:
            _damage_json(file, rng)
        elif how in (5, 6):
            damage_bytes(file, rng.randrange(10**6))
        else:
            file.unlink()
            if rng.random() < 0.5:
                file.mkdir()
            elif rng.random() < 0.5:
                file.write_bytes(b"{}")


def _damage_json(file: Path, rng: random.Random) -> None:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return
    holders: list[Any] = []

    def collect(item: Any) -> None:
        if isinstance(item, dict | list) and item:
            holders.append(item)
            for value in item.values() if isinstance(item, dict) else item:
                collect(value)

    collect(document)
    if not holders:
        return
    for _ in range(rng.choice([1, 1, 2])):
        holder = rng.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not keys:
            continue
        key = rng.choice(list(keys))
        if rng.random() < 0.15:
            del holder[key]
        elif rng.random() < 0.1 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = rng.choice(_ODD)
    file.write_text(json.dumps(document), encoding="utf-8")


def damage_hdf5(path: Path, seed: int) -> None:
    """Give objects of an HDF5 file meaningless attributes, or remove attributes."""
    rng = random.Random(seed)
    with h5py.File(path, "r+") as file:
        names: list[str] = ["/"]
        file.visit(names.append)
        for _ in range(rng.choice([1, 2, 3])):
            item = file[rng.choice(names)]
            name = rng.choice(
                ["element_size_um", "axes", "signal", "default", "units", "NX_class"]
            )
            value = rng.choice([v for v in _ODD if isinstance(v, str | int | float)])
            if isinstance(value, int) and abs(value) >= 2**63:
                value = float(value)
            if isinstance(value, str):
                value = rng.choice([value.encode("utf-8", "replace"), "data", "entry"])
            shape = rng.choice([(), (1,), (2,), (3,), (5,), (2, 2)])
            if isinstance(value, str | bytes) and not shape and not value:
                continue
            item.attrs.create(name, _filled(value, shape))


def _filled(value: Any, shape: tuple[int, ...]) -> Any:
    if not shape:
        return value
    if len(shape) == 2:
        return [[value] * shape[1]] * shape[0]
    return [value] * shape[0]
