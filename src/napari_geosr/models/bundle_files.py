"""Read the files of a model bundle, from its folder or its zip."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import IO

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ModelError
from napari_geosr.models.archives import opened_zip, reading_zip
from napari_geosr.models.weights_header import check_header

CARD_FILE = "card.yaml"
WEIGHTS_FILE = "weights.safetensors"
#: Maximum size of a weights file in bytes, far above that of real files.
MAX_WEIGHTS_BYTES = 2 * 10**9


def read_file(path: Path, name: str, limit: int) -> bytes:
    """Return the contents of one file of a bundle, from its folder or zip."""
    if path.is_dir():
        return _read_from_folder(path, name, limit)
    if path.is_file():
        return _read_from_zip(path, name, limit)
    raise ModelError(
        f"There is no model bundle at {path}: a folder or zip with {CARD_FILE} and "
        f"{WEIGHTS_FILE} was expected."
    )


def _read_from_folder(path: Path, name: str, limit: int) -> bytes:
    file = path / name
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            # Opening a pipe would wait for a writer forever.
            raise ModelError(f"{file} is not a regular file, so it cannot be read.")
        size = status.st_size
        if size > limit:
            raise ModelError(_too_large(file, size, limit))
        with file.open("rb") as stream:
            return _read_all(stream, size, name, file)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} has no {name}, so it is not a complete model bundle. Download or "
            "copy the bundle again, or choose another folder."
        ) from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}.") from error


def _read_from_zip(path: Path, name: str, limit: int) -> bytes:
    """Read the member called `name` into memory; nothing is unpacked to disk."""
    with opened_zip(path, MAX_WEIGHTS_BYTES) as archive:
        members = [
            info
            for info in archive.infolist()
            if not info.is_dir() and is_member(info.filename, name)
        ]
        if len(members) != 1:
            raise ModelError(
                f"{path} contains {len(members)} files named {name}; one was "
                "expected, at the top level or in a single folder."
            )
        size = members[0].file_size
        if size > limit:
            raise ModelError(_too_large(path / name, size, limit))
        with reading_zip(str(path)), archive.open(members[0]) as stream:
            return _read_all(stream, size, name, path / name)


def _read_all(stream: IO[bytes], size: int, name: str, file: Path) -> bytes:
    """Read a whole file; tensors are read only if their header fits the file size."""
    start = b"" if name == CARD_FILE else check_header(stream, size, str(file))
    # The declared size may be wrong: never read more than the declared number of bytes.
    content = start + stream.read(size - len(start))
    if len(content) < size:
        raise ModelError(f"{file} is incomplete. Download or copy the bundle again.")
    return content


def is_member(filename: str, name: str) -> bool:
    """Whether a zip member is the bundle's file `name`, at most one folder deep."""
    parts = filename.replace("\\", "/").split("/")
    return parts[-1] == name and len(parts) <= 2 and parts[0] not in ("", "..")


def _too_large(file: Path, size: int, limit: int) -> str:
    return (
        f"{file} is {format_bytes(size)}; the limit in a model bundle is "
        f"{format_bytes(limit)}. It is not a napari-geosr model."
    )
