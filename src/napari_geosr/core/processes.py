"""Whether a process that was written down still runs."""

from __future__ import annotations

import psutil

#: Seconds by which two readings of a start may differ: clocks are set now and then.
_TOLERANCE = 2.0


def own_start() -> float:
    """When this process was started, in seconds since 1970."""
    return float(psutil.Process().create_time())


def still_runs(pid: int, started: float) -> bool:
    """Whether the process `pid` that was started then is running.

    Numbers of processes are used again: the start tells them apart. What has ended and
    is only not yet reaped (a zombie) does not run.
    """
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def runs_since(pid: int, moment: float) -> bool:
    """Whether the process `pid` was running at `moment` already, and still is."""
    try:
        process = psutil.Process(pid)
        older = process.create_time() < moment + _TOLERANCE
        return older and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False
