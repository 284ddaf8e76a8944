"""Gives the items of a run to worker processes and collects their results.

This module imports `distributed` only when a run starts.
"""

from __future__ import annotations

import math
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast
from weakref import WeakSet

from napari_geosr.core.errors import (
    Cancelled,
    EngineError,
    GeoSRError,
    WorkerError,
)
from napari_geosr.core.steps import ShouldStop
from napari_geosr.operations.cluster.processor_time import WORKER_TIME
from napari_geosr.operations.cluster.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

    from napari_geosr.operations.cluster.worker import Outcome, Work

T = TypeVar("T")
R = TypeVar("R")

#: Number of items given to each worker at once: one in progress and one waiting.
_ITEMS_PER_WORKER = 2
#: If results are needed in order: number of items per worker that may be started after
#: the oldest unfinished item.
_MAX_AHEAD = 4
#: Seconds between checks of the stop flag and of the workers.
_INTERVAL_SECONDS = 0.2
#: Number of seconds without any worker after which a run ends.
_PATIENCE_SECONDS = 180.0
#: Initial timeout for fetching a result, in seconds; it is doubled as long as the item
#: is still reported as finished.
_FETCH_SECONDS = 2.0
#: Interval, in seconds, at which a stopped run tells its workers to stop; it is
#: repeated because new workers may have started.
_TELL_SECONDS = 5.0
#: Maximum time that a stopped run waits for its own workers to stop, in seconds.
_STOP_SECONDS = 60.0
#: Maximum number of times that the result of an item may be lost with its worker; after
#: that, the item fails.
_MAX_LOST = 10
#: An item whose worker dies is given to another worker at most this many times.
RETRIES = 3
#: Clients of the workers that a job has started in its allocation.
ALLOCATED: WeakSet[Client] = WeakSet()


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

        If a worker dies, its item is given to another worker, so doing the work twice
        must be harmless.

        Parameters
        ----------
        work : callable
            Processes an item; must be picklable. See
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
            If `should_stop` returns True; raised once the items that finish in the
            meantime have been yielded.
        GeoSRError
            The error of the first item that failed, raised once the items that finish
            in the meantime have been yielded.
        WorkerError
            If several workers die while processing the same item, or all workers are
            gone.
        """
        task = PoolTask[T, R](self, work, items, in_order=in_order)
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


class PoolTask(Generic[T, R]):
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

        from napari_geosr.operations.cluster import worker

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
        self._next_look = 0.0
        self._n_workers = 1
        self._known: set[str] = set()
        self._deadline = math.inf
        self._is_stopping = False
        self._do_item, self._stop = worker.do_item, worker.stop
        plugin = worker.RunPlugin(self.token, cloudpickle.dumps(work), pool.is_own)
        with self._explained():
            self._look_at_workers()
            self.client.register_plugin(plugin, name=self.token)

    def finished(self, should_stop: ShouldStop) -> Iterator[tuple[tuple[int, T], R]]:
        """Yield items with results until all are done or an error ends the run."""
        while self.waiting or self.running:
            if should_stop():
                yield from self._stopped()
                raise Cancelled("Stopped.")
            with self._explained():
                if time.monotonic() >= self._next_look:
                    self._look_at_workers()
                self._submit()
            outcome = self._next(_INTERVAL_SECONDS)
            if outcome is None:
                continue
            item, found = outcome
            if found.error is None:
                yield item, cast(R, found.result)
                continue
            yield from self._stopped()
            kind, message = found.error
            raise kind(message)

    def _submit(self) -> None:
        while self.waiting and len(self.running) < _ITEMS_PER_WORKER * self._n_workers:
            number = self.waiting[0]
            oldest = min((n for n, _ in self.running.values()), default=number)
            if self._in_order and number - oldest >= _MAX_AHEAD * self._n_workers:
                return
            self.waiting.popleft()
            item = self.items[number]
            future = self.client.submit(
                self._do_item,
                self.token,
                item,
                key=f"{self.token}-{number}-{self._lost[number]}",
                pure=False,
            )
            self.running[future] = number, item
            future.add_done_callback(self._done.put)

    def _next(self, seconds: float) -> tuple[tuple[int, T], Outcome] | None:
        """Return the next item that has ended; None if none ends within `seconds`."""
        try:
            future = self._done.get(timeout=seconds)
        except queue.Empty:
            return None
        item = self.running.pop(future)
        if (outcome := self._fetch(future)) is not None:
            # The run's own workers are child processes, whose time is counted anyway.
            if not self.pool.is_own:
                WORKER_TIME.add(outcome.processor_seconds)
            return item, outcome
        if future.status != "error" and self._lost[item[0]] < _MAX_LOST:
            # The worker died before the result was fetched.
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
                seconds *= 2  # a large result takes longer
            except Exception:
                if future.status == "finished":
                    raise
        return None

    def _look_at_workers(self) -> None:
        """Count the workers, and replace lost ones; fail if none starts in time."""
        addresses = set(self.client.nthreads())
        n = len(addresses)
        if addresses - self._known and not self.pool.is_own:
            check_versions(self.client)
        self._known |= addresses
        if self.pool.cluster is not None and n < self.pool.n_own:
            # Dask replaces lost workers, but does not retry if the replacement fails.
            self.pool.cluster.scale(self.pool.n_own)
        now = time.monotonic()
        self._next_look = now + _INTERVAL_SECONDS
        if n:
            self._n_workers, self._seen = n, now
        elif now - self._seen > _PATIENCE_SECONDS:
            raise WorkerError(
                "All worker processes have ended, and none could be restarted. If "
                "memory ran out, use fewer workers or a smaller budget (--memory)."
            )

    def _stopped(self) -> Iterator[tuple[tuple[int, T], R]]:
        """Stop, and yield the items that finish in the meantime.

        Workers that were started for this run or job are ended if they do not stop in
        time: a queue ends a job at its walltime. The time is counted from the first
        call. If the workers belong to a client, wait for them, because they may still
        write to the output.
        """
        self.waiting.clear()
        next_word = now = time.monotonic()
        if not self._is_stopping:
            self._is_stopping = True
            is_ending = self.pool.is_own or self.client in ALLOCATED
            self._deadline = now + (_STOP_SECONDS if is_ending else math.inf)
        while self.running and (now := time.monotonic()) < self._deadline:
            if now >= next_word:
                next_word = now + _TELL_SECONDS
                with suppress(Exception):  # the cluster may be gone
                    self._tell_workers()
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
        self.client.run(self._stop, self.token, on_error="ignore")

    def end(self) -> None:
        """Stop all items in progress, and remove the run from the workers.

        No worker writes afterwards, so that the output file can be renamed.
        """
        # The run's own workers are ended afterwards.
        if self.running and not self.pool.is_own:
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

    if error is None:  # the item was cancelled or lost
        return WorkerError("The connection to the workers was lost.")
    if isinstance(error, KilledWorker):
        return WorkerError(
            f"{RETRIES + 1} worker processes ended while computing the same part. "
            "They probably ran out of memory: use fewer workers or a smaller budget "
            "(--memory)."
        )
    return EngineError(
        f"A worker failed ({type(error).__name__}: {error}). This is a bug in "
        "napari-geosr: please report it."
    )
