"""Write files completely or not at all: under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

from napari_geosr.core.config import (
    format_available,
    format_bytes,
)
from napari_geosr.core.errors import FileError
from napari_geosr.io.formats import format_of, is_volume_folder, known_suffix
from napari_geosr.io.unfinished_files.hidden import (
    is_abandoned,
    leftovers,
    nested_leftovers,
    temporary_sibling,
    with_user_names,
)

#: Number of bytes that are always left free on a disk.
_SPARE_BYTES = 16 * 1024**2
#: Error codes of fsync where the file system does not support it for a file or folder.
_FSYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
#: Time in seconds for which an operation on a file in use by another program is
#: retried.
_RETRY_SECONDS = 1.0

T = TypeVar("T")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_abandoned(path: Path, suffix: str = "") -> None:
    """Remove temporary files of `path` left by processes that have ended."""
    for part in (*leftovers(path, suffix), *nested_leftovers(path, suffix)):
        if is_abandoned(part):
            remove(part)


def check_writable(path: Path) -> None:
    """Raise `FileError` unless a file can be created in the folder of `path`.

    Checking permissions is not enough: no file can be created in ``/proc``, for
    example.
    """
    probe = temporary_sibling(path)
    with explained(path):
        probe.touch(exist_ok=False)
        probe.unlink()


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise `FileError` if `path` exists and may not be replaced.

    A link without a target is never replaced: the target may be on a drive that is not
    connected.

    A folder may be replaced only if it is a volume, such as a zarr, and is replaced by
    another volume.
    """
    if path.is_symlink() and not path.exists():
        raise FileError(
            f"{path} is a link to {path.readlink()}, which does not exist. Remove the "
            "link, or choose another name."
        )
    if path.is_dir() and not _is_replaceable(path):
        raise FileError(
            f"{path} is a folder, not an OME-Zarr that can be replaced. Choose "
            "another name."
        )
    if path.exists() and not overwrite:
        raise FileError(
            f"{path} exists already. Choose another name, or allow overwriting "
            "(--overwrite)."
        )


def _is_replaceable(folder: Path) -> bool:
    named = format_of(folder)
    return named is not None and named.is_folder and is_volume_folder(folder)


def retry_if_not_permitted(action: Callable[[], T]) -> T:
    """Call `action`; if it is not permitted, retry for about a second.

    On Windows, a file cannot be replaced or removed while another program, such as a
    reader or a virus scanner, has it open.

    Raises
    ------
    PermissionError
        If the action is still not permitted after that.
    """
    deadline = time.monotonic() + _RETRY_SECONDS
    pause = 0.01
    while True:
        try:
            return action()
        except PermissionError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def move_into_place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Rename `temporary` to `path`; an existing folder is moved aside first.

    Parameters
    ----------
    temporary : Path
        File or folder on the same file system as `path`.
    path : Path
    overwrite : bool
        Whether an existing file, or an existing zarr folder, is replaced.

    Raises
    ------
    FileError
        If `path` exists and `overwrite` is false, or is a folder that is not a zarr.
    """
    refuse_existing(path, overwrite)
    if path.is_dir() or (temporary.is_dir() and path.exists()):
        # A folder cannot be replaced in one step: move the old folder aside first, so
        # that either the old or the new one is always complete on the disk.
        aside = temporary_sibling(path)
        _rename(path, aside)
        try:
            _rename(temporary, path)
        except OSError:
            _rename(aside, path)
            raise
        remove(aside)
        return
    if not overwrite and temporary.is_file():
        _move_to_free_name(temporary, path)
        return
    _rename(temporary, path)


def _rename(old: Path, new: Path) -> None:
    retry_if_not_permitted(lambda: os.replace(old, new))


def _move_to_free_name(temporary: Path, path: Path) -> None:
    """Rename a file, but never replace one that another program has just created."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        refuse_existing(path, False)
        raise
    except OSError:  # some file systems do not support links
        _rename(temporary, path)
    else:
        temporary.unlink()


@contextmanager
def explained(
    path: Path, *, title: str = "", remedy: str = "choose another folder"
) -> Iterator[None]:
    """Convert an `OSError` while writing `path` to a `FileError` with a remedy.

    Parameters
    ----------
    path : Path
    title : str
        What the user calls the file, if not by its name.
    remedy : str
        How to write it to another folder, as an imperative.
    """
    name = title or with_user_names(path.name)
    try:
        yield
    except OSError as error:
        folder = path.parent
        with suppress(OSError):  # the working folder may have been removed
            folder = folder.absolute()
        if error.errno == errno.EDQUOT:
            raise FileError(
                f"{name} could not be written: your quota on the disk of {folder} "
                f"is used up. Delete some of your files there, or {remedy}."
            ) from error
        if error.errno == errno.ENOSPC:
            raise FileError(
                f"{name} could not be written: the disk of {folder} is full. "
                f"Free some space or {remedy}."
            ) from error
        if error.errno == errno.ENOMEM:
            raise FileError(
                f"{name} could not be written: its voxels do not fit into the memory "
                "that this process may address. Raise that limit (ulimit -v), or write "
                "an .ome.zarr."
            ) from error
        if error.errno == errno.EFBIG:
            raise FileError(
                f"{name} could not be written: it would exceed the maximum file size "
                f"in {folder}. {remedy[:1].upper()}{remedy[1:]}, or raise the limit of "
                "the account or batch job (ulimit -f)."
            ) from error
        reason = with_user_names(error.strerror or str(error))
        raise FileError(
            f"{name} could not be written to {folder}: {reason}. "
            "Check the folder and its permissions."
        ) from error


@contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Create a folder for the files that are written within the context.

    The folder and those of its parents that were created are removed again if they are
    still empty at the end.

    Raises
    ------
    FileError
        If the folder cannot be created.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {with_user_names(str(folder))} cannot be created: "
            f"{error.strerror}. Choose another one."
        ) from error
    try:
        yield
    finally:
        for each in missing:
            with suppress(OSError):  # the folder may not be empty
                each.rmdir()


@contextmanager
def replacing(
    path: Path, *, overwrite: bool, suffix: str = "", durable: bool = True
) -> Iterator[Path]:
    """Yield a temporary sibling that becomes `path` if the context ends normally.

    After an error, the temporary file or folder is removed.

    Parameters
    ----------
    durable : bool
        Whether to flush the content to disk before renaming, so that either the old or
        the new file is complete after a power failure.
    """
    refuse_existing(path, overwrite)
    remove_abandoned(path, suffix)
    temporary = temporary_sibling(path, suffix)
    try:
        with explained(path):
            yield temporary
            if durable:
                _sync_content(temporary)
            move_into_place(temporary, path, overwrite)
            if durable:
                sync_folder(path.parent)
    finally:
        remove(temporary)


@contextmanager
def replacing_all(
    paths: Sequence[Path], *, overwrite: bool
) -> Iterator[dict[Path, Path]]:
    """Yield a temporary sibling for each of `paths`; rename all of them, or none.

    If no error occurs, all content is flushed to disk, and the files are renamed in the
    order of `paths`. Part of the set can be missing only if another program has created
    a file at one of the paths in the meantime, or if the process is killed between two
    renames.
    """
    for path in paths:
        refuse_existing(path, overwrite)
        remove_abandoned(path, known_suffix(path.name) or path.suffix)
    temporaries = {
        path: temporary_sibling(path, known_suffix(path.name) or path.suffix)
        for path in paths
    }
    try:
        yield temporaries
        for path, temporary in temporaries.items():
            with explained(path):
                _sync_content(temporary)
        for path, temporary in temporaries.items():
            with explained(path):
                move_into_place(temporary, path, overwrite)
    finally:
        for temporary in temporaries.values():
            remove(temporary)


def _sync_content(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            sync_file(file)


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    _sync(path, os.O_RDWR)


def sync_folder(folder: Path) -> None:
    """Flush the list of files in a folder to disk, if the system supports it."""
    if os.name == "posix":
        _sync(folder, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    number = os.open(path, flags)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _FSYNC_UNSUPPORTED:
            raise
    finally:
        os.close(number)


def check_folder(path: Path, nbytes: int = 0) -> None:
    """Raise `FileError` if the folder of `path` is not writable or lacks space."""
    name, folder = with_user_names(path.name), path.parent
    if folder.exists() and not folder.is_dir():
        raise FileError(
            f"{name} cannot be written: {folder} is not a folder. Choose a folder."
        )
    if not folder.is_dir():
        raise FileError(
            f"{name} cannot be written: the folder {folder} does not exist. "
            "Create it or choose another one."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(
            f"{name} cannot be written: the folder {folder} is not writable. "
            "Choose another one."
        )
    usage = shutil.disk_usage(folder)
    if not usage.total:  # not a disk, such as /proc, or a disk of unknown size
        _check_by_creating(name, folder)
        return
    free = usage.free
    if nbytes and free < nbytes + _SPARE_BYTES:
        raise FileError(
            f"{name} needs {format_bytes(nbytes)} of disk space, and another "
            f"{format_bytes(_SPARE_BYTES)} must stay free, but the disk of {folder} "
            f"has {format_available(free)} left. Free some space or choose another "
            "folder."
        )


def check_new_folder(folder: Path) -> None:
    """Raise `FileError` unless a report can be written to a folder.

    The folder, and some of its parents, may not exist yet; nothing is created.
    """
    there = folder.absolute()
    while not there.exists():
        refuse_existing(there, overwrite=False)  # a link without a target
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise FileError(
            f"Reports cannot be written to {folder}: {there} is not writable. Choose "
            "another folder."
        )
    try:
        check_writable(there / "report")  # `there` may be `/`, without a name
    except FileError as error:
        if there == folder.absolute():
            raise
        raise FileError(
            f"Reports cannot be written to {folder}: no folder can be created in "
            f"{there}. Choose another folder."
        ) from error


def _check_by_creating(name: str, folder: Path) -> None:
    """Raise `FileError` if no file can be created in a folder."""
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FileError(
            f"{name} cannot be written: no files can be created in {folder}. Choose "
            "another folder."
        ) from error


def write_bytes(
    path: str | Path,
    content: bytes | bytearray,
    *,
    overwrite: bool = False,
    durable: bool = True,
) -> Path:
    """Write `content` to `path` atomically and return the path.

    Parameters
    ----------
    path : str or Path
        The folder of `path` must exist.
    content : bytes or bytearray
    overwrite : bool
        Whether an existing file is replaced.
    durable : bool
        Whether to flush the bytes to disk before returning.

    Raises
    ------
    FileError
        If the file exists and `overwrite` is false, or if the file cannot be written.
    """
    target = Path(path)
    check_folder(target)
    with replacing(target, overwrite=overwrite, durable=durable) as temporary:
        temporary.write_bytes(content)
    return target


def write_text(
    path: str | Path, text: str, *, overwrite: bool = False, durable: bool = True
) -> Path:
    """Write `text` as UTF-8 to `path` atomically and return the path.

    Parameters
    ----------
    path, overwrite, durable
        As in `write_bytes`.
    text : str

    Raises
    ------
    FileError
        If the file exists and `overwrite` is false, or cannot be written.
    """
    # File names may contain any bytes; invalid ones are escaped as in JSON.
    content = text.encode("utf-8", "backslashreplace")
    return write_bytes(path, content, overwrite=overwrite, durable=durable)
