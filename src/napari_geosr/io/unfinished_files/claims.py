"""Claim an output, so that two runs never write to it at the same time."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_state_path

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine import processes
from napari_geosr.io.unfinished_files.atomic import check_writable

#: For each output claimed by this process: the thread, and its number of claims.
_claims: dict[Path, tuple[int, int]] = {}
_changing = threading.Lock()


class FileInUseError(ConfigError):
    """Another run is writing to the file."""


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes and threads from claiming `path` within this context.

    The claim is a lock on a file in the user's own folder, so other users cannot block
    it, and it also holds on other computers that share the folder. The system releases
    the lock no matter how the process ends. The same thread may claim a path again.

    Raises
    ------
    FileInUseError
        If the path is already claimed.
    FileError
        If the folder is not writable.
    """
    key = path.parent.resolve() / path.name
    thread = threading.get_ident()
    with _changing:
        owner, depth = _claims.get(key, (thread, 0))
        if owner != thread:
            raise FileInUseError(
                in_use_message(path, os.getpid(), socket.gethostname())
            )
        _claims[key] = (thread, depth + 1)
    try:
        if depth:
            yield
        else:
            with _locked(path, lock_of(key)):
                yield
    finally:
        with _changing:
            owner, depth = _claims.pop(key)
            if depth > 1:
                _claims[key] = (owner, depth - 1)


def lock_of(path: Path) -> Path:
    """Return the file that is locked while a run writes to an absolute `path`."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return Path(user_state_path("napari-geosr")) / "locks" / f"{name}.lock"


@contextmanager
def _locked(path: Path, place: Path) -> Iterator[None]:
    # Imported here because the import takes noticeable time.
    from filelock import Timeout

    check_writable(path)
    lock, has_lock = processes.file_lock(place), False
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        has_lock = processes.acquire_lock(lock, 0.0, lambda: _has_holder_ended(place))
    except Timeout as error:
        raise FileInUseError(in_use_message(path, *_holder(place))) from error
    except OSError:
        pass
    if not has_lock:
        yield  # without locks, the journal shows whether a run is writing
        return
    try:
        with suppress(OSError):
            own = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                **processes.start_facts(),
            }
            place.write_text(json.dumps(own), encoding="utf-8")
        yield
    finally:
        # Remove the lock file while it is locked, because another process could lock it
        # right after the release. Windows cannot remove open files, so try again after
        # the release.
        with suppress(OSError):
            place.unlink(missing_ok=True)
        lock.release()
        if os.name == "nt":
            with suppress(OSError):
                place.unlink(missing_ok=True)


def refuse_claimed(path: Path) -> None:
    """Raise if a run is writing to `path`, or its folder is not writable."""
    with claimed(path):
        pass


def _holder(place: Path) -> tuple[int | None, str]:
    """Return the process and computer that hold a lock; None and "" if unreadable."""
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        return int(entry["pid"]), str(entry["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""


def _has_holder_ended(place: Path) -> bool:
    """Return whether the holder of a lock ran on this computer and has ended."""
    try:
        entry = json.loads(place.read_text(encoding="utf-8"))
        pid, started = int(entry["pid"]), float(entry["started"])
        is_own = entry["host"] == socket.gethostname()
        since_boot = entry.get(processes.SINCE_BOOT)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return is_own and not processes.is_process_running(pid, started, since_boot)


def in_use_message(path: Path, pid: int | None, host: str) -> str:
    """Return the message that a process is writing to `path`."""
    by = "" if pid is None else f" (process {pid} on {host})"
    return (
        f"A run is still writing to {path.name}{by}. Wait until it has finished, stop "
        "it, or choose another name."
    )
