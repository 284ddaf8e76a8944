"""Detect changes to the source files of volumes that are in use."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from napari_geosr.core.steps import Step, StepIterator, WarningIssued
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume

#: Metadata key of the `FileState` that volumes and projections had when opened.
OPENED = "opened"
#: Files that mark a folder as a Zarr store. A new file in such a folder counts as a
#: change, because it is a chunk that was missing.
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
#: Minimum time between two checks of whether a source has changed, in seconds.
_MIN_INTERVAL = 1.0
#: Interval between checks as a multiple of the duration of the last check.
_INTERVAL_FACTOR = 100.0
#: Approximate number of samples of a file from which its checksum is calculated.
_N_SAMPLES = 32
#: Size of a sample, in bytes.
_SAMPLE_BYTES = 4096
#: Maximum size of files that are read completely when a run begins, in bytes. Reading
#: such a file takes less than a tenth of a second, and the run reads it anyway.
_SMALL_BYTES = 1 << 26

T = TypeVar("T")


@dataclass(frozen=True)
class FileState:
    """Identity, size and modification times of a file, or of all files in a folder.

    Attributes
    ----------
    files : frozenset of int
        A hash of name, size, inode and times of each file.
    is_growing : bool
        Whether new files do not count as a change. True for a folder of slices, because
        files added later are not read.
    is_folder : bool
        Whether it is the state of a folder.
    """

    files: frozenset[int]
    is_growing: bool = False
    is_folder: bool = False

    @property
    def digest(self) -> str:
        """Checksum of the state, the same in all processes, for storage in files."""
        numbers = " ".join(map(str, sorted(self.files)))
        return hashlib.sha256(f"{self.is_growing} {numbers}".encode()).hexdigest()

    def matches(self, now: FileState | None) -> bool:
        """Whether the files are unchanged according to the later state `now`."""
        if now is None:
            return False
        return self.files <= now.files if self.is_growing else self.files == now.files


def file_state(path: Path | None) -> FileState | None:
    """Return the state of a file or folder; None if it does not exist."""
    if path is None:
        return None
    try:
        if not path.is_dir():
            return FileState(frozenset([_identity("", path.stat())]))
        is_zarr = any((path / name).exists() for name in _ZARR_FILES)
        found = _files(path, "") if is_zarr else _slices(path)
        return FileState(frozenset(found), is_growing=not is_zarr, is_folder=True)
    except OSError:
        return None


def _identity(name: str, status: os.stat_result) -> int:
    changed = status.st_mtime_ns, status.st_ctime_ns
    text = repr((name, status.st_size, status.st_ino, *changed))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _files(folder: Path, name: str) -> Iterator[int]:
    """Yield the hashes of all files in a folder and its subfolders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            inner = f"{name}/{entry.name}"
            if entry.is_dir():
                yield from _files(Path(entry.path), inner)
            else:
                yield _identity(inner, os.stat(entry.path))


def _slices(folder: Path) -> Iterator[int]:
    """Yield the hashes of those files in a folder that may be slices of a volume."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                # `DirEntry.stat` does not return the inode on Windows.
                yield _identity(entry.name, os.stat(entry.path))


def with_state(metadata: AnyMapping, state: FileState | None) -> AnyDict:
    """Return a copy of `metadata` with the state of the file when it was opened."""
    return dict(metadata) if state is None else {**metadata, OPENED: state}


def state_when_opened(volume: Volume) -> FileState | None:
    """Return the state of a volume's source when it was opened; None if unknown."""
    state = volume.metadata.get(OPENED)
    return state if isinstance(state, FileState) else None


class FileWatch:
    """Detects changes to the sources of volumes while the volumes are used.

    The identity, size and times of each source are compared. If the source is a single
    file that is read lazily, samples of its contents are compared as well, because
    writes to a memory-mapped file may update its time late. If any of these have
    changed, the contents are compared with those that were remembered: all bytes of a
    small file, or the checksum in the record of the run.

    Parameters
    ----------
    volumes : iterable of Volume
        Volumes to watch; those without a source are ignored.
    only_lazy : bool
        Whether to ignore volumes that are already in memory.

    Attributes
    ----------
    message : str
        Which sources have changed and what this means; empty if none has.
    """

    def __init__(self, volumes: Iterable[Volume], *, only_lazy: bool = False) -> None:
        self.message = ""
        self._watched = [
            _Watched(volume)
            for volume in volumes
            if volume.source is not None and (volume.is_lazy or not only_lazy)
        ]
        self._due = time.monotonic() + _MIN_INTERVAL

    def check(self, *, now: bool = False) -> str:
        """Return `message` when a change is noticed for the first time, else "".

        Parameters
        ----------
        now : bool
            Check even if the last check was very recent, and compare samples.
        """
        began = time.monotonic()
        if self.message or (began < self._due and not now):
            return ""
        changed = [each for each in self._watched if each.has_changed(sample=now)]
        self.message = " ".join(each.sentence for each in changed)
        took = time.monotonic() - began
        self._due = began + max(_MIN_INTERVAL, _INTERVAL_FACTOR * took)
        return self.message

    def steps(self, steps: Generator[Step, None, T]) -> Generator[Step, None, T]:
        """Yield the given steps, and warn once if a source changes before they end."""
        with StepIterator(steps) as iterator:
            for step in iterator:
                yield step
                if message := self.check():
                    yield WarningIssued(message=message)
        if message := self.check(now=True):
            yield WarningIssued(message=message)
        return iterator.result

    def to_record(self) -> AnyDict:
        """Return the provenance entry on the change; empty if nothing changed."""
        return {"source_change": self.message} if self.message else {}


