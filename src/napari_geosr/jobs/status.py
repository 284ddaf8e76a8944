"""The status of a job, and messages about jobs on which a process is still working."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.config import format_available
from napari_geosr.jobs.cluster.queue_record import NO_QUEUE, QueuePlace
from napari_geosr.jobs.facts import State

#: States of a job with a process that is running or waiting.
ALIVE = ("queued", "running", "finishing")
_CAN_RESUME = ("paused", "failed", "cancelled", "interrupted", "damaged")
#: States of a job that its queue may start again.
_MAY_RESTART = ("paused", "cancelled", "interrupted")
#: Number of bytes at the end of a log in which its last line is searched for.
_LOG_END = 4096
#: Maximum length of a line from a log, in characters.
_MAX_LINE_LENGTH = 300
#: Maximum length of the reason given for a job in a list, in characters.
_MAX_REASON_LENGTH = 120
#: Free space below which a disk counts as full, in bytes.
_FULL_BYTES = 1 << 24
#: Line that bash writes to the log if a signal ends the process of a job's script
#: (`queues._scripts`), with the name of the signal.
_ENDED_BY_SIGNAL = re.compile(r": line \d+: +\d+ (.+?) *\( ?trap '' USR1;")


@dataclass(frozen=True)
class JobStatus:
    """Status of a job, as read from its folder.

    Attributes
    ----------
    state : str
        ``"interrupted"`` if the process ended without recording why, ``"damaged"`` if
        ``job.json`` is damaged, ``"unreadable"`` if it is missing or ``config.yaml``
        is not a valid job file, ``"missing"`` if the folder no longer exists;
        `message` has details.
    done, total : int
        Number of steps done, and total number of steps.
    message : str
        Why the job failed, or its current activity.
    result : Path or None
        Path of the model, volume or report, once it exists.
    seen : bool
        Whether the user has opened or dismissed the result, so that docks no longer
        offer it.
    queue : QueuePlace
        Place of the job in the queue of a cluster, if it was submitted to one.
    request : str
        Request that the process has not yet followed; see `JobFolder.request`.
    processor_seconds : float
        CPU time of all runs of the job.
    parts : tuple of int
        Finished percentages of equal parts of the result, in the order of its planes;
        empty if unknown.
    n_warnings : int
        Number of different warnings, once the job is done.
    silence : str
        Why the job counts as running although its process sends no heartbeats.
    energy : str
        Energy and emissions of a job on another computer, as stated there; see
        `JobCost.text`.
    output : str
        Path requested for the result; empty if it is in the job's folder.
    """

    path: Path
    name: str
    operation: str
    method: str
    state: State
    created: float
    updated: float
    pid: int = 0
    host: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    result: Path | None = None
    seen: bool = False
    queue: QueuePlace = NO_QUEUE
    request: str = ""
    processor_seconds: float = 0.0
    parts: tuple[int, ...] = ()
    n_warnings: int = 0
    silence: str = ""
    energy: str = ""
    output: str = ""

    @property
    def is_alive(self) -> bool:
        return self.state in ALIVE

    @property
    def can_resume(self) -> bool:
        """Whether the job can be resumed."""
        return self.state in _CAN_RESUME

    @property
    def is_waiting_in_queue(self) -> bool:
        """Whether the job is in a queue and has no running process yet."""
        return self.state == "queued" and bool(self.queue.number)

    @property
    def is_unfinished_in_queue(self) -> bool:
        """Whether the process has stopped, but the queue has not ended the job yet.

        The queue takes a few seconds to notice that the process has ended, and may
        start the job again.
        """
        return self.state in _MAY_RESTART and self.queue.is_unfinished


def outage_text(status: JobStatus) -> str:
    """Return why the job's state in the queue may be outdated; empty if current."""
    is_open = status.is_alive or status.is_unfinished_in_queue
    return status.queue.outage if is_open else ""


