"""Check whether recorded processes are running, acquire locks, let threads sleep."""

from __future__ import annotations

import errno
import inspect
import os
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from filelock import BaseFileLock, FileLock

#: Environment variable that OpenMP, which torch uses, reads when it is loaded: whether
#: waiting threads keep their cores busy.
_POLICY = "OMP_WAIT_POLICY"

#: Tolerance for start times, in seconds, because system clocks are adjusted.
_TOLERANCE = 2.0

#: Key of the time from boot to the start of a process, in files that identify it.
SINCE_BOOT = "since_boot"
#: Identifier that Linux creates each time the computer boots.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Index of the field in ``/proc/PID/stat`` that contains the start time (in clock ticks
#: since boot), counted after the name of the program, which may contain spaces.
_START_FIELD = 19

#: Maximum time, in seconds, that the system needs to release the locks of a killed
#: process: its threads end one by one, and large amounts of memory are freed first.
_MAX_RELEASE = 10.0
_POLL_SECONDS = 0.1
#: Values of ``errno`` on file systems without locks, such as Lustre with ``noflock``.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

#: Environment variable with filters of warnings for the processes that Python starts.
WARNINGS = "PYTHONWARNINGS"
#: Filter that hides Python's warning about semaphores left by a killed process.
_LEAKED = "ignore:resource_tracker:UserWarning"


def own_start_time() -> float:
    """Return the start time of this process, in seconds since 1970."""
    return float(psutil.Process().create_time())


def start_facts(pid: int | None = None) -> AnyDict:
    """Return the start time of a process in the form stored in files.

    Parameters
    ----------
    pid : int, optional
        Process id; by default that of this process.

    Returns
    -------
    dict
        ``started`` (as in `own_start_time`) and `SINCE_BOOT`.

    Raises
    ------
    psutil.NoSuchProcess
        If the process has ended.
    """
    process = psutil.Process(pid)
    started = float(process.create_time())
    return {"started": started, SINCE_BOOT: _since_boot(process.pid)}


def _since_boot(pid: int) -> str:
    """Return boot id, process id and start time in ticks since boot; "" if unavailable.

    On Linux, psutil derives the start time from that of the computer, which changes
    whenever the clock is set.
    """
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(stat.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return ""
    return f"{boot} {pid} {ticks}"


def is_process_running(pid: int, started: float, since_boot: object = "") -> bool:
    """Whether the process `pid` that started at `started` is still running.

    Process ids are reused; the start time distinguishes them. A zombie, which has ended
    but is not yet reaped, does not count as running.

    Parameters
    ----------
    pid : int
    started : float
        As in `own_start_time`.
    since_boot : object
        As in `start_facts`; it takes precedence over `started`. A value that is
        invalid, or of another process, is ignored.
    """
    try:
        process = psutil.Process(pid)
        now = _since_boot(pid)
        words = since_boot.split() if isinstance(since_boot, str) else []
        # An earlier release may have recorded its process without this value.
        if now and len(words) == 3 and words[1] == str(pid):
            same = since_boot == now
        else:
            same = abs(process.create_time() - started) < _TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def has_run_since(pid: int, moment: float) -> bool:
    """Whether the process `pid` was already running at `moment` and still is."""
    try:
        process = psutil.Process(pid)
        older = process.create_time() < moment + _TOLERANCE
        return older and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def file_lock(path: Path) -> FileLock:
    """Return a lock of the operating system on a file.

    The system releases the lock no matter how the process ends, and another thread may
    release it. On file systems without locks, newer releases of filelock would by
    default use the existence of a file as the lock, which would outlive a killed
    process; `acquire_lock` returns False there instead.
    """
    # Imported here because the import takes noticeable time.
    from filelock import FileLock

    known = inspect.signature(FileLock).parameters
    real: AnyDict = {"fallback_to_soft": False} if "fallback_to_soft" in known else {}
    return FileLock(path, thread_local=False, **real)


def _never() -> bool:
    return False


def acquire_lock(
    lock: BaseFileLock, wait: float, has_holder_ended: Callable[[], bool] = _never
) -> bool:
    """Acquire a lock on a file.

    A killed process counts as ended before the system has released its locks. If the
    recorded holder has ended, this function therefore waits a few seconds for the
    release.

    Parameters
    ----------
    wait : float
        Seconds to wait if the holder is still running.
    has_holder_ended : callable
        Returns whether the process recorded as the holder ran on this host and has
        ended.

    Returns
    -------
    bool
        False if the file system has no locks, so that nothing was acquired.

    Raises
    ------
    filelock.Timeout
        If the lock is still held.
    """
    from filelock import Timeout

    deadline = time.monotonic() + max(wait, _MAX_RELEASE)
    while True:
        try:
            lock.acquire(timeout=wait)
            return True
        except Timeout:
            if time.monotonic() >= deadline or not has_holder_ended():
                raise
        except NotImplementedError:  # earlier releases of filelock
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        wait = _POLL_SECONDS


def let_threads_sleep() -> None:
    """Let waiting threads sleep, unless environment variables specify otherwise.

    By default, threads of OpenMP that wait for each other keep their cores busy. With
    several workers on the same cores, this wastes most of the CPU time. A process
    that has the computer to itself is 10 to 25 % faster if its threads do not sleep.
    This function has an effect only before torch is imported.
    """
    os.environ.setdefault(_POLICY, "PASSIVE")


def warnings_without_leaks() -> str:
    """Return warning filters that also hide the warning about leaked semaphores.

    If a process with workers is killed, that warning would be the last line of its log,
    and would look like the cause.
    """
    known = os.environ.get(WARNINGS, "")
    if _LEAKED in known.split(","):
        return known
    return ",".join(filter(None, (known, _LEAKED)))


def start_resource_tracker() -> None:
    """Start the process that removes semaphores of killed processes, without warnings.

    Otherwise, Python would start it, with warnings, when it is first needed.
    """
    if os.name != "posix":
        return
    before = os.environ.get(WARNINGS)
    os.environ[WARNINGS] = warnings_without_leaks()
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[WARNINGS]
        else:
            os.environ[WARNINGS] = before
