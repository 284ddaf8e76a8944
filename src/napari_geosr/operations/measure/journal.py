"""Stores the progress of a measurement next to its report, so that it can be resumed.

The state is that of a `measure.blocks.SlabLabeller`: a plane of labels, a row for each
open or completed pore, and a number for each label. A resumed run recomputes the
histogram, noise, sample mask and interval.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_geosr.core.documents import MAX_RESULT_BYTES, load_json
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.damage import system_reason, unreadable_now
from napari_geosr.io.unfinished_files.hidden import (
    is_abandoned,
    is_of_other_computer,
    leftovers,
    temporary_sibling,
)
from napari_geosr.io.unfinished_files.journal import held_job, is_left_by_job
from napari_geosr.operations.measure import MeasureConfig, measure_record

if TYPE_CHECKING:
    from napari_geosr.measure.porosity_run import LabellingJournal

#: Number of voxels below which no journal is kept: such a measurement takes seconds.
_MIN_VOXELS = 1 << 26
#: Minimum time between two entries, in seconds.
_MIN_INTERVAL = 10.0
#: Minimum time between entries as a multiple of the time taken to write the last one.
_WRITE_TIME_FACTOR = 100.0
#: Suffixes of the state file, and of a new state file that is still being written.
_SUFFIX, _NEW = ".npz", ".new"
#: Exceptions raised when reading a damaged file; `OSError` may have other causes.
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

T = TypeVar("T")


class MeasureJournal:
    """The journals of the volumes of one measurement; small volumes have none.

    Parameters
    ----------
    folder : Path
        Folder of the report; created when there is something to store.
    volumes : mapping of str to Volume
        The measured volumes.
    companions : mapping of str to Volume or None
        Mask and standard deviations, on which the results also depend.
    config : MeasureConfig
    """

    def __init__(
        self,
        folder: Path,
        volumes: Mapping[str, Volume],
        companions: Mapping[str, Volume | None],
        config: MeasureConfig,
    ) -> None:
        given = {k: v for k, v in companions.items() if v is not None}
        self._inputs, self._config = {**volumes, **given}, config
        self._before = self._states()
        self._parts = {
            name: _Part(folder / f"measuring{i}", partial(self._key, name))
            for i, (name, volume) in enumerate(volumes.items())
            if np.prod(volume.shape, dtype=np.int64) >= _MIN_VOXELS
        }

    def _states(self) -> list[object]:
        """Return inode and modification time of each file, to detect replaced files."""
        return [
            None
            if (source := volume.source) is None or not source.exists()
            else (source.stat().st_ino, source.stat().st_mtime_ns)
            for volume in self._inputs.values()
        ]

    def _key(self, name: str) -> str | None:
        """Return a key for the state of a volume; None if a file was replaced."""
        record = measure_record(self._inputs, self._config)
        if self._states() != self._before:
            return None
        key = {k: record[k] for k in ("version", "inputs", "settings")}
        return json.dumps({**key, "volume": name}, sort_keys=True)

    def of(self, name: str) -> LabellingJournal | None:
        """Return the journal of a volume; None if the volume is small."""
        return self._parts.get(name)

    def note(self) -> str:
        """Describe the stored and the damaged states of interrupted measurements.

        The text is empty if there are none. Call this method after the measurement.
        """
        damaged = [path for part in self._parts.values() for path in part.damaged]
        others = [path for part in self._parts.values() for path in part.others]
        found = ""
        if damaged:
            found = (
                "the stored state of an interrupted measurement was damaged and has "
                f"been removed: {', '.join(path.name for path in damaged)}."
            )
        if not others:
            return found
        return (found and f"{found} ") + (
            "an interrupted measurement with other settings can still be resumed: run "
            "it again with those settings and the same output folder. If you no longer "
            f"need it, delete {', '.join(map(str, others))}."
        )

    @contextmanager
    def explained_stop(self) -> Iterator[None]:
        """Add instructions for resuming to the message of a stopped run.

        Raises
        ------
        Cancelled
            If the run was stopped.
        """
        try:
            yield
        except Cancelled as error:
            stored = [part.path for part in self._parts.values() if part.path.exists()]
            if not stored:
                raise
            raise Cancelled(
                f"{error} To resume it, run the same command again. If you do not want "
                f"to resume it, delete {', '.join(map(str, stored))}."
            ) from error

    def remove(self) -> None:
        """Remove the files after the measurement is complete."""
        for part in self._parts.values():
            part.remove()


class _Part:
    """A `LabellingJournal` in a hidden file that is always replaced as a whole."""

    def __init__(self, place: Path, make_key: Callable[[], str | None]) -> None:
        self._place, self._make_key = place, make_key
        self._key: str | None = None
        #: State files of interrupted measurements with other settings.
        self.others: list[Path] = []
        #: Damaged state files, which were removed.
        self.damaged: list[Path] = []
        #: Outdated state files with the same settings: the input files have changed
        #: since, or another version wrote them.
        self._outdated: list[Path] = []
        self.path = temporary_sibling(place, _SUFFIX)
        self._new = temporary_sibling(place, _NEW)
        self._due = time.monotonic() + _MIN_INTERVAL

    def load(self) -> Mapping[str, np.ndarray] | None:
        """Load the state left by an interrupted run of the same measurement, if any.

        The file is renamed for this run. States of measurements with other settings are
        kept; damaged files are removed.

        Raises
        ------
        FileError
            If the system cannot read a state now.
        """
        # Compute the key only now, because it reads the whole input, which a refused
        # run should not do.
        self._key = self._make_key()
        self.others, self.damaged, self._outdated = [], [], []
        found: dict[str, np.ndarray] | None = None
        for old in leftovers(self._place, _SUFFIX):
            if old == self.path or not _is_left(old):
                continue
            key = _read_key(old)
            if key is not None and key != self._key:
                is_outdated = _settings_in(key) == _settings_in(self._key)
                (self._outdated if is_outdated else self.others).append(old)
                continue
            state = _read(old) if key is not None and found is None else None
            if state is None:
                if found is None:
                    self.damaged.append(old)
                atomic.remove(old)
                continue
            for name in ("key", "job"):
                state.pop(name, None)
            found = state
            os.replace(old, self.path)
        for old in leftovers(self._place, _NEW):
            if is_abandoned(old) or is_left_by_job(old):
                atomic.remove(old)
        return found

    def is_due(self) -> bool:
        """Return whether it is time to save the state again."""
        return self._key is not None and time.monotonic() >= self._due

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the state to a new file, which then replaces the previous one."""
        if self._key is None:
            return
        began = time.monotonic()
        with atomic.explained(self._place.parent):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            with self._new.open("wb") as stream:
                facts = {"key": np.array(self._key), "job": np.array(held_job())}
                values: Any = {**state, **facts}
                np.savez(stream, **values)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(self._new, self.path)
        now = time.monotonic()
        self._due = now + max(_MIN_INTERVAL, _WRITE_TIME_FACTOR * (now - began))

    def remove(self) -> None:
        """Remove the stored state, and the states replaced by this measurement."""
        for path in (self.path, self._new, *self._outdated):
            atomic.remove(path)