def reasons(status: JobStatus) -> list[str]:
    """Explain why a job is not done; empty if there is nothing to explain.

    For a job that was interrupted, the explanation names a full disk, the signal that
    ended its process or, if neither is known, the last line of its log.
    """
    texts = [text for text in (status.message, outage_text(status)) if text]
    if status.state != "interrupted":
        return texts
    log = status.path / "log.txt"
    line = _last_line(log)
    signal = _signal_text(line)
    if not status.message and not signal:
        which = f" (process {status.pid} on {status.host})" if status.pid else ""
        texts.insert(0, f"Its process{which} ended without an error message.")
    if full := _full_disk_text(status):
        texts.append(full)
    if signal:
        texts.append(signal)
    elif line:
        texts.append(f"Last line of {log}: {line}")
    return texts


def main_reason(status: JobStatus) -> str:
    """Return the most informative reason why a job was interrupted, in few words."""
    found = reasons(status)
    known = (_full_disk_text(status), _signal_text(_last_line(status.path / "log.txt")))
    text = next((each for each in known if each), found[0] if found else "")
    if not any(known):
        text = f"{re.split('[.;] ', text)[0].rstrip('.')}."
    if len(text) > _MAX_REASON_LENGTH:
        text = f"{text[: _MAX_REASON_LENGTH - 1]}…"
    return text


def _signal_text(line: str) -> str:
    """Explain the line of a log that states which signal ended the job's process."""
    found = _ENDED_BY_SIGNAL.search(line)
    if found is None:
        return ""
    if found[1] == "Killed":
        return (
            "Its process was killed (kill -9, or out of memory); request more memory "
            "if this recurs."
        )
    return f"Its process was ended by a signal: {found[1]}."


def _full_disk_text(status: JobStatus) -> str:
    """Return a message if the disk of the job or its output is full; else empty."""
    folders = [Path(status.path)]  # may not exist if the job is on another computer
    if status.output and folders[0].is_dir():
        folders.append(Path(status.output).parent)
    for folder in folders:
        with suppress(OSError):
            usage = shutil.disk_usage(folder)
            if usage.total and usage.free < _FULL_BYTES:
                return (
                    f"The disk of {folder} is full ({format_available(usage.free)} "
                    "left); free some space before you resume the job."
                )
    return ""


def _last_line(path: Path) -> str:
    """Return the last non-empty line of a log."""
    try:
        with Path(path).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LOG_END))
            content = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return "".join(c for c in last if c.isprintable())[:_MAX_LINE_LENGTH]


def is_stopping(status: JobStatus) -> bool:
    """Return whether the job was asked to stop or pause, and has not yet done so."""
    return status.is_alive and status.request in ("pause", "cancel")


def stopping_text(status: JobStatus) -> str:
    """Explain what a job that was asked to stop is waiting for, and what to do."""
    return (
        f"{status.name} is still stopping: it finishes its current tile, slice or "
        f"training step, and saves it{_process(status)}. Wait until it has ended "
        f"(napari-geosr jobs watch {status.path}), and try again.{_by_force(status)}"
    )


def lock_text(status: JobStatus, lock: Path, *, has_ended: bool) -> str:
    """Explain why the lock of a job cannot be acquired.

    Parameters
    ----------
    has_ended : bool
        Whether the process named in the job's status ran on this host and has ended.
    """
    if has_ended:
        return (
            f"{status.name} cannot be used yet: its process {status.pid} has ended, "
            f"but another one keeps {lock} locked. Wait until that process has "
            "finished, or end it."
        )
    if is_stopping(status):
        return stopping_text(status)
    if status.pid and not status.is_alive:
        return (
            f"{status.name} is still stopping: its work is saved{_process(status)}, "
            "but the process has not ended yet. Try again in a few seconds."
            f"{_by_force(status)}"
        )
    return (
        f"{status.name} is already running in another process{_process(status)}. "
        f"Watch it (napari-geosr jobs watch {status.path}) or stop it (napari-geosr "
        f"jobs stop {status.path}) instead."
    )


def _process(status: JobStatus) -> str:
    return f" (process {status.pid} on {status.host})" if status.pid else ""


def _by_force(status: JobStatus) -> str:
    """Explain how to end a process that does not stop by itself."""
    if status.queue.number:
        return (
            f" If it does not stop, {status.queue.title} kills job "
            f"{status.queue.number}; only the unfinished part is then lost."
        )
    if not status.pid:
        return ""
    return (
        f" If it does not stop, end it (kill -9 {status.pid} on {status.host}); only "
        "the work since its last finished part or checkpoint is then lost."
    )
