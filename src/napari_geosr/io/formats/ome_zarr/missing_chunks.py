"""Find missing chunks of a zarr array from file names, without reading data.

Zarr silently returns the fill value for missing chunks, and a fill value of zero looks
like pores. A chunk may be missing because the writer omitted one that holds only the
fill value, or because a copy was truncated. The file is therefore reported as damaged
only if its stamp states that every chunk was written.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_geosr.core.types import ZarrNode
from napari_geosr.io.hdf5.missing_places import missing_of_chunks

#: Key, in the stamp of a group, which states that every chunk was written.
ALL_CHUNKS = "all_chunks"
#: Pattern of an index in the name of a chunk. Zarr does not find chunks if their names
#: have leading zeros, which renamed copies may have.
_INDEX = "(0|[1-9][0-9]*)"


def missing_chunks(
    array: ZarrNode, names: Sequence[str], *, all_written: bool = False
) -> str:
    """Describe the missing chunks (or shards, if used); ``""`` if none are missing.

    Parameters
    ----------
    array : zarr.Array
        Array of zarr version 2 or 3.
    names : sequence of str
        Names of the axes, in stored order.
    all_written : bool
        Whether the writer noted that it wrote every chunk.
    """
    folder = _folder_of(array)
    if folder is None:
        return ""
    shape = tuple(int(n) for n in array.shape)
    size = tuple(int(n) for n in (getattr(array, "shards", None) or array.chunks))
    grid = tuple(-(-n // s) for n, s in zip(shape, size, strict=True))
    key = _key_pattern(array, len(grid))
    if key is None:  # unknown naming scheme: nothing can be checked
        return ""
    there = set(_existing_chunks(key, folder, grid))
    if len(there) == math.prod(grid):
        return ""
    fill = array.fill_value if array.fill_value is not None else 0
    why = (
        "It was complete when it was written, so copy it again."
        if all_written
        else "Some programs omit chunks that contain only this value; if this one did "
        "not, the copy is incomplete."
    )
    return missing_of_chunks(there, shape, size, names, float(fill), why).warning()


def _folder_of(array: ZarrNode) -> Path | None:
    """Return the array's folder, or None if it is not stored in a folder."""
    root = getattr(array.store, "root", None)
    if not isinstance(root, Path) or not root.is_dir():
        return None
    return root / str(array.path)


def _key_pattern(array: ZarrNode, ndim: int) -> re.Pattern[str] | None:
    """Return a pattern for chunk file names, with a group for each axis's index."""
    first = array.metadata.encode_chunk_key((0,) * ndim)
    # Take the key of the first chunk and replace its zeros with number patterns.
    parts = re.split(r"(?<![0-9A-Za-z])0(?![0-9A-Za-z])", first)
    if len(parts) != ndim + 1:
        return None
    return re.compile(_INDEX.join(map(re.escape, parts)))


def _existing_chunks(
    key: re.Pattern[str], folder: Path, grid: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the chunks that have a file."""
    for name in _names(folder, key.pattern.count("/")):
        found = key.fullmatch(name)
        if found is None:
            continue
        index = tuple(int(n) for n in found.groups())
        if all(i < n for i, n in zip(index, grid, strict=True)):
            yield index


def _names(folder: Path, depth: int) -> Iterator[str]:
    """Yield paths of files `depth` folders down, with slashes, relative to `folder`."""
    pending = [("", folder)]
    for level in range(depth + 1):
        inner: list[tuple[str, Path]] = []
        for prefix, path in pending:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = f"{prefix}{entry.name}"
                    if level == depth:
                        yield name
                    elif entry.is_dir():
                        inner.append((f"{name}/", Path(entry.path)))
        pending = inner
