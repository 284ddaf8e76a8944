"""Runs worker processes and returns results in the order of the parts of a volume."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_geosr.core.steps import ShouldStop
from napari_geosr.operations.cluster import (
    Workers,
    check_workers,
    open_pool,
    workers_per_host,
)
from napari_geosr.operations.cluster.shared_folders import folder_for_copies
from napari_geosr.operations.cluster.tasks import WorkerPool

if TYPE_CHECKING:
    from napari_geosr.measure.slabs.sharing import SlabWork

R = TypeVar("R")


class SlabWorkers:
    """A `SlabPool` of worker processes, which start when there is work for them.

    Parameters
    ----------
    workers : int or distributed.Client
    memory : int or None
        Memory in bytes, divided among the workers and this process; None: no limit.
    """

    def __init__(self, workers: Workers, memory: int | None) -> None:
        self._workers = workers
        self.per_host = workers_per_host(workers)
        self._budget = None if memory is None else memory // (self.per_host + 1)
        self._pool: WorkerPool | None = None
        self._stack = ExitStack()

    @property
    def folder(self) -> Path | None:
        """Folder for copies of inputs; None for the cache folder."""
        return folder_for_copies(self._workers)

    def close(self) -> None:
        """End the processes that were started."""
        self._pool = None
        self._stack.close()

    def results(
        self, work: SlabWork[R], items: Sequence[Any], should_stop: ShouldStop
    ) -> Generator[R, None, None]:
        """Process all items, and yield their results in the order of the items."""
        if self._pool is None:
            self._pool = self._stack.enter_context(
                open_pool(self._workers, threads=1, memory=self._budget)
            )
        found = self._pool.results(work, items, should_stop, in_order=True)
        with closing(found):
            for _, result in found:
                yield result


@contextmanager
def ordered_workers(
    workers: Workers | None, memory: int | None = None
) -> Iterator[SlabWorkers | None]:
    """Provide processes that work on parts of a volume, until the context exits.

    Raises
    ------
    ConfigError
        If `workers` is invalid, or the extra ``cluster`` is not installed.
    """
    if workers is None:
        yield None
        return
    check_workers(workers)
    pool = SlabWorkers(workers, memory)
    try:
        yield pool
    finally:
        pool.close()
