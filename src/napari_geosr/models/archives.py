"""Check third-party zips and folders before anything is read or copied.

A zip of a few megabytes can unpack to terabytes, and a link in a folder can point to
any file on the computer.
"""

from __future__ import annotations

import io
import lzma
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ModelError

#: Maximum number of files in a zip.
MAX_ENTRIES = 10_000
#: Maximum number of files in the folder of a model.
MAX_FILES = 1000
#: Maximum compression ratio of a large file. Weights and images hardly compress, so a
#: higher ratio is a sign of a zip bomb.
MAX_RATIO = 100
#: Maximum size, in bytes, of files that may have any compression ratio.
_SMALL = 10 * 10**6
#: Maximum size of the table of contents in bytes: about 10,000 names of 300 characters.
_MAX_TABLE = 4 * 10**6
#: Errors that zipfile raises on damaged archives; ValueError is raised for damaged
#: names and times.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    OSError,
    ValueError,
)


@contextmanager
def opened_zip(path: Path, limit: int, name: str = "") -> Iterator[zipfile.ZipFile]:
    """Open a zip if its table of contents lists no file larger than `limit` bytes.

    Parameters
    ----------
    name : str
        Name of the zip in messages; by default its path.

    Raises
    ------
    ModelError
        If the file is not a readable zip, or has too many or too large members.
    """
    name = name or str(path)
    with ExitStack() as stack:
        with reading_zip(name):
            stream = stack.enter_context(_Table(path))
            archive = stack.enter_context(zipfile.ZipFile(stream))
        stream.max_read = None
        members = archive.infolist()
        if len(members) > MAX_ENTRIES:
            raise ModelError(
                f"{name} contains {len(members):,} files; at most {MAX_ENTRIES:,} are "
                "allowed. It is not a model."
            )
        for info in members:
            _check(info, limit, name)
        yield archive


@contextmanager
def reading_zip(name: str) -> Iterator[None]:
    """Convert errors that zipfile raises for a damaged zip to a `ModelError`."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise ModelError(
            f"{name} is not a readable zip file ({error}). Download or copy it again."
        ) from error
    except RuntimeError as error:  # zipfile raises this for encrypted members
        raise ModelError(f"{name} cannot be read: {error}.") from error


def zip_names(path: Path) -> list[str]:
    """Return the names of the files in a zip; an empty list if it cannot be read."""
    try:
        with opened_zip(path, 2**63) as archive:
            return archive.namelist()
    except ModelError:
        return []


class _Table(io.FileIO):
    """A file object that limits the number of bytes in one read.

    zipfile reads the whole table of contents at once, regardless of its declared
    length.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.max_read: int | None = _MAX_TABLE

    def read(self, size: int | None = -1, /) -> bytes:
        if self.max_read is not None and size is not None and size > self.max_read:
            raise zipfile.BadZipFile("its table of contents is too long")
        files: bytes | None = super().read(-1 if size is None else size)
        return files or b""


def _check(info: zipfile.ZipInfo, limit: int, name: str) -> None:
    parts = info.filename.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise ModelError(
            f"{name} contains a file with the path {info.filename!r}, which is outside "
            "the archive. It is not a model."
        )
    if info.file_size > limit:
        raise ModelError(
            f"{info.filename} in {name} unpacks to {format_bytes(info.file_size)}; "
            f"the limit is {format_bytes(limit)}."
        )
    ratio = info.file_size / max(1, info.compress_size)
    if info.file_size > _SMALL and ratio > MAX_RATIO:
        raise ModelError(
            f"{info.filename} in {name} unpacks to {format_bytes(info.file_size)}, "
            f"{ratio:.0f} times its size, which is implausible for model weights. It "
            "is not a model."
        )


def copy_folder(source: Path, target: Path, limit: int) -> None:
    """Copy the regular files of an untrusted folder to the new folder `target`.

    Parameters
    ----------
    limit : int
        Maximum total size of all files, in bytes.

    Raises
    ------
    ModelError
        If the folder contains links to locations outside it, entries that are not
        regular files, or too many or too large files; then nothing is copied.
    """
    files = list(_plain_files(source, limit))
    target.mkdir()
    for path in files:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _plain_files(folder: Path, limit: int) -> Iterator[Path]:
    root, n_files, n_bytes = folder.resolve(), 0, 0
    for parent, folders, names in os.walk(folder, followlinks=False):
        for name in sorted([*folders, *names]):
            path = Path(parent) / name
            _check_link(path, root)
            status = path.stat()
            if name in folders and not path.is_symlink():
                continue
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(
                    f"{path} is not a regular file, so the folder cannot be copied. "
                    "Remove it."
                )
            n_files, n_bytes = n_files + 1, n_bytes + status.st_size
            if n_files > MAX_FILES or n_bytes > limit:
                raise ModelError(
                    f"{folder} contains more than {MAX_FILES} files or "
                    f"{format_bytes(limit)}, which is more than any model needs. "
                    "Choose a folder that contains only the model."
                )
            yield path


def _check_link(path: Path, root: Path) -> None:
    """Reject a broken link, or one to a location outside the folder."""
    if not path.is_symlink():
        return
    try:
        inside = path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # a cycle of links, or a missing target
        inside = False
    if not inside:
        raise ModelError(
            f"{path} is a link to a location outside the folder, or a broken link, so "
            "it is not followed. Replace it with the file itself."
        )