def _is_left(path: Path) -> bool:
    """Return whether the run that wrote a state is known to have ended."""
    if is_abandoned(path) or is_left_by_job(path):
        return True
    # Only one process at a time holds a job, so a run of this job on another computer
    # has ended.
    job = held_job()
    is_own = bool(job) and _read_text(path, "job") == job
    return is_own and is_of_other_computer(path)


def states_of_job(folder: Path, job: Path) -> list[Path]:
    """Return the states that the runs of a job have left in the folder of its report.

    Parameters
    ----------
    job : Path
        Folder of the job, as in `written_by_job`; no process may be running the job.
    """
    found = []
    for path in sorted(folder.glob(f".measuring*{_SUFFIX}")):
        with suppress(FileError):  # skip a state that is unreadable at the moment
            if _read_text(path, "job") == str(job):
                found.append(path)
    return found


def _read_key(path: Path) -> str | None:
    """Return the key of a state; None if the file is damaged."""
    return _read_text(path, "key")


def _read_text(path: Path, name: str) -> str | None:
    return _if_intact(path, lambda arrays: str(arrays[name]))


def _if_intact(path: Path, read: Callable[[Any], T]) -> T | None:
    """Read the arrays of a state without executing code; None if it is damaged.

    Raises
    ------
    FileError
        If the system cannot read the file now.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return read(arrays)
    except _DAMAGED as error:
        if reason := system_reason(error):
            raise unreadable_now(path, reason) from error
        return None


def _settings_in(key: str | None) -> object:
    """Return the settings and name of the volume in a key; None if it is damaged."""
    try:
        values = load_json("null" if key is None else key, MAX_RESULT_BYTES)
        return values["settings"], values["volume"]
    except (ValueError, LookupError, TypeError):
        return None


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of a state; None if the file is damaged."""
    return _if_intact(path, lambda arrays: {k: arrays[k] for k in arrays.files})
