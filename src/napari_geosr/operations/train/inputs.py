"""Whether the files of a training are still those that it began with.

A job that is resumed goes on as if it had never stopped; with other data it would be a
mixture of two trainings, and its card would name the second alone.
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
from napari_geosr.io import atomic
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

FILE = "inputs.json"
#: Bytes read at once, and blocks of one file at most: a fraction of a second.
_BLOCK, _MOST_BLOCKS = 1 << 20, 64
#: Bytes read of each file of a folder, at its begin and in its middle.
_PIECE = 4096

Volumes = Mapping[str, Sequence["Volume"]]


def note_inputs(folder: Path, volumes: Volumes) -> None:
    """Keep in `folder` what tells that these volumes change.

    Simulated volumes follow from their names.

    Raises
    ------
    FileError
        If a file cannot be read, or the note cannot be written.
    """
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_described(volumes), indent=1)
    atomic.write_text(folder / FILE, text, overwrite=True)


def refuse_other_inputs(folder: Path, volumes: Volumes) -> None:
    """Compare volumes with those noted in `folder`, if there is a note.

    Raises
    ------
    FileError
        With the first one that is not what it was.
    """
    try:
        noted = read_json(folder / FILE)
    except (OSError, ValueError):
        return  # begun by an earlier release, or killed while the note was written
    described = _described(volumes)
    for key in (*noted, *(k for k in described if k not in noted)):
        before, found = noted.get(key), described.get(key)
        if before == found:
            continue
        if before is None or found is None:
            name = (before or found or {}).get("name", key)
            what = "is new" if before is None else "is missing"
            raise FileError(
                f"{name} {what} since this training began ({key}). To resume, give the "
                "files that it began with; otherwise start a new training run."
            )
        what = "its content is different"
        for name in ("shape", "axes", "dtype"):
            if before[name] != found[name]:
                what = f"its {name} was {_shown(before[name])}, {_shown(found[name])} "
                what += "now"
                break
        raise FileError(
            f"{found['name']} has changed since this training began: {what}. Restore "
            "the file to resume, or start a new training run."
        )


def _described(volumes: Volumes) -> dict[str, AnyDict]:
    return {
        f"{role} {i + 1}": {
            "name": volume.title,
            "shape": list(volume.shape),
            "axes": volume.axes,
            "dtype": str(volume.dtype),
            "checksum": _checksum(volume),
        }
        for role, found in volumes.items()
        for i, volume in enumerate(found)
        if not is_simulated(volume.name)
    }


def _checksum(volume: Volume) -> str:
    source = volume.source
    if source is None:
        return array_checksum(volume.data)
    try:
        return _of_folder(source) if source.is_dir() else _of_file(source)
    except OSError as error:
        raise FileError(
            f"{volume.title} cannot be read ({error.strerror or error}). Check that "
            "its file is still there and complete."
        ) from error


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    places: Any = range(0, size, _BLOCK)
    if len(places) > _MOST_BLOCKS:
        places = np.linspace(0, size - _BLOCK, _MOST_BLOCKS).astype(np.int64)
    with path.open("rb") as stream:
        for place in places:
            stream.seek(int(place))
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def _of_folder(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_PIECE))
            stream.seek(size // 2)
            digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _shown(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list) else str(value)
