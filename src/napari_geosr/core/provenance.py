"""Provenance: what was done to which input, with what, so that it can be done again."""

from __future__ import annotations

import hashlib
import platform
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.volume import Volume

#: Files up to this size are hashed whole; above it, a sample of blocks is hashed.
_WHOLE_FILE_BYTES = 2 * 10**9
_BLOCK = 1 << 20


def file_checksum(path: Path) -> str:
    """``sha256:…`` of a file; ``sha256-sampled:…`` of spread blocks if huge."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        if size <= _WHOLE_FILE_BYTES:
            while block := stream.read(_BLOCK):
                digest.update(block)
            return f"sha256:{digest.hexdigest()}"
        digest.update(str(size).encode())
        for position in np.linspace(0, size - _BLOCK, 512).astype(np.int64):
            stream.seek(int(position))
            digest.update(stream.read(_BLOCK))
    return f"sha256-sampled:{digest.hexdigest()}"


def folder_checksum(path: Path) -> str:
    """``sha256-listing:…`` over names, sizes and first bytes of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as stream:
            head = stream.read(4096)
        digest.update(
            f"{file.relative_to(path)}:{file.stat().st_size}:".encode() + head
        )
    return f"sha256-listing:{digest.hexdigest()}"


def array_checksum(data: Any) -> str:
    """``crc32-sampled:…`` of up to 64 evenly spread planes of an array in memory."""
    crc = zlib.crc32(f"{tuple(data.shape)}{data.dtype}".encode())
    if data.ndim < 3:
        planes = [np.asarray(data)]
    else:
        index = np.unique(np.linspace(0, data.shape[0] - 1, 64).astype(int))
        planes = [np.asarray(data[int(i)]) for i in index]
    for plane in planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).tobytes(), crc)
    return f"crc32-sampled:{crc:08x}"


def describe_input(volume: Volume) -> dict[str, Any]:
    """Name, place, shape and checksum of an input, for a record."""
    source = volume.source
    if source is not None and source.is_file():
        checksum = file_checksum(source)
    elif source is not None and source.is_dir():
        checksum = folder_checksum(source)
    else:
        checksum = array_checksum(volume.data)
    return {
        "name": volume.name,
        "path": None if source is None else str(source),
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "voxel_size": list(volume.voxel_size),
        "unit": volume.unit,
        "checksum": checksum,
    }


def record(
    operation: str,
    *,
    inputs: Mapping[str, Volume],
    settings: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One JSON-serialisable record of a run of `operation`."""
    from napari_geosr import __version__

    entry: dict[str, Any] = {
        "software": "napari-geosr",
        "version": __version__,
        "operation": operation,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "inputs": {key: describe_input(volume) for key, volume in inputs.items()},
        "settings": dict(settings),
    }
    if model is not None:
        entry["model"] = dict(model)
    return {**entry, **more}
