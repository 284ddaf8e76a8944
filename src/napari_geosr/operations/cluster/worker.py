"""Code that runs in a worker process: the work of a run, and its stop flag.

This module imports `distributed`, so it is imported only when workers are
requested.
"""

from __future__ import annotations

import logging
import pickle
import signal
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from distributed import Worker, WorkerPlugin

from napari_geosr.core.errors import (
    Cancelled,
    GeoSRError,
    describe_system_error,
)
from napari_geosr.core.machine import processes
from napari_geosr.core.steps import ShouldStop
from napari_geosr.operations.cluster.processor_time import WORKER_TIME

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: Maximum number of workers on one computer that are given different numbers in a run.
_MAX_NUMBERS = 256

#: Logger of the processes that start workers, which also logs in the workers.
_LOGGER = "distributed.nanny"

T = TypeVar("T", contravariant=True)
R = TypeVar("R", covariant=True)


class Work(Protocol[T, R]):
    """Function that processes the items of a run; each worker unpickles it once."""

    def __call__(self, item: T, should_stop: ShouldStop, worker: int, /) -> R:
        """Process one item, given a stop flag and the worker's number."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of processing an item.

    Attributes
    ----------
    result : object
        Result of the work; None if it was stopped or failed.
    stopped : bool
        Whether the item was stopped before it was finished.
    error : (type, str) or None
        Class and message of the `GeoSRError` with which the item failed.
    processor_seconds : float
        CPU time of the worker since it last returned an outcome.
    """

    result: object = None
    stopped: bool = False
    error: tuple[type[GeoSRError], str] | None = None
    processor_seconds: float = 0.0


@dataclass
class _KnownRun:
    """State of a run in a worker process."""

    pickled: bytes
    worker: int
    lock: BaseFileLock | None = None
    work: Work[object, object] | None = None
    is_stopped: bool = False


_runs: dict[str, _KnownRun] = {}
#: A process works on one item at a time, so that it needs memory for one item only.
_one_at_a_time = threading.Lock()


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for records of `_LOGGER` about the normal end of a worker.

    When a worker ends, Dask closes the queue from which one of its threads is still
    reading. If the queue is closed before that thread receives the last message,
    reading fails with a `TypeError`, which Dask logs as an error. If the process that
    started the worker dies, other errors are logged.
    """
    kind = record.exc_info[0] if record.exc_info else None
    is_about_end = record.getMessage() == "Worker process died unexpectedly"
    return not (is_about_end and kind is TypeError)


class RunPlugin(WorkerPlugin):
    """Sends the work of a run to all workers, including those that start later.

    Parameters
    ----------
    token : str
        Name of the run.
    pickled : bytes
        The pickled `Work`.
    ignores_interrupts : bool
        Whether the workers ignore Ctrl-C in the terminal, which the process that
        started them handles.
    """

    def __init__(self, token: str, pickled: bytes, ignores_interrupts: bool) -> None:
        self.token, self.pickled = token, pickled
        self.ignores_interrupts = ignores_interrupts

    def setup(self, worker: Worker) -> None:
        """Store the work; it is unpickled when the first item arrives."""
        logging.getLogger(_LOGGER).addFilter(_is_worth_logging)
        if self.ignores_interrupts and (
            threading.current_thread() is threading.main_thread()
        ):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Dask's command gives a worker a string as its name.
        name, lock = str(worker.name), None
        number = int(name) if name.isdecimal() else 0
        if not name.isdecimal():
            number, lock = _take_number(self.token)
        _runs[self.token] = _KnownRun(self.pickled, number, lock)

    def teardown(self, worker: Worker) -> None:
        """Discard the work."""
        run = _runs.pop(self.token, None)
        if run is not None and run.lock is not None:
            run.lock.release()
            with suppress(OSError):
                Path(run.lock.lock_file).unlink()


def _take_number(token: str) -> tuple[int, BaseFileLock | None]:
    """Take the lowest number that no other worker of the run has on this computer.

    The names that `dask-jobqueue` gives to workers, such as ``SLURMCluster-0-1``, do
    not number the workers of a computer. The operating system releases the lock,
    no matter how the process ends.

    Returns
    -------
    number : int
        Number of the worker; 0 if the folder for temporary files does not support
        locks.
    lock : BaseFileLock or None
        Lock that must be held as long as the number is used.
    """
    from filelock import Timeout

    folder = Path(tempfile.gettempdir())
    for number in range(_MAX_NUMBERS):
        lock = processes.file_lock(folder / f"{token}-{number}.lock")
        try:
            if processes.acquire_lock(lock, 0.0):
                return number, lock
        except Timeout:
            continue
        except OSError:
            pass
        break
    return 0, None


def stop(token: str) -> None:
    """Stop a run's items in this process at their next tile."""
    if token in _runs:
        _runs[token].is_stopped = True


def do_item(token: str, item: object) -> Outcome:
    """Process one item of a run; errors meant for the user are returned."""
    run = _runs[token]
    with _one_at_a_time:
        outcome = _done(run, item)
        return replace(outcome, processor_seconds=WORKER_TIME.report())


def _done(run: _KnownRun, item: object) -> Outcome:
    if run.is_stopped:
        return Outcome(stopped=True)
    try:
        if run.work is None:
            run.work = pickle.loads(run.pickled)
        return Outcome(run.work(item, lambda: run.is_stopped, run.worker))
    except Cancelled:
        return Outcome(stopped=True)
    except GeoSRError as error:
        return Outcome(error=(type(error), str(error)))
    except (OSError, MemoryError) as error:
        if text := describe_system_error(error):
            return Outcome(error=(GeoSRError, text))
        raise
