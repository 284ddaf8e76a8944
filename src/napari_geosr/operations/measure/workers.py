"""Distributes the slabs of a measurement among worker processes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.volume import Volume
from napari_geosr.operations.cluster import Workers
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.slabs import SlabWorkers, ordered_workers

if TYPE_CHECKING:
    from napari_geosr.measure.config import PorosityConfig
    from napari_geosr.measure.interval import Deviation


def slab_workers(
    workers: Workers | None, config: PorosityConfig
) -> AbstractContextManager[SlabWorkers | None]:
    """Return a context that provides processes for the slabs, and ends them.

    The memory of the configuration is divided among the workers and this process.

    Raises
    ------
    ConfigError
        If `workers` is invalid, or the extra ``cluster`` is not installed.
    """
    memory = None if config.memory is None else parse_bytes(config.memory)
    return ordered_workers(workers, memory)


def n_processes(pool: SlabWorkers | None) -> int:
    """Return the number of processes that share the memory, including this one."""
    return 1 if pool is None else pool.per_host + 1


def for_workers(volume: Volume, pool: SlabWorkers) -> Volume:
    """Return the volume with an array that the workers can read."""
    return volume.replace(data=array_for_workers(volume.data, pool.folder))


def deviation_for_workers(deviation: Deviation, pool: SlabWorkers) -> Deviation:
    """Return the standard deviations with an array that the workers can read."""
    return replace(deviation, data=array_for_workers(deviation.data, pool.folder))
