"""Gives the slabs of a measurement to worker processes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.volume import Volume
from napari_geosr.operations.cluster import (
    WorkerPool,
    Workers,
    check_workers,
    open_pool,
    workers_per_host,
)
from napari_geosr.operations.storage import array_for_workers

if TYPE_CHECKING:
    from napari_geosr.measure.config import PorosityConfig
    from napari_geosr.measure.interval import Deviation
    from napari_geosr.measure.slabs.sharing import SlabWork

R = TypeVar("R")


class SlabWorkers:
    """A `SlabPool` of worker processes, which start when there is work for them.

    Parameters
    ----------
    workers : int or distributed.Client
    config : PorosityConfig
        Its memory is divided among the workers and this process.
    """

    def __init__(self, workers: Workers, config: PorosityConfig) -> None:
        self._workers = workers
        self.per_host = workers_per_host(workers)
        memory = config.memory
        self._budget = (
            None if memory is None else parse_bytes(memory) // (self.per_host + 1)
        )
        self._pool: WorkerPool | None = None
        self._stack = ExitStack()

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
def slab_workers(
    workers: Workers | None, config: PorosityConfig
) -> Iterator[SlabWorkers | None]:
    """Processes that share the slabs; they end with the context.

    Raises
    ------
    ConfigError
        If `workers` is invalid, or the extra ``cluster`` is not installed.
    """
    if workers is None:
        yield None
        return
    check_workers(workers)
    pool = SlabWorkers(workers, config)
    try:
        yield pool
    finally:
        pool.close()


def n_processes(pool: SlabWorkers | None) -> int:
    """Number of processes that share the memory: the workers and this one."""
    return 1 if pool is None else pool.per_host + 1


def for_workers(volume: Volume) -> Volume:
    """The volume with voxels that other processes can read, copied if necessary."""
    return volume.replace(data=array_for_workers(volume.data))


def deviation_for_workers(deviation: Deviation) -> Deviation:
    """Standard deviations that other processes can read."""
    return replace(deviation, data=array_for_workers(deviation.data))
