"""The folder of a job: its settings, progress and result.

``config.yaml``
    Operation and its settings.
``job.json``
    State, process and host; replaced in one step.
``origin.json``
    Name, folder and time of the job's creation, in case ``job.json`` is damaged.
``events.jsonl``
    One JSON object per line for each step, in order.
``request``
    Request to the running process: ``pause``, ``finish`` or ``cancel``.
``seen``
    Exists once the user has seen or dismissed the result.
``lock``
    Held by the process that runs the job until that process ends.
``output.json``
    Files that the job has finished (`io.unfinished_files.finished`).
``discarded.json``
    Unfinished files of earlier runs that the job discards when it first starts
    (`io.unfinished_files.discarded`).
``submit.sh``, ``queue.json``, ``queue_state.json``
    Script and state of a job in the queue of a cluster (`queue_record`).
``checkpoints/``, ``previews/``, ``result/``, ``log.txt``
    Output of the run.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_geosr.core.documents import dump_yaml, load_yaml, read_document
from napari_geosr.core.errors import ConfigError, FileError, JobDoneError, JobError
from napari_geosr.core.machine import processes
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.finished import begin_record
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.facts import State, relocate_paths
from napari_geosr.jobs.status import ALIVE, JobStatus, lock_text

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["ALIVE", "JobFolder", "JobStatus", "Request"]

Request = Literal["pause", "finish", "cancel"]
SCHEMA_VERSION = 1
_STATE_FILE, _CONFIG_FILE, _EVENTS_FILE = "job.json", "config.yaml", "events.jsonl"
_LOCK_FILE, _SEEN_FILE = "lock", "seen"


class JobFolder:
    """A job, identified by its folder.

    Parameters
    ----------
    path : Path
        An existing job folder; `create` makes one.

    Raises
    ------
    JobError
        If `path` is not a job folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        if not (self.path / _CONFIG_FILE).is_file():
            raise JobError(
                f"{path} is not a job folder, because it has no {_CONFIG_FILE}. "
                "`napari-geosr jobs list` shows the known jobs."
            )
        self._writing = threading.Lock()
        self._written: AnyDict = {}

    @classmethod
    def create(
        cls,
        path: str | Path,
        values: AnyMapping,
        *,
        name: str,
        allow_existing: bool = False,
    ) -> JobFolder:
        """Create the folder of a new job with the settings `values`.

        Parameters
        ----------
        allow_existing : bool
            Whether the caller created the folder for this job; it may then contain
            data.

        Raises
        ------
        FileError
            If `path` is neither new nor an empty folder, or cannot be written.
        """
        folder = Path(path).expanduser().resolve()
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if taken and not allow_existing:
            raise FileError(
                f"{path} already exists and is not empty. Choose another folder. If it "
                "contains this job, resume it instead (napari-geosr jobs resume)."
            )
        with atomic.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        # Never overwrite: another process may create a job here at the same time.
        atomic.write_text(folder / _CONFIG_FILE, _yaml(values), overwrite=False)
        begin_record(folder)
        job = cls(folder)
        origin = {"name": name, "created": time.time(), "place": str(job.path)}
        atomic.write_text(folder / reading.ORIGIN, json.dumps(origin), overwrite=True)
        job.set_state("queued", pid=0, host="", **origin)
        return job

    # Settings

    def values(self) -> AnyDict:
        """Read ``config.yaml``, with paths adjusted to the current folder.

        Raises
        ------
        JobError
            If the file is damaged, or was written by another release.
        """
        path = self.path / _CONFIG_FILE
        try:
            values = load_yaml(read_document(path))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            raise JobError(f"{path} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise JobError(f"{path} does not contain settings: a mapping was expected.")
        if values.pop("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            raise JobError(
                f"{path} was written by another release of napari-geosr. Start a new "
                "job."
            )
        if not isinstance(values.get("training", {}), dict):
            raise JobError(f"{path}: 'training' has no settings. Start a new job.")
        found: AnyDict = relocate_paths(values, self._old_path(), str(self.path))
        return found

    def replace_values(self, values: AnyMapping) -> None:
        """Replace ``config.yaml`` atomically; the caller must hold the job's lock.

        Raises
        ------
        FileError
            If the file cannot be written; the old contents are kept.
        """
        # Paths are stored as they were when the job was created, because `values`
        # adjusts them to the current folder.
        path = str(self.path)
        written = relocate_paths(dict(values), path, self._old_path() or path)
        atomic.write_text(self.path / _CONFIG_FILE, _yaml(written), overwrite=True)

    @property
    def was_created_here(self) -> bool:
        """Whether the job was created here, rather than copied from elsewhere."""
        return reading.is_same_folder(self._old_path(), self.path)

    @property
    def own_path(self) -> Path:
        """Path that identifies the folder in records shared between computers.

        This is the path at the job's creation if it still leads to this folder, because
        the path with links resolved may differ between computers.
        """
        return Path(self._old_path()) if self.was_created_here else self.path

    def _is_copy(self, facts: AnyMapping) -> bool:
        """Return whether this is a copy of a job folder that still exists."""
        place = Path(str(facts.get("place")))
        try:
            return place.is_dir() and not place.samefile(self.path)
        except OSError:
            return False

    def _old_path(self) -> str:
        """Return the folder's path at the job's creation; empty if unknown."""
        place = self._facts().get("place")
        return place if isinstance(place, str) and reading.is_absolute(place) else ""

    # State and progress

    def _facts(self) -> AnyDict:
        """Return the contents of ``job.json``, or what is known if it is damaged."""
        return reading.read_state(self.path / _STATE_FILE)[0]

    def _facts_for_update(self) -> AnyDict:
        """Read ``job.json`` in order to update it.

        Raises
        ------
        FileError
            If the file exists but cannot currently be read; it must not be overwritten.
        """
        path = self.path / _STATE_FILE
        try:
            facts = reading.read_mapping(path)
            if reading.stated(facts) is not None:
                return facts
        except FileNotFoundError:
            return reading.read_origin(self.path) | self._written
        except OSError as error:
            raise FileError(
                f"{path} cannot be read ({error.strerror or error}), so it was not "
                "changed. Check its permissions."
            ) from error
        except ValueError:  # too damaged to be read
            pass
        aside = path.with_name(f"{_STATE_FILE}.damaged")
        atomic.move_into_place(path, aside, overwrite=True)
        return reading.read_origin(self.path) | self._written

    def is_verified(self) -> bool:
        """Return whether this is a job folder, not just one with a ``config.yaml``."""
        facts = self._facts()
        return (
            reading.stated(facts) is not None
            and isinstance(facts.get("created"), int | float)
            and self.status().state != "unreadable"
        )

    def set_state(self, state: State, **facts: Any) -> None:
        """Update the state and the given facts atomically; other facts are kept."""
        self._replace({"state": state, **facts})

    def send_heartbeat(self, **facts: Any) -> None:
        """Update the heartbeat and facts, such as steps done, in one write."""
        self._replace(facts)

    def _replace(self, facts: AnyMapping) -> None:
        with self._writing:  # heartbeats come from another thread
            path = self.path / _STATE_FILE
            with atomic.explained(path):
                known = self._facts_for_update() | {**facts, "updated": time.time()}
            atomic.write_text(path, json.dumps(known), overwrite=True, durable=False)
            self._written = known

    def status(self) -> JobStatus:
        """Read the state; a running job without a live process counts as interrupted.

        This never raises an error, because invalid values in the folder are ignored.
        """
        facts, state, damaged = reading.read_state(self.path / _STATE_FILE)
        values, message = AnyDict(), damaged or str(facts.get("message", ""))
        updated = reading.number(facts.get("updated"))
        queue = queue_record.place_of(self.path, updated)
        is_copy, silence = self._is_copy(facts), ""
        if is_copy:  # only the original is in the queue
            queue = queue.without_number()
        if state in ALIVE and reading.count(facts.get("pid")):
            if is_copy or reading.has_ended_here(facts, self.path):
                state = "interrupted"
            elif not reading.is_alive(facts, self.path):
                # The process may be suspended, its drive may hang, or clocks may
                # differ.
                silence = queue.silence(time.time() - updated)
                state = state if silence else "interrupted"
        try:
            values = self.values()
            reading.check_operation(values, self.path / _CONFIG_FILE)
        except JobError as error:
            state, message = "unreadable", str(error)
        request = self.pending_request()
        state, message = queue.correct(state, message, request)
        result, outside = reading.result(facts, values, self.path)
        return JobStatus(
            path=self.path,
            name=str(facts.get("name", self.path.name)),
            operation=str(values.get("operation", "")),
            method=str(values.get("method", "")),
            state=state,
            created=reading.number(facts.get("created")),
            updated=updated,
            pid=reading.count(facts.get("pid")),
            host=str(facts.get("host", "")),
            done=reading.count(facts.get("done")),
            total=reading.count(facts.get("total")),
            message=message or outside,
            result=result,
            seen=(self.path / _SEEN_FILE).exists(),
            queue=queue,
            request=request,
            processor_seconds=reading.number(facts.get("processor_seconds")),
            parts=reading.percentages(facts.get("parts")),
            n_warnings=reading.count(facts.get("warnings")),
            silence=silence,
            output=out if isinstance(out := values.get("out"), str) else "",
        )

    # The process that runs the job

    @contextmanager
    def hold(self, wait: float = 0.0) -> Iterator[None]:
        """Keep all other processes from working on the job.

        The operating system releases the lock however the process ends (with a delay if
        it is killed). The lock is reentrant within one `JobFolder`. If the file system
        does not support locks, only the heartbeats show that another process is working
        on the job; see `claim`.

        Parameters
        ----------
        wait : float
            Seconds to wait for another process to release the lock.

        Raises
        ------
        JobError
            If another process holds the lock.
        """
        from filelock import Timeout

        with atomic.explained(self.path / _LOCK_FILE):
            try:
                processes.acquire_lock(self._lock, wait, self._has_process_ended)
            except Timeout as error:
                raise JobError(self._lock_message()) from error
        try:
            yield
        finally:
            self._lock.release()

    @cached_property
    def _lock(self) -> FileLock:
        return processes.file_lock(self.path / _LOCK_FILE)

    def _has_process_ended(self) -> bool:
        return reading.has_ended_here(self._facts(), self.path)

    def _lock_message(self) -> str:
        lock, has_ended = self.path / _LOCK_FILE, self._has_process_ended()
        return lock_text(self.status(), lock, has_ended=has_ended)

    def claim(self, state: State) -> None:
        """Record that this process is running the job; the caller must hold the lock.

        Raises
        ------
        JobError
            If the job is done, or a process on another host sends heartbeats: not
            every network drive shares locks between hosts. Without locks, an
            error is also raised if another process on this host is running the job.
        """
        self.check_not_done()
        status = self.status()
        is_elsewhere = status.host != socket.gethostname()
        # The recorded process may be the Python launcher, which is the parent of this
        # process.
        own = (os.getpid(), os.getppid())
        is_other = is_elsewhere or (not self._lock.is_locked and status.pid not in own)
        if status.is_alive and status.pid and is_other:
            raise JobError(
                f"{status.name} is already {status.state} (process {status.pid} on "
                f"{status.host})."
            )
        # Resuming or submitting a job deletes requests, so a remaining request to
        # finish is for this run, which a queue has started. Other requests were for a
        # process that has ended.
        is_kept = status.request == "finish" and bool(status.queue.number)
        if not status.is_alive and not is_kept:
            self.clear_request()
        atomic.remove(self.path / _SEEN_FILE)
        self.set_state(
            state,
            pid=os.getpid(),
            host=socket.gethostname(),
            **processes.start_facts(),
            message="",
        )

    def check_not_done(self) -> None:
        """Check that the job can still be run.

        Raises
        ------
        JobDoneError
            If the job is done.
        JobError
            If the settings of the job cannot be read.
        """
        status = self.status()
        if status.state == "unreadable":
            raise JobError(status.message)
        if status.state == "done":
            raise JobDoneError(
                f"{status.name} is already done, so it cannot be resumed or changed. "
                "Start a new job instead."
            )

    # Requests by the user

    def set_seen(self) -> None:
        """Mark the job as seen, in a file to which its process does not write."""
        atomic.write_text(self.path / _SEEN_FILE, "", overwrite=True, durable=False)

    def request(self, what: Request) -> None:
        """Send a request to the job's process, which polls several times a second."""
        path = self.path / "request"
        atomic.write_text(path, what, overwrite=True, durable=False)

    def pending_request(self, max_seconds: float = math.inf) -> str:
        """Return the current request, or an empty string if there is none.

        Requests that are older than `max_seconds` are ignored.
        """
        try:
            age = time.time() - (self.path / "request").stat().st_mtime
            if age > max_seconds:
                return ""
            return (self.path / "request").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def clear_request(self) -> None:
        """Delete the current request."""
        path = self.path / "request"
        with atomic.explained(path):
            atomic.retry_if_not_permitted(lambda: path.unlink(missing_ok=True))

    # Events

    def append(self, event: str, **facts: Any) -> None:
        """Append an event."""
        line = json.dumps({"time": time.time(), "event": event, **facts})
        path = self.path / _EVENTS_FILE
        with atomic.explained(path), reading.open_for_appending(path) as stream:
            stream.write(line.encode() + b"\n")

    def events(self, offset: int = 0, max_bytes: int = -1) -> tuple[list[AnyDict], int]:
        """Return the events from byte `offset` on, and the next offset.

        A line that is still being written is left for the next call. Damaged and
        invalid lines are skipped.

        Parameters
        ----------
        max_bytes : int
            Maximum number of bytes to read, for callers that must not block on a long
            log; it must exceed the length of a line. By default, all events are read.
        """
        try:
            with (self.path / _EVENTS_FILE).open("rb") as stream:
                stream.seek(offset)
                content = stream.read(max_bytes)
        except OSError:
            return [], offset
        end = content.rfind(b"\n") + 1
        events = [reading.event(line) for line in content[:end].split(b"\n")]
        return [event for event in events if event is not None], offset + end

    def warnings(self) -> list[str]:
        """Return the warnings of all runs, without repetitions."""
        found = [e["message"] for e in self.events()[0] if e["event"] == "warning"]
        return list(dict.fromkeys(found))

    @property
    def preview(self) -> Path:
        """Path of the latest preview, a TIFF with voxel size and origin."""
        return self.path / "previews" / "latest.tif"


def _yaml(values: AnyMapping) -> str:
    return dump_yaml({"schema_version": SCHEMA_VERSION, **values})
