"""Lock files for file systems without locks: each exists while a process works.

Only one process can create a file that must not exist yet. The file names its process,
so that the file of a process that was killed is recognised and replaced.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from contextlib import suppress
from pathlib import Path

from napari_geosr.core.machine import processes
from napari_geosr.core.machine.file_clock import is_older
from napari_geosr.core.machine.heartbeats import Heartbeats

#: Seconds between two heartbeats.
_BEAT_SECONDS = 20.0
#: Seconds without a heartbeat after which a process on another computer, or one that
#: has not finished writing its lock file, counts as dead.
_MAX_SILENCE = 180.0
#: Maximum number of attempts to create the file while other processes do the same.
_ATTEMPTS = 5


class LockFileHeldError(Exception):
    """Another process holds the file."""


class LockFile:
    """A file that exists while this process uses the resource that it locks.

    Parameters
    ----------
    path : Path
    owner : str
        Identifies the only process, on any computer, that may use the file, for example
        by the folder of the job that the process runs; "" if unknown. A file with the
        same owner was left by an earlier process.
    """

    def __init__(self, path: Path, owner: str = "") -> None:
        self.path, self._owner = path, owner
        self._content = b""
        self._beats: Heartbeats | None = None

    def acquire(self) -> None:
        """Create the file, or replace that of a process that has ended.

        Raises
        ------
        LockFileHeldError
            If another process holds it.
        OSError
            If the file cannot be written.
        """
        content = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                **processes.start_facts(),
                "owner": self._owner,
                "time": time.time(),
                "token": secrets.token_hex(8),
            }
        ).encode()
        for _ in range(_ATTEMPTS):
            if self._create(content):
                self._content = content
                self._beats = Heartbeats(self._beat, _BEAT_SECONDS, "lock file")
                self._beats.start()
                return
            self._remove_if_left()
        raise LockFileHeldError(self.path)

    def release(self) -> None:
        """Remove the file, if this process holds it."""
        if self._beats is not None:
            self._beats.stop()
        with suppress(OSError):
            if self._content and self.path.read_bytes() == self._content:
                self.path.unlink()
        self._content = b""

    def _create(self, content: bytes) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
        except BaseException:  # e.g. a full disk; the empty file would act as a lock
            with suppress(OSError):
                self.path.unlink()
            raise
        return True

    def _remove_if_left(self) -> None:
        """Remove the file if its process has ended.

        Raises
        ------
        LockFileHeldError
            If the process may be running.
        """
        try:
            content, changed = self.path.read_bytes(), self.path.stat().st_mtime
        except FileNotFoundError:
            return
        if not self._is_left(content, changed):
            raise LockFileHeldError(self.path)
        aside = self.path.with_name(f".{secrets.token_hex(8)}{self.path.suffix}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if aside.read_bytes() == content:
            aside.unlink()
            return
        # Another process has just replaced the file: put its file back, unless a third
        # process has created one in the meantime.
        try:
            os.link(aside, self.path)
        except FileExistsError:
            pass
        except OSError:  # some file systems do not support links
            self._create(aside.read_bytes())
        aside.unlink()
        raise LockFileHeldError(self.path)

    def _is_left(self, content: bytes, changed: float) -> bool:
        is_silent = is_older(changed, _MAX_SILENCE, self.path.parent)
        try:
            facts = json.loads(content)
            host, owner = str(facts["host"]), str(facts["owner"])
            pid, started = int(facts["pid"]), float(facts["started"])
        except (ValueError, KeyError, TypeError):  # not written completely
            return is_silent
        if host == socket.gethostname():
            since_boot = facts.get(processes.SINCE_BOOT)
            return not processes.is_process_running(pid, started, since_boot)
        return is_silent or bool(owner and owner == self._owner)

    def _beat(self) -> None:
        with suppress(OSError):
            os.utime(self.path)
