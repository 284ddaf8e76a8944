"""Checks that the files of a resumed training run have not changed.

A resumed job must give the same result as an uninterrupted one; with other data, it
would mix two training runs, and the model's card would name only the second data set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import FileError
from napari_geosr.core.provenance import array_checksum
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

FILE = "inputs.json"
#: Size, in bytes, of the blocks of a file from which its checksum is computed.
_BLOCK_BYTES = 1 << 20
#: Maximum number of blocks per file, which limits the time to a fraction of a second.
#: In larger files, the blocks are evenly spaced.
_MAX_BLOCKS = 64
#: Number of bytes at the start and in the middle of each file of a folder from which
#: the checksum of the folder is computed.
_PIECE = 4096

Volumes = Mapping[str, Sequence["Volume"]]


def record_inputs(folder: Path, volumes: Volumes) -> None:
    """Record the shapes and checksums of the training volumes in `folder`.

    Simulated volumes are left out, because their names determine their voxels.

    Raises
    ------
    FileError
        If a volume cannot be read, or the record cannot be written.
    """
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_describe_inputs(volumes), indent=1)
    atomic.write_text(folder / FILE, text, overwrite=True)


def check_inputs_unchanged(folder: Path, volumes: Volumes) -> None:
    """Compare volumes with those recorded in `folder`, if there is a record.

    Raises
    ------
    FileError
        If a volume has changed; the message names the first such volume.
    """
    try:
        recorded = read_json(folder / FILE)
    except (OSError, ValueError):
        # An earlier release did not write a record, or the job was killed before it
        # did.
        return
    current = _describe_inputs(volumes)
    for key in (*recorded, *(k for k in current if k not in recorded)):
        before, now = recorded.get(key), current.get(key)
        if before == now:
            continue
        if before is None or now is None:
            name = (before or now or {}).get("name", key)
            change = "is new" if before is None else "is missing"
            raise FileError(
                f"{name} {change} since this training run began ({key}). To resume, "
                "use the original files; otherwise start a new training run."
            )
        change = "its contents have changed"
        for name in ("shape", "axes", "dtype"):
            if before[name] != now[name]:
                old, new = _format_value(before[name]), _format_value(now[name])
                change = f"its {name} was {old} and is now {new}"
                break
        raise FileError(
            f"{now['name']} has changed since this training run began: {change}. "
            "To resume, put the original file back; otherwise start a new training run."
        )


def _describe_inputs(volumes: Volumes) -> dict[str, AnyDict]:
    return {
        f"{role} {i + 1}": {
            "name": volume.title,
            "shape": list(volume.shape),
            "axes": volume.axes,
            "dtype": str(volume.dtype),
            "checksum": _checksum(volume),
        }
        for role, group in volumes.items()
        for i, volume in enumerate(group)
        if not is_simulated(volume.name)
    }


def _checksum(volume: Volume) -> str:
    source = volume.source
    if source is None:
        return array_checksum(volume.data)
    try:
        return _folder_checksum(source) if source.is_dir() else _file_checksum(source)
    except OSError as error:
        raise FileError(
            f"{volume.title} cannot be read ({error.strerror or error}). Check that "
            "its file is still there and complete."
        ) from error


def _file_checksum(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    offsets: Any = range(0, size, _BLOCK_BYTES)
    if len(offsets) > _MAX_BLOCKS:
        offsets = np.linspace(0, size - _BLOCK_BYTES, _MAX_BLOCKS).astype(np.int64)
    with path.open("rb") as stream:
        for offset in offsets:
            stream.seek(int(offset))
            digest.update(stream.read(_BLOCK_BYTES))
    return digest.hexdigest()


def _folder_checksum(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_PIECE))
            stream.seek(size // 2)
            digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _format_value(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list) else str(value)