@dataclass(frozen=True)
class KnownContents:
    """Contents of a source in a known state, for comparison with later contents.

    Attributes
    ----------
    is_same : callable
        Returns whether the source still has the same contents.
    is_complete : bool
        Whether all bytes are compared, rather than samples.
    """

    is_same: Callable[[], bool]
    is_complete: bool


#: Contents of sources by path and state.
_known: OrderedDict[tuple[Path, FileState], KnownContents] = OrderedDict()
_MAX_KNOWN = 64


def remember_contents(path: Path, state: FileState, contents: KnownContents) -> None:
    """Remember a checksum that was computed while the source was in this state.

    If a backup changes the times of the source, or an identical copy replaces it, runs
    can determine that the contents have not changed.
    """
    _known[path, state] = contents
    _known.move_to_end((path, state))
    while len(_known) > _MAX_KNOWN:
        _known.popitem(last=False)


def remember_small(path: Path, state: FileState | None) -> None:
    """Remember the contents of a small file, if it is still in this state."""
    if state is None or (path, state) in _known or _size(path) > _SMALL_BYTES:
        return
    digest = _digest(path)
    if digest and state.matches(file_state(path)):
        is_same = partial(_has_digest, path, digest)
        remember_contents(path, state, KnownContents(is_same, is_complete=True))


def is_identical(path: Path, before: FileState, now: FileState | None) -> bool:
    """Whether a source with a changed state is known to have the same contents."""
    known = _known.get((path, before))
    if now is None or known is None or not known.is_complete or not known.is_same():
        return False
    if not now.matches(file_state(path)):  # the source is still being written
        return False
    remember_contents(path, now, known)
    return True


class _Watched:
    """The source of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._title, self._is_lazy = volume.title, volume.is_lazy
        assert volume.source is not None
        self._path: Path = volume.source
        self._state = state_when_opened(volume) or file_state(volume.source)
        self._is_folder = volume.source.is_dir()
        self._sample = self._sampled() if volume.is_lazy else b""
        self._is_touched = self._is_missing = False
        remember_small(self._path, self._state)

    @property
    def sentence(self) -> str:
        if self._is_missing:
            return (
                f"{self._title} was deleted or moved while it was in use, so parts of "
                "the result may be missing. Put it back, and repeat the run."
            )
        if self._is_touched:
            return (
                f"{self._title} was touched or rewritten while it was in use. Samples "
                "of its contents are unchanged. If other parts changed, the result may "
                "be a mixture of old and new data. In this case, repeat the run."
            )
        if self._is_lazy:
            return (
                f"{self._title} was changed while it was in use, so the result may be "
                "a mixture of old and new data. Repeat the run."
            )
        return (
            f"{self._title} was changed after it was read, so the result is based on "
            "its earlier contents. Repeat the run to use the new contents."
        )

    def has_changed(self, *, sample: bool) -> bool:
        """Whether the source has changed, or may have; `sentence` states which."""
        now = file_state(self._path)
        if now is None:
            # A deleted file stays readable while it is open, but missing chunks of a
            # folder may be read as 0.
            self._is_missing = self._is_folder and self._is_lazy
            return self._is_missing
        if self._state is not None and not self._state.matches(now):
            if is_identical(self._path, self._state, now):
                self._state = now
                return False
            self._is_touched = self._is_same_in_samples()
            return True
        return sample and self._is_lazy and self._sampled() != self._sample

    def _is_same_in_samples(self) -> bool:
        assert self._state is not None
        known = _known.get((self._path, self._state))
        if known is not None:
            return not known.is_complete and known.is_same()
        return bool(self._sample) and self._sampled() == self._sample

    def _sampled(self) -> bytes:
        """Return a checksum of evenly spaced samples of a file; empty for a folder."""
        if not self._path.is_file():
            return b""
        checksum = hashlib.blake2b(digest_size=16)
        try:
            with self._path.open("rb", buffering=0) as stream:
                last = max(0, os.fstat(stream.fileno()).st_size - _SAMPLE_BYTES)
                step = max(1, last // _N_SAMPLES)
                for place in (*range(0, last, step), last):
                    stream.seek(place)
                    checksum.update(stream.read(_SAMPLE_BYTES) or b"")
        except OSError:
            return b""
        return checksum.digest()


def _size(path: Path) -> float:
    """Return the size of a file; infinite for a folder, or if it cannot be found."""
    try:
        return path.stat().st_size if path.is_file() else math.inf
    except OSError:
        return math.inf


def _digest(path: Path) -> bytes:
    """Return the checksum of a whole file; empty if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, hashlib.blake2b).digest()
    except OSError:
        return b""


def _has_digest(path: Path, digest: bytes) -> bool:
    return _digest(path) == digest
