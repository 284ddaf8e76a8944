"""Messages about jobs that cannot be used because a process still works on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_geosr.jobs.folder import JobStatus


def is_stopping(status: JobStatus) -> bool:
    """Return whether the job was asked to stop or pause, and has not yet done so."""
    return status.is_alive and status.request in ("pause", "cancel")


def stopping_text(status: JobStatus) -> str:
    """Explain what a job that was asked to stop is waiting for, and what to do."""
    return (
        f"{status.name} is still stopping: it finishes its current tile, slice or "
        f"training step, and saves it{_process(status)}. Wait until it has ended "
        f"(napari-geosr jobs watch {status.path}), and try again. {_by_force(status)}"
    )


def lock_text(status: JobStatus, lock: Path, *, has_ended: bool) -> str:
    """Explain why the lock of a job cannot be acquired.

    Parameters
    ----------
    has_ended : bool
        Whether the process in the job's state ran on this host and has ended.
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
            f"but the process has not ended yet. Try again in a few seconds. "
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
    """Describe how a process ends that does not stop by itself."""
    if status.queue.number:
        return (
            f"If it does not stop, {status.queue.title} kills job "
            f"{status.queue.number}; only the unfinished part is then lost."
        )
    if not status.pid:
        return ""
    return (
        f"If it does not stop, end it (kill -9 {status.pid} on {status.host}); only "
        "the work since its last finished part or checkpoint is then lost."
    )
