"""Journal of the finished parts of a file being written, to resume killed runs.

The module is part of `io`, not `core`, because it writes atomically and depends on the
state of the file on disk.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from napari_geosr.core.array_parts.boxes import (
    Box,
    boxes_from_lists,
    boxes_to_lists,
    n_voxels,
)
from napari_geosr.core.errors import FileError
from napari_geosr.core.machine import processes
from napari_geosr.core.machine.file_clock import is_older
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.stamp import Stamp
from napari_geosr.io.unfinished_files.atomic import explained, remove, write_text
from napari_geosr.io.unfinished_files.damage import system_reason, unreadable_now
from napari_geosr.io.unfinished_files.hidden import is_of_other_computer, leftovers

#: Suffix that the journal adds to the name of the file being written.
JOURNAL = ".journal.json"
#: Name of the fact that gives the number of finished samples of a diffusion model,
#: which are stored next to the file being written.
SAMPLES = "samples_kept"
#: Minimum time between two entries, in seconds.
_MIN_INTERVAL = 10.0
#: Maximum time between two entries if writing is slow, in seconds.
_MAX_INTERVAL = 60.0
#: Interval between entries as a multiple of the time taken to write the last entry, so
#: that the journal takes about 1 % of the run.
_INTERVAL_FACTOR = 100.0
#: Time in seconds without an entry after which a run on another computer counts as
#: dead.
_MAX_SILENCE = 600.0
#: Folders of the jobs that this process is running.
_jobs: list[str] = []


class JournaledFile(Protocol):
    """Interface of a file being written, as required by the journal."""

    @property
    def path(self) -> Path:
        """Path requested by the user."""

    @property
    def temporary(self) -> Path:
        """Path while the file is being written; the journal is in the same folder."""

    @property
    def stamp(self) -> Stamp:
        """Metadata block of the file."""

    def flush_to_disk(self) -> None:
        """Flush everything written so far to disk."""


class Journal:
    """Record of the finished boxes of a file, and of the process that writes it.

    A box is recorded when it is written, and enters the journal only after the file has
    been flushed to disk. The journal is replaced as a whole, so it is never
    half-written.

    Parameters
    ----------
    output : JournaledFile
    boxes : iterable of tuple of slice
        Boxes that are already in the file of a resumed run.
    facts : mapping, optional
        Values needed to compute the remaining boxes identically, as in the provenance.
    """

    def __init__(
        self,
        output: JournaledFile,
        boxes: Iterable[Box] = (),
        facts: AnyMapping | None = None,
    ) -> None:
        self.output = output
        self._boxes = list(boxes)
        self._facts: AnyDict = dict(facts or {})
        self._write()

    def note(self, box: Box, facts: AnyMapping | None = None) -> None:
        """Record that a box was written; commit at intervals.

        Parameters
        ----------
        facts : mapping, optional
            As in the constructor.
        """
        self._boxes.append(box)
        self._facts.update(facts or {})
        if time.monotonic() >= self._due:
            self.commit()

    def add(self, boxes: Iterable[Box], facts: AnyMapping | None = None) -> None:
        """Record several boxes or facts at once and commit."""
        self._boxes += boxes
        self._facts.update(facts or {})
        self.commit()

    def commit(self) -> None:
        """Flush the file to disk, then write the journal."""
        began = time.monotonic()
        with explained(self.output.path):
            self.output.flush_to_disk()
        self._write(began)

    def _write(self, began: float | None = None) -> None:
        began = time.monotonic() if began is None else began
        place, path = journal_of(self.output.temporary), self.output.path
        entry = {
            "boxes": boxes_to_lists(self._boxes),
            "facts": self._facts,
            "stamp": self.output.stamp.to_dict(),
            "pid": os.getpid(),
            **processes.start_facts(),
            "host": socket.gethostname(),
            "job": held_job(),
        }
        try:
            write_text(place, json.dumps(entry), overwrite=True)
        except FileError as error:
            message = str(error).replace(journal_of(path).name, path.name)
            raise FileError(message) from error
        now = time.monotonic()
        pause = max(_MIN_INTERVAL, _INTERVAL_FACTOR * (now - began))
        self._due = now + min(pause, max(_MIN_INTERVAL, _MAX_INTERVAL))


@dataclass(frozen=True)
class JournalEntry:
    """Content of the journal of a file being written.

    Attributes
    ----------
    part : Path
        The file being written.
    boxes : sequence of tuple of slice
        Finished boxes of the file.
    facts : mapping
        Values needed to compute the remaining boxes identically, as in the provenance.
    stamp : mapping
        Shape, axes, voxel size and provenance of the file when it was begun.
    pid, started, host
        Id, start time and computer of the process that writes or wrote the file.
    job : str
        Folder of the job to which the process belongs; "" if none.
    since_boot : str
        Start of the process as in `processes.start_facts`; "" if unknown.
    """

    part: Path
    boxes: Sequence[Box]
    facts: AnyMapping
    stamp: AnyMapping
    pid: int | None
    started: float | None
    host: str
    job: str = ""
    since_boot: str = ""

    @property
    def n_finished(self) -> int:
        """Number of finished voxels."""
        return sum(n_voxels(box) for box in self.boxes)

    @property
    def n_samples(self) -> int:
        """Number of finished samples that are stored next to the file."""
        return int(self.facts.get(SAMPLES) or 0)

    @property
    def has_progress(self) -> bool:
        """Whether the writing process finished anything that can be reused."""
        return bool(self.boxes or self.n_samples)

    @property
    def is_this_process(self) -> bool:
        """Whether this process wrote the file."""
        if self.host != socket.gethostname() or self.pid != os.getpid():
            return False
        return self.started is None or processes.is_process_running(
            self.pid, self.started, self.since_boot
        )

    @property
    def is_running(self) -> bool:
        """Whether another process is still writing the file."""
        journal = journal_of(self.part)
        if self.host != socket.gethostname():
            # Only one process at a time holds the lock of a job, so an earlier one has
            # ended: its computer failed, or its queue restarted the job elsewhere.
            if self.job and self.job in _jobs:
                return False
            # In a shared folder, only the age of the journal shows whether its run is
            # alive.
            try:
                changed = journal.stat().st_mtime
            except OSError:
                return False
            return not is_older(changed, _MAX_SILENCE, journal.parent)
        if self.pid is None or self.pid == os.getpid():
            return False
        if self.started is not None:
            return processes.is_process_running(self.pid, self.started, self.since_boot)
        # Earlier releases did not write the start time. A process that started after
        # the last entry cannot have written that entry.
        return journal.exists() and processes.has_run_since(
            self.pid, journal.stat().st_mtime
        )

    @property
    def is_useless(self) -> bool:
        """Whether the writing process was killed before it finished anything.

        The result is False for files from other computers, for which this is unknown.
        """
        known = self.host == socket.gethostname()
        return known and not (
            self.has_progress or self.is_this_process or self.is_running
        )


@contextmanager
def written_by_job(folder: Path) -> Iterator[None]:
    """Record in all journals that this process is running the job in a folder.

    The process must hold the lock of the job. Unfinished files of earlier runs of the
    job on other computers are then resumed without waiting.

    Parameters
    ----------
    folder : Path
        Path of the folder that is the same on all computers; the path with links
        resolved may differ between computers.
    """
    name = str(folder.absolute())  # a relative path could name another job elsewhere
    _jobs.append(name)
    try:
        yield
    finally:
        _jobs.remove(name)


def held_job() -> str:
    """Return the folder of the job that this process runs; "" if none."""
    return _jobs[-1] if _jobs else ""


def is_left_by_job(part: Path) -> bool:
    """Return whether an earlier run of this job on another computer left `part`.

    Only one process at a time can hold the lock of a job, so the process on the other
    computer has ended.
    """
    job = held_job()
    is_inside = bool(job) and part.resolve().is_relative_to(Path(job).resolve())
    return is_inside and is_of_other_computer(part)


def journal_of(part: Path) -> Path:
    """Return the path of the journal of a file being written."""
    return part.with_name(f"{part.name}{JOURNAL}")


def load_journal(part: Path) -> JournalEntry | None:
    """Read the journal of a file being written; None if missing or damaged.

    Raises
    ------
    FileError
        If the system cannot read it now, so that it is unknown what is finished.
    """
    try:
        text = journal_of(part).read_text(encoding="utf-8")
    except (FileNotFoundError, ValueError):  # missing, or the text is damaged
        return None
    except OSError as error:
        raise unreadable_now(part, system_reason(error) or str(error)) from error
    try:
        entry = json.loads(text)
        pid, started = entry.get("pid"), entry.get("started")
        return JournalEntry(
            part,
            boxes_from_lists(entry["boxes"]),
            dict(entry.get("facts") or {}),
            dict(entry.get("stamp") or {}),
            pid if isinstance(pid, int) else None,
            float(started) if isinstance(started, int | float) else None,
            str(entry.get("host")),
            str(entry.get("job") or ""),
            str(entry.get(processes.SINCE_BOOT) or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def read_journal(part: Path) -> JournalEntry | None:
    """Read a journal to show it; None if it cannot be read for any reason.

    To decide whether a file may be removed, use `load_journal`.
    """
    try:
        return load_journal(part)
    except FileError:
        return None


def remove_with_journal(part: Path) -> None:
    """Remove an unfinished file and its journal."""
    remove(part)
    remove_journal(part)


def remove_journal(part: Path) -> None:
    """Remove the journal of a file that is complete or was removed."""
    journal = journal_of(part)
    remove(journal)
    for begun in leftovers(journal, ""):
        remove(begun)
