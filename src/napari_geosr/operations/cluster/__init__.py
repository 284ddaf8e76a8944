"""Shares work among the processes of a Dask cluster, on this computer or elsewhere.

The extra ``cluster`` is imported only when workers are requested.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    EngineError,
    GeoSRError,
    WorkerError,
)
from napari_geosr.core.machine.processes import start_resource_tracker
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

    from napari_geosr.operations.cluster.worker import Outcome, Work

#: Number of processes on this computer, or a client of any Dask cluster.
Workers: TypeAlias = "int | Client"

#: Message shown if a script starts workers outside ``if __name__ == "__main__":``. Each
#: worker imports the script that starts it, as every process on Windows does.
_UNGUARDED = (
    'In a script, put the call below the line if __name__ == "__main__":, because each '
    "worker imports the script."
)

T = TypeVar("T")
R = TypeVar("R")

#: Number of items given to each worker at once: one in progress and one waiting.
_ITEMS_PER_WORKER = 2
#: Number of items per worker that may be started ahead of the oldest unfinished item,
#: if results are needed in order.
_MAX_AHEAD = 4
#: Seconds between checks of the stop flag and of the workers.
_INTERVAL_SECONDS = 0.2
#: Time in seconds allowed for Dask to replace a worker that has died. After this time,
#: a new worker with the same name is started.
_RESTART_SECONDS = 60.0
#: Number of seconds without any worker after which a run ends.
_PATIENCE_SECONDS = 180.0
#: Initial timeout for fetching a result, in seconds; its status is then checked again.
_FETCH_SECONDS = 2.0
#: Seconds that a stopped run waits for its workers to stop.
_STOP_SECONDS = 60.0
#: Maximum number of times that an item is given to another worker if its worker dies.
_RETRIES = 3
#: Maximum number of times that the result of an item may be lost with its worker.
_MAX_LOST = 10
#: Memory of a worker process in addition to its budget, in bytes: the program and its
#: libraries.
_PROGRAM_BYTES = 1 << 30
#: Multiple of its budget that a worker may use in addition to `_PROGRAM_BYTES`.
_TOLERANCE = 1.25
#: Environment variable: unused memory above which glibc returns it to the system.
_TRIM = "MALLOC_TRIM_THRESHOLD_"
#: Value that Dask assigns to this variable in its workers.
_TRIM_OF_DASK = "65536"
#: Limits of glibc's allocator in a process that was not started by Dask. Dask lowers
#: the trim threshold, which also fixes the mmap threshold at 128 kB: larger arrays are
#: then mapped separately, and page faults take a quarter of the processor time.
_MEMORY_ALLOCATOR = {
    _TRIM: str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


def check_workers(workers: object) -> None:
    """Raise an error unless `workers` is a number of workers or a client.

    Raises
    ------
    ConfigError
        If `workers` is invalid, the extra ``cluster`` is not installed, or a script
        lacks ``if __name__ == "__main__":``.
    """
    if isinstance(workers, int) and not isinstance(workers, bool):
        if workers < 1:
            raise ConfigError(f"workers is {workers}, but at least one is needed.")
        check_installed()
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ConfigError(_UNGUARDED)
        return
    check_installed()
    from distributed import Client

    if not isinstance(workers, Client):
        raise ConfigError(
            "workers must be a whole number or a distributed.Client, not "
            f"{type(workers).__name__}."
        )
    if workers.asynchronous:
        raise ConfigError(
            "workers is an asynchronous client: create it with asynchronous=False."
        )
    if not workers.nthreads():
        raise ConfigError("The cluster of this client has no workers: add some first.")


def check_installed() -> None:
    """Raise `ConfigError` if the extra ``cluster`` is not installed."""
    try:
        found = all(map(find_spec, ("distributed", "cryptography")))
    except ValueError:  # partly imported, or replaced in `sys.modules`
        found = False
    if not found:
        raise ConfigError(
            "Several workers require the optional dependencies 'cluster'. Install "
            'them (pip install "napari-geosr[cluster]"), or omit --workers.'
        )


def count_workers(workers: Workers) -> int:
    """Return the current number of workers."""
    return workers if isinstance(workers, int) else len(workers.nthreads())


def workers_per_host(workers: Workers) -> int:
    """Return the current maximum number of workers on one computer."""
    if isinstance(workers, int):
        return workers
    addresses = [each.rpartition("://")[2] for each in workers.nthreads()]
    hosts = [address.rpartition(":")[0] for address in addresses]
    return max(map(hosts.count, hosts), default=1)


@contextmanager
def open_pool(
    workers: Workers, *, threads: int, memory: int | None
) -> Iterator[WorkerPool]:
    """Start local worker processes that end with the context, or use a client's.

    Parameters
    ----------
    workers : int or distributed.Client
    threads : int
        CPU threads of each process that is started.
    memory : int or None
        Memory budget of each process in bytes; a process that uses much more is
        terminated and replaced. None: no limit, for example if the work uses a GPU.

    Raises
    ------
    WorkerError
        If no process can be started.
    """
    if not isinstance(workers, int):
        yield WorkerPool(workers)
        return
    import dask

    # Import before the settings are changed: restoring them would discard the defaults
    # that this import adds.
    from distributed import Client

    if os.environ.get(_TRIM) == _TRIM_OF_DASK:
        # Set by an earlier cluster of this process; it would take precedence.
        del os.environ[_TRIM]
    start_resource_tracker()
    with dask.config.set(worker_settings(threads)):
        cluster = _local_cluster(workers, memory)
        try:
            with Client(cluster, set_as_default=False) as client:
                yield WorkerPool(client, cluster, workers)
        finally:
            # A worker that has just died may be unknown to Dask's cluster (KeyError).
            with suppress(TimeoutError, KeyError):
                cluster.close(timeout=10)


def worker_settings(threads: int) -> AnyDict:
    """Return the settings of Dask for workers with this number of CPU threads."""
    n = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = dict.fromkeys(names, n) | _MEMORY_ALLOCATOR
    return {
        # The run limits its own memory; a paused worker would never resume.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.multiprocessing-method": "spawn",
        # On a busy computer, the next worker may not have started within the 15 seconds
        # after which Dask would give up by default.
        "distributed.deploy.lost-worker-timeout": f"{_RESTART_SECONDS} seconds",
        "distributed.scheduler.allowed-failures": _RETRIES,
        **{
            f"distributed.nanny.pre-spawn-environ.{name}": value
            for name, value in environment.items()
        },
    }


def _local_cluster(n_workers: int, memory: int | None) -> LocalCluster:
    from distributed import LocalCluster, Security

    limit = 0 if memory is None else int(_TOLERANCE * memory) + _PROGRAM_BYTES
    try:
        return LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=limit,
            dashboard_address="127.0.0.1:0",  # port 8787 may be in use
            silence_logs=logging.CRITICAL,
            # Use separate keys, so that other users of the computer cannot connect.
            security=Security.temporary(),
        )
    except (RuntimeError, OSError, TimeoutError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise WorkerError(
            f"The {n_workers} worker processes could not be started ({reason}). "
            f"{_UNGUARDED} Otherwise start fewer workers."
        ) from error


@dataclass
class WorkerPool:
    """The workers of a run.

    Attributes
    ----------
    cluster : LocalCluster or None
        The workers, if they were started for this run.
    n_own : int
        Number of workers that were started for this run.
    """

    client: Client
    cluster: LocalCluster | None = None
    n_own: int = 0

    @property
    def is_own(self) -> bool:
        """Whether the workers were started for this run."""
        return self.cluster is not None

    def results(
        self,
        work: Work[T, R],
        items: Sequence[T],
        should_stop: ShouldStop,
        *,
        in_order: bool = False,
    ) -> Generator[tuple[T, R], None, None]:
        """Process all items, a few at a time; yield each with its result when done.

        An item whose worker dies is given to another worker, so doing the work twice
        must be harmless.

        Parameters
        ----------
        work : callable
            Must be picklable; see
            `napari_geosr.operations.cluster.worker.Work`.
        items : sequence
            Items to process: plain values that can be pickled.
        should_stop : callable
        in_order : bool
            Yield the items in their order. If an item takes much longer than the
            others, the workers wait for it, so that few results are kept in memory.

        Raises
        ------
        Cancelled
            If `should_stop` returns True; raised after the items that finish in the
            meantime.
        GeoSRError
            The first error of an item, raised after the items that finish in the
            meantime.
        WorkerError
            If several workers die while processing the same item, or all workers are
            gone.
        """
        task = _Task[T, R](self, work, items, in_order=in_order)
        try:
            found = task.finished(should_stop)
            for (_, item), result in _in_order(found) if in_order else found:
                yield item, result
        finally:
            task.end()


def _in_order(
    found: Iterator[tuple[tuple[int, T], R]],
) -> Iterator[tuple[tuple[int, T], R]]:
    """Yield the numbered items in the order of their numbers, starting at 0."""
    early: dict[int, tuple[tuple[int, T], R]] = {}
    n = 0
    for each in found:
        early[each[0][0]] = each
        while n in early:
            yield early.pop(n)
            n += 1


class _Task(Generic[T, R]):
    """Waiting and running items of one call of `WorkerPool.results`."""

    def __init__(
        self,
        pool: WorkerPool,
        work: Work[T, R],
        items: Sequence[T],
        *,
        in_order: bool,
    ) -> None:
        import cloudpickle

        from napari_geosr.operations.cluster.worker import RunPlugin

        self.pool, self.client = pool, pool.client
        self.token = f"geosr-{uuid.uuid4().hex}"
        #: Each item is read only when it is given to a worker, as it may be large.
        self.items = items
        self.waiting = deque(range(len(items)))
        self.running: dict[Future[Outcome], tuple[int, T]] = {}
        self._lost: Counter[int] = Counter()
        self._in_order = in_order
        self._done: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        self._seen = time.monotonic()
        self._n_workers = 1
        plugin = RunPlugin(self.token, cloudpickle.dumps(work), pool.is_own)
        with self._explained():
            self.client.register_plugin(plugin, name=self.token)
            self._look_at_workers()

    def finished(self, should_stop: ShouldStop) -> Iterator[tuple[tuple[int, T], R]]:
        """Yield items with results until all are done or an error ends the run."""
        while self.waiting or self.running:
            if should_stop():
                yield from self._stopped()
                raise Cancelled("Stopped.")
            with self._explained():
                self._submit()
            outcome = self._next(_INTERVAL_SECONDS)
            if outcome is None:
                with self._explained():
                    self._look_at_workers()
                continue
            item, found = outcome
            if found.error is None:
                yield item, cast(R, found.result)
                continue
            yield from self._stopped()
            kind, message = found.error
            raise kind(message)

    def _submit(self) -> None:
        from napari_geosr.operations.cluster.worker import do_item

        while self.waiting and len(self.running) < _ITEMS_PER_WORKER * self._n_workers:
            number = self.waiting[0]
            oldest = min((n for n, _ in self.running.values()), default=number)
            if self._in_order and number - oldest >= _MAX_AHEAD * self._n_workers:
                return
            self.waiting.popleft()
            item = self.items[number]
            future = self.client.submit(
                do_item,
                self.token,
                item,
                key=f"{self.token}-{number}-{self._lost[number]}",
                pure=False,
            )
            self.running[future] = number, item
            future.add_done_callback(self._done.put)

    def _next(self, seconds: float) -> tuple[tuple[int, T], Outcome] | None:
        """Return the next item that ended; None if no item ends within `seconds`."""
        try:
            future = self._done.get(timeout=seconds)
        except queue.Empty:
            return None
        item = self.running.pop(future)
        if (outcome := self._fetch(future)) is not None:
            return item, outcome
        if future.status != "error" and self._lost[item[0]] < _MAX_LOST:
            # Its worker died before the result was fetched.
            self._lost[item[0]] += 1
            self.waiting.appendleft(item[0])
            return None
        error = future.exception() if future.status == "error" else None
        raise _failure(error) from error

    def _fetch(self, future: Future[Outcome]) -> Outcome | None:
        """Return an item's result; None if it failed or was lost with its worker."""
        seconds = _FETCH_SECONDS
        while future.status == "finished":
            try:
                return future.result(timeout=seconds)
            except TimeoutError:
                seconds *= 2  # the result may be large
            except Exception:
                if future.status == "finished":
                    raise
        return None

    def _look_at_workers(self) -> None:
        """Count the workers, and replace lost ones; raise if none starts in time."""
        n = len(self.client.nthreads())
        if self.pool.cluster is not None and n < self.pool.n_own:
            # Dask replaces lost workers, but does not retry if the replacement fails.
            self.pool.cluster.scale(self.pool.n_own)
        now = time.monotonic()
        if n:
            self._n_workers, self._seen = n, now
        elif now - self._seen > _PATIENCE_SECONDS:
            raise WorkerError(
                "All worker processes have ended, and none could be restarted. If "
                "memory ran out, use fewer workers or a smaller budget (--memory)."
            )

    def _stopped(self) -> Iterator[tuple[tuple[int, T], R]]:
        """Stop, and yield the items that finish in the meantime."""
        self.waiting.clear()
        with suppress(Exception):  # the cluster may be gone
            self._tell_workers()
        deadline = time.monotonic() + _STOP_SECONDS
        while self.running and time.monotonic() < deadline:
            try:
                outcome = self._next(_INTERVAL_SECONDS)
            except GeoSRError:
                continue
            if outcome is None and not self._has_workers():
                return
            if outcome is not None and outcome[1].result is not None:
                yield outcome[0], cast(R, outcome[1].result)

    def _has_workers(self) -> bool:
        try:
            return bool(self.client.nthreads())
        except (OSError, TimeoutError, RuntimeError):
            return False

    def _tell_workers(self) -> None:
        from napari_geosr.operations.cluster.worker import stop

        self.client.run(stop, self.token, on_error="ignore")

    def end(self) -> None:
        """Stop all items in progress, and remove the run from the workers.

        No worker writes afterwards, so that the output file can be renamed.
        """
        if self.running and not self.pool.is_own:  # own workers will be ended
            for _ in self._stopped():
                pass
        with suppress(Exception):  # the cluster may be gone
            self.client.cancel(list(self.running))
            self.client.unregister_worker_plugin(self.token)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Convert connection errors to `WorkerError`."""
        try:
            yield
        except (OSError, TimeoutError, RuntimeError) as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise WorkerError(
                f"The connection to the workers was lost ({reason})."
            ) from error


def _failure(error: BaseException | None) -> Exception:
    """Return the error for the user if an item failed in an unexpected way."""
    from distributed import KilledWorker

    if error is None:  # cancelled or lost
        return WorkerError("The connection to the workers was lost.")
    if isinstance(error, KilledWorker):
        return WorkerError(
            f"{_RETRIES + 1} worker processes ended while computing the same part. "
            "They probably ran out of memory: use fewer workers or a smaller budget "
            "(--memory)."
        )
    return EngineError(
        f"A worker failed ({type(error).__name__}: {error}). This is a bug in "
        "napari-geosr: please report it."
    )
