"""Open HDF5 files, list their datasets, and read a dataset."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray
from napari_geosr.io.suffixes import looks_like

if TYPE_CHECKING:
    import h5py

#: Function that opens a remote file as a binary stream.
OpenBytes: TypeAlias = Callable[[], BinaryIO]

#: Maximum depth of nested groups that is searched.
MAX_DEPTH = 12
_MAX_LISTED = 8


def opened(path: Path, open_bytes: OpenBytes | None = None) -> Any:
    """Open a file for reading (a context manager).

    Parameters
    ----------
    path : Path
    open_bytes : callable, optional
        Opens a file on another computer; `path` is then only its name.

    Raises
    ------
    FileError
        If the file is truncated or not an HDF5 file.
    """
    import h5py

    if open_bytes is not None:
        return h5py.File(open_bytes(), "r")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "truncated" in str(error):
            raise FileError(
                f"{path.name} is truncated: it ends before its data are complete. "
                "Copy or download the file again."
            ) from error
        raise FileError(
            f"{path.name} is not a readable HDF5 file ({looks_like(path)}). Check the "
            "file or download it again."
        ) from error


class Dataset:
    """A thread-safe `VoxelSource` for one dataset; it opens the file for each read."""

    def __init__(
        self, path: Path, name: str, found: Any, open_bytes: OpenBytes | None = None
    ) -> None:
        self._open_bytes = open_bytes
        self.path = path
        self.name = name
        self.shape = tuple(int(n) for n in found.shape)
        self.dtype = np.dtype(found.dtype)
        self.decoding_bytes = _decoding_bytes(found)
        self._lock = threading.Lock()

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        with self._lock, opened(self.path, self._open_bytes) as file:
            return np.asarray(file[self.name][key])


def _decoding_bytes(found: h5py.Dataset) -> int:
    """Return the bytes that HDF5 holds while it decodes a chunk; 0 without chunks."""
    if not found.chunks:
        return 0
    itemsize = np.dtype(found.dtype).itemsize
    chunk: int = math.prod(found.chunks) * itemsize
    nbytes = math.prod(found.shape) * itemsize
    stored = min(1.0, found.id.get_storage_size() / max(1, nbytes))
    # Memory for the stored chunk, and for the buffer of the decoded chunk, which grows
    # by doubling while deflate decodes.
    return int((2 + stored) * chunk)


def identity(item: Any) -> tuple[str, int]:
    """Return the file and address of an object, whichever link leads to it."""
    import h5py

    return str(item.file.filename), int(h5py.h5o.get_info(item.id).addr)


def followed(group: h5py.Group, name: str) -> Any:
    """Return the object at the end of a link in a group; None if the link is broken.

    Parameters
    ----------
    group : h5py.Group
    name : str
        Name of the link. It may point to a missing file, or to itself via other links.
    """
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError, ValueError):
        return None


def walk(
    group: h5py.Group, prefix: str, missing: list[str], depth: int, seen: set[Any]
) -> Iterator[tuple[str, Any]]:
    """Find image-like numeric datasets; follow links, and visit each group once.

    Parameters
    ----------
    group : h5py.Group
        Group from which the search starts.
    prefix : str
        Path of the group in the file, prepended to the names that are found.
    missing : list of str
        Broken links are appended, with the file or object that they name.
    depth : int
        Depth of `group`; groups that are nested too deeply are skipped.
    seen : set
        Groups visited so far, to avoid cycles of links.

    Yields
    ------
    (str, Dataset)
        Path in the file and dataset.
    """
    import h5py

    key = identity(group)
    if depth > MAX_DEPTH or key in seen:
        return
    seen.add(key)
    for name in group:
        item = followed(group, name)
        if item is None:
            link = group.get(name, getlink=True)
            target = getattr(link, "filename", None) or getattr(link, "path", "")
            if (lost := f"{prefix}{name} → {target}") not in missing:
                missing.append(lost)
            continue
        if isinstance(item, h5py.Group):
            yield from walk(item, f"{prefix}{name}/", missing, depth + 1, seen)
        elif isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc":
            if item.shape is None:  # a null dataset without data
                continue
            long_axes = sum(n > 1 for n in item.shape)
            if 2 <= item.ndim <= 5 and long_axes >= 2:
                yield f"{prefix}{name}", item


def text_of(value: object) -> str:
    """Return the text of an attribute, which may be bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _stays_inside(link: object, group: h5py.Group) -> bool:
    """Return whether a broken link points to an object in its own file."""
    import h5py

    if isinstance(link, h5py.SoftLink):
        return True
    if not isinstance(link, h5py.ExternalLink):
        return False
    own = Path(group.file.filename)
    target = own.parent / link.filename
    return target.exists() and own.exists() and target.samefile(own)


def open_item(file: h5py.File, name: str, path: Path) -> Any:
    """Return the dataset `name`; an error names a missing file or the existing entries.

    Parameters
    ----------
    file : h5py.File
    name : str
        Path in the file.
    path : Path
        Path of the file, for messages.

    Raises
    ------
    FileError
        If there is no such dataset.
    """
    import h5py

    group, parts = file, [p for p in name.split("/") if p]
    for i, part in enumerate(parts):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) else None
        item = followed(group, part) if link is not None else None
        if item is None and link is not None and _stays_inside(link, group):
            raise FileError(
                f"{path.name}: {name!r} is a circular or broken link "
                f"({part} → {link.path}). Choose another dataset."
            )
        if item is None and isinstance(link, h5py.ExternalLink):
            raise FileError(
                f"{path.name}: {name!r} is in {link.filename}, which is missing or "
                f"has no {link.path}. Put that file next to {path.name}."
            )
        if item is None:
            there = (
                ", ".join(list(group)[:_MAX_LISTED]) if i == 0 or link is None else ""
            )
            raise FileError(
                f"{path.name} has no dataset {name!r}. "
                f"{'/'.join(parts[:i]) or 'Its top level'} contains: "
                f"{there or 'nothing'}."
            )
        group = item
    if isinstance(group, h5py.Group):
        inner = [n for n in group if isinstance(followed(group, n), h5py.Dataset)]
        raise FileError(
            f"{path.name}: {name!r} is a group, not a dataset. It contains: "
            f"{', '.join(inner[:_MAX_LISTED]) or 'only groups'}."
        )
    return group
