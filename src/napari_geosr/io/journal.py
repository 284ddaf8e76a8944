"""Which parts of a file in the making are finished: read when its process was killed.

It stands here and not in `core`, as it is written atomically and counts on the file.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from napari_geosr.core import processes
from napari_geosr.core.boxes import (
    Box,
    boxes_for_the_record,
    boxes_of_the_record,
    n_voxels,
)
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.atomic import explained, remove, write_text
from napari_geosr.io.hidden import leftovers
from napari_geosr.io.stamp import Stamp

#: Ends the name of a file in the making: its journal.
JOURNAL = ".journal.json"
#: Seconds between two entries: at least, and at most where writing takes long.
_INTERVAL, _LONGEST = 10.0, 60.0
#: Seconds between two entries, in times of what the last one took: 1 % of the run.
_PATIENCE = 100.0
#: Seconds after which a journal of another computer is taken for one of a dead run.
_SILENCE = 600.0


class JournaledFile(Protocol):
    """What a journal is kept of: a file in the making."""

    @property
    def path(self) -> Path:
        """What a person calls it."""

    @property
    def temporary(self) -> Path:
        """Where it is while it is made; the journal lies beside it."""

    @property
    def stamp(self) -> Stamp:
        """What it says of itself."""

    def secure(self) -> None:
        """Have everything that was written so far on the disk."""


class Journal:
    """Which boxes of a file in the making a killed run leaves in it, and who writes.

    A box is noted once it was written, and stands in the journal only after the file
    has it on the disk. The journal is replaced as a whole: it is never half-written.

    Parameters
    ----------
    output : JournaledFile
    boxes : iterable of tuple of slice
        What the file has already, of a resumed run.
    facts : mapping, optional
        What the rest has to be made with, as it stands in a record.
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
        """Say that a box was written; now and then, it goes to the disk.

        Parameters
        ----------
        facts : mapping, optional
            As of the journal.
        """
        self._boxes.append(box)
        self._facts.update(facts or {})
        if time.monotonic() >= self._due:
            self.commit()

    def add(self, boxes: Iterable[Box], facts: AnyMapping | None = None) -> None:
        """Say so of several at once, and have them on the disk."""
        self._boxes += boxes
        self._facts.update(facts or {})
        self.commit()

    def commit(self) -> None:
        """Have everything on the disk, then say so."""
        began = time.monotonic()
        with explained(self.output.path):
            self.output.secure()
        self._write(began)

    def _write(self, began: float | None = None) -> None:
        began = time.monotonic() if began is None else began
        place, path = journal_of(self.output.temporary), self.output.path
        entry = {
            "boxes": boxes_for_the_record(self._boxes),
            "facts": self._facts,
            "stamp": self.output.stamp.to_dict(),
            "pid": os.getpid(),
            "started": processes.own_start(),
            "host": socket.gethostname(),
        }
        try:
            write_text(place, json.dumps(entry), overwrite=True)
        except FileError as error:
            said = str(error).replace(journal_of(path).name, path.name)
            raise FileError(said) from error
        now = time.monotonic()
        pause = max(_INTERVAL, _PATIENCE * (now - began))
        self._due = now + min(pause, max(_INTERVAL, _LONGEST))


@dataclass(frozen=True)
class JournalEntry:
    """What the journal of a file in the making says.

    Attributes
    ----------
    part : Path
        The file in the making.
    boxes : sequence of tuple of slice
        What is finished of it.
    facts : mapping
        What the rest has to be made with, as it stands in a record.
    stamp : mapping
        Shape, axes, voxel size and provenance of the file when it was begun.
    pid, started, host
        Who writes to it, or wrote.
    """

    part: Path
    boxes: Sequence[Box]
    facts: AnyMapping
    stamp: AnyMapping
    pid: int | None
    started: float | None
    host: str

    @property
    def n_finished(self) -> int:
        """Voxels that are finished."""
        return sum(n_voxels(box) for box in self.boxes)

    @property
    def is_own(self) -> bool:
        """Whether this very process wrote it."""
        if self.host != socket.gethostname() or self.pid != os.getpid():
            return False
        return self.started is None or processes.still_runs(self.pid, self.started)

    @property
    def is_running(self) -> bool:
        """Whether another process that wrote it goes on."""
        journal = journal_of(self.part)
        if self.host != socket.gethostname():
            # On a folder that computers share, only the journal's age tells.
            try:
                return time.time() - journal.stat().st_mtime < _SILENCE
            except OSError:
                return False
        if self.pid is None or self.pid == os.getpid():
            return False
        if self.started is not None:
            return processes.still_runs(self.pid, self.started)
        # Earlier releases wrote no start: who came after the last entry did not write.
        return journal.exists() and processes.runs_since(
            self.pid, journal.stat().st_mtime
        )

    @property
    def is_useless(self) -> bool:
        """Whether its process was killed before anything was finished.

        Of other computers nobody knows.
        """
        known = self.host == socket.gethostname()
        return known and not (self.boxes or self.is_own or self.is_running)


def journal_of(part: Path) -> Path:
    """Where the journal of a file in the making is."""
    return part.with_name(f"{part.name}{JOURNAL}")


def read_journal(part: Path) -> JournalEntry | None:
    """What the journal of a file in the making says; None where there is none."""
    try:
        entry = json.loads(journal_of(part).read_text(encoding="utf-8"))
        pid, started = entry.get("pid"), entry.get("started")
        return JournalEntry(
            part,
            boxes_of_the_record(entry["boxes"]),
            dict(entry.get("facts") or {}),
            dict(entry.get("stamp") or {}),
            pid if isinstance(pid, int) else None,
            float(started) if isinstance(started, int | float) else None,
            str(entry.get("host")),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # there is none, or it is damaged


def remove_with_journal(part: Path) -> None:
    """Remove an unfinished file and its journal."""
    remove(part)
    remove_journal(part)


def remove_journal(part: Path) -> None:
    """Remove the journal: the file says itself what is finished, or is no more."""
    journal = journal_of(part)
    remove(journal)
    for begun in leftovers(journal, ""):
        remove(begun)
