"""Repair finished OME-Zarrs in place; a repair that was killed can be resumed.

A repair writes a note into the metadata of the file, so that the note stays with the
file when it is renamed. Until the note is removed, the file is never deleted as
the useless remainder of a run.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_geosr.core.array_parts.boxes import Box, boxes_from_lists, boxes_to_lists
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.stamp import KEY, Stamp
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.io.unfinished_files.atomic import (
    explained,
    move_into_place,
    write_text,
)
from napari_geosr.io.unfinished_files.claims import FileInUseError, in_use_message
from napari_geosr.io.unfinished_files.damage import system_reason, unreadable_now
from napari_geosr.io.unfinished_files.hidden import leftovers, temporary_sibling
from napari_geosr.io.unfinished_files.journal import (
    Journal,
    JournalEntry,
    load_journal,
    remove_journal,
)

#: Name of the note among the attributes of an OME-Zarr.
_NOTE = f"{KEY}-repair"
#: File with the attributes of an OME-Zarr.
_METADATA = "zarr.json"


@dataclass(frozen=True)
class RepairNote:
    """Note that a repair has begun.

    Attributes
    ----------
    record : mapping
        Last provenance record of the file before the repair.
    damaged : tuple of str
        Files of the damaged shards, relative to the OME-Zarr.
    n_shards : int
        Number of shards of all levels.
    intact : tuple of tuple of slice
        Boxes that the repair does not compute again.
    """

    record: AnyMapping
    damaged: tuple[str, ...]
    n_shards: int
    intact: tuple[Box, ...]

    def to_dict(self) -> AnyDict:
        """Return the note as JSON-serialisable values."""
        return {
            "record": dict(self.record),
            "damaged": list(self.damaged),
            "n_shards": self.n_shards,
            "intact": boxes_to_lists(self.intact),
        }


def read_note(path: Path) -> RepairNote | None:
    """Return the note of a repair that has begun; None if there is none.

    Raises
    ------
    FileError
        If the system cannot read the metadata now.
    """
    try:
        text = _text(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise unreadable_now(path, system_reason(error) or str(error)) from error
    try:
        found = json.loads(text)["attributes"][_NOTE]
        return RepairNote(
            dict(found["record"]),
            tuple(str(name) for name in found["damaged"]),
            int(found["n_shards"]),
            tuple(boxes_from_lists(found["intact"])),
        )
    except (ValueError, KeyError, TypeError):
        return None


def finish_repair(path: Path, record: AnyMapping) -> None:
    """Replace the last provenance record and remove the note, in one step.

    Raises
    ------
    FileError
        If the metadata cannot be read or written.
    """
    with _attributes(path) as attributes:
        attributes.pop(_NOTE, None)
        _replace_record(attributes, record)


def _text(path: Path) -> str:
    return (path / _METADATA).read_text(encoding="utf-8")


@contextmanager
def _attributes(path: Path) -> Iterator[AnyDict]:
    """Yield the attributes of an OME-Zarr, and write them atomically."""
    try:
        values: Any = json.loads(_text(path))
        attributes: AnyDict = values["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"The metadata of {path.name} cannot be read ({error}). Write it again."
        ) from error
    yield attributes
    write_text(path / _METADATA, json.dumps(values, indent=2), overwrite=True)


def _replace_record(attributes: AnyDict, record: AnyMapping) -> None:
    history = attributes[KEY]["provenance"]
    attributes[KEY]["provenance"] = [*history[:-1], dict(record)]


def _under_repair(out: Path) -> Path | None:
    """Return the hidden file of a running or interrupted repair of `out`, if any."""
    if out.exists():
        return None
    candidates = [*leftovers(out, suffix_of(out)), incomplete_path(out)]
    return next((each for each in candidates if read_note(each) is not None), None)


def repair_text(out: Path) -> str:
    """Explain why a file is missing because of a repair; empty if there is none.

    If the system cannot read the hidden files now, the text is empty as well.
    """
    try:
        part = _under_repair(out)
        entry = None if part is None else load_journal(part)
    except (FileError, OSError):
        return ""
    if part is None:
        return ""
    if entry is not None and (entry.is_running or entry.is_this_process):
        return (
            f"{out.name} is being repaired, and has a hidden name meanwhile. Wait "
            "until the repair has ended."
        )
    job = shlex.quote(entry.job) if entry is not None and entry.job else "JOB"
    return (
        f"A repair of {out.name} was interrupted, and the file still has a hidden "
        f"name. Complete the repair: napari-geosr jobs repair {job}"
    )


def return_repaired(out: Path) -> None:
    """Move the file of a killed repair back to `out`, if there is one.

    The boxes that the repair finished are recorded as in the file of a stopped run.

    Raises
    ------
    FileInUseError
        If the repair is still running.
    FileError
        If the system cannot read, write or rename the file now.
    """
    part = _under_repair(out)
    if part is None:
        return
    entry = load_journal(part)
    if entry is not None:
        if entry.is_running:
            raise FileInUseError(in_use_message(out, entry.pid, entry.host))
        _record_finished(part, entry)
    with explained(out):
        move_into_place(part, out, overwrite=False)
    remove_journal(part)


def _record_journal(part: Path, noted: str) -> None:
    """Record the boxes in the journal of a file, unless the file was not changed."""
    entry = load_journal(part)
    if entry is not None and _text(part) != noted:
        _record_finished(part, entry)


def _record_finished(part: Path, entry: JournalEntry) -> None:
    with _attributes(part) as attributes:
        record = {**attributes[KEY]["provenance"][-1], "complete": False}
        record["finished"] = boxes_to_lists(entry.boxes)
        _replace_record(attributes, record)


@dataclass(frozen=True)
class _DamagedFile:
    """A finished file that the journal can treat like one that is being written."""

    path: Path
    temporary: Path
    stamp: Stamp

    def flush_to_disk(self) -> None:
        """Do nothing, because an earlier run flushed the file."""


@contextmanager
def under_repair(out: Path, stamp: Stamp, note: RepairNote) -> Iterator[None]:
    """Allow a damaged OME-Zarr to be resumed as if a killed run had left it.

    At the end, the file is moved back to `out`: completely or partly repaired, or
    unchanged. If the process is killed in between, `return_repaired` moves it back.

    Parameters
    ----------
    out : Path
        The damaged file.
    stamp : Stamp
        Metadata block of the file.
    note : RepairNote
        Is kept in the file unless the file was not changed; see `finish_repair`.
    """
    before = _text(out)
    with _attributes(out) as attributes:
        attributes[_NOTE] = note.to_dict()
    noted = _text(out)
    part = temporary_sibling(out, suffix_of(out))
    try:
        with explained(out):
            Journal(_DamagedFile(out, part, stamp), note.intact)
            move_into_place(out, part, overwrite=False)
        yield
    finally:
        for left in (part, incomplete_path(out)):
            if left.exists() and not out.exists():
                # Without this record, the repaired boxes are computed again.
                with suppress(FileError):
                    _record_journal(left, noted)
                with explained(out):
                    move_into_place(left, out, overwrite=False)
        remove_journal(part)
        with suppress(OSError, FileError):  # a remaining note does no harm
            if _text(out) == noted:
                write_text(out / _METADATA, before, overwrite=True)
