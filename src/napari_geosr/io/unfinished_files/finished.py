"""Record the files that a job finishes, to distinguish them from all other files.

A job that is killed before it has reported its result finds the finished file when it
resumes. The record shows whether the job itself has written that file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from napari_geosr.core.errors import FileError
from napari_geosr.io.unfinished_files.atomic import write_text
from napari_geosr.io.unfinished_files.journal import held_job

#: File in the folder of a job with the size and the modification time of each file that
#: the job has finished, by the name of the file.
RECORD = "output.json"
#: File of an OME-Zarr that represents the state of the whole folder.
_MAIN_FILE = "zarr.json"
#: Maximum difference between two modification times of the same file, in ns: some file
#: systems store whole seconds only.
_RESOLUTION_NS = 2 * 10**9


def record_finished(files: Mapping[Path, Path]) -> None:
    """Record that the job of this process has finished files; call it before renaming.

    Nothing is recorded if this process does not run a job. If the record cannot be
    written, no error is raised, so that the result is not lost.

    Parameters
    ----------
    files : mapping of Path to Path
        The temporary path of each file.
    """
    if not (folder := held_job()):
        return
    record = Path(folder) / RECORD
    with suppress(FileError, OSError):
        new = {path.name: file_state(temporary) for path, temporary in files.items()}
        write_text(record, json.dumps(_read(record) | new), overwrite=True)


def begin_record(folder: Path) -> None:
    """Create the record of a new job, which has not finished any file.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    write_text(folder / RECORD, "{}", overwrite=True)


def has_record(folder: Path) -> bool:
    """Return whether a job has a record; jobs of earlier releases have none."""
    return (folder / RECORD).exists()


def is_recorded(path: Path, folder: Path) -> bool:
    """Return whether the job in a folder has written the existing file at `path`."""
    known = _read(folder / RECORD).get(path.name)
    try:
        return is_same_state(file_state(path), known)
    except OSError:
        return False


def is_same_state(state: tuple[int, int], known: object) -> bool:
    """Return whether a file's state equals a recorded one."""
    match known:
        case [int(size), int(modified)]:
            return size == state[0] and abs(modified - state[1]) <= _RESOLUTION_NS
    return False


def file_state(path: Path) -> tuple[int, int]:
    """Return the size of a file and its modification time in ns.

    An OME-Zarr is represented by its main file.
    """
    main = path / _MAIN_FILE
    status = (main if main.is_file() else path).stat()
    return status.st_size, status.st_mtime_ns


def _read(record: Path) -> dict[str, object]:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
