"""Restores blocks of a volume on demand, when Dask computes them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.backends import AUTO, TORCH
from napari_geosr.inference.compute import threads_used
from napari_geosr.inference.members import NONE
from napari_geosr.inference.shards import Shard, ShardPlanner
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.restore.ranking.config import AUTO as AUTO_MODEL
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.restore.shards.work import ShardWork

if TYPE_CHECKING:
    from napari_geosr.operations.restore.config import RestoreConfig
    from napari_geosr.operations.restore.preparation import PreparedRestoration


class BlockRestoration:
    """Restores a block of a Dask array, with the halo that the network needs.

    Parameters
    ----------
    work : ShardWork
        The work of a shard without output files, so that the voxels are returned.
    factors : sequence of int
        Upscale factor along each axis of the result.
    """

    def __init__(self, work: ShardWork, factors: Sequence[int]) -> None:
        from dask.utils import SerializableLock

        self._work, self._factors = work, tuple(factors)
        # Blocks are restored one at a time: each takes all memory and threads.
        self._lock = SerializableLock()

    def __call__(self, block_info: Mapping[None, AnyMapping]) -> AnyArray:
        """Restore the block with the position given by Dask."""
        place = tuple(slice(a, b) for a, b in block_info[None]["array-location"])
        region = tuple(
            slice(part.start // n, part.stop // n)
            for part, n in zip(place, self._factors, strict=True)
        )
        with self._lock:
            result = self._work(Shard(0, region, place), never_stop, 0)
        return result.blocks[0]


def restore_blocks_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    chunks: Sequence[int] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Volume]:
    """Prepare a restoration with blocks that are computed on demand.

    Parameters
    ----------
    volume : Volume
        One spatial volume.
    config : RestoreConfig
    chunks : sequence of int, optional
        Largest block to restore at once, in voxels of the result. By default, it is
        chosen according to the memory budget and the network.

    Returns
    -------
    Volume
        The restored volume, with a Dask array as data.

    Raises
    ------
    ConfigError
        If the volume is a series, the model is ``"auto"``, standard deviations are
        requested, or `chunks` do not fit the result.
    GeoSRError
        If the model does not fit the volume or the memory budget.
    """
    import dask.array as da

    if is_series(volume):
        raise ConfigError(
            f"{volume.title} is a series: select a time point and a channel first."
        )
    if config.uncertainty != NONE:
        raise ConfigError(
            "Blocks are restored without standard deviations: omit uncertainty, or "
            "use restore_with_uncertainty."
        )
    if config.model == AUTO_MODEL:
        raise ConfigError("Name a model to restore the blocks.")
    prepared = yield from prepare_steps(volume, config, should_stop=should_stop)
    yield StageStarted(message="Planning the blocks")
    planner = ShardPlanner(
        prepared.network,
        prepared.volume.data,
        prepared.output_dtype,
        n_workers=1,
        budget=prepared.budget,
        device=prepared.device,
    )
    yield from planner.warnings()
    factors = prepared.factors
    shape = tuple(n * s for n, s in zip(prepared.volume.shape, factors, strict=True))
    block = planner.block if chunks is None else _whole(chunks, shape, factors)
    restore = BlockRestoration(_work(prepared, planner), factors)
    data = da.map_blocks(
        restore,
        chunks=da.core.normalize_chunks(block, shape, dtype=prepared.output_dtype),
        dtype=prepared.output_dtype,
        meta=np.empty((0,) * len(shape), prepared.output_dtype),
    )
    voxel_size, origin = prepared.volume.upscaled_geometry(factors)
    return Volume(
        data,
        prepared.volume.axes,
        voxel_size,
        prepared.volume.unit,
        origin,
        name=prepared.result_name,
        metadata=prepared.metadata,
    )


def _work(prepared: PreparedRestoration, planner: ShardPlanner) -> ShardWork:
    config = prepared.config
    return ShardWork(
        prepared.network,
        prepared.volume.data,
        tile=planner.choice.tile,
        dtypes=[prepared.output_dtype],
        files=(),
        memory=planner.memory,
        statistics=prepared.statistics,
        budget=prepared.budget,
        device=prepared.device,
        nonfinite=config.nonfinite,
        threads=threads_used(config.threads),
        backend=TORCH if config.backend == AUTO else config.backend,
    )


def _whole(
    chunks: Sequence[int], shape: Sequence[int], factors: Sequence[int]
) -> tuple[int, ...]:
    """Round chunks down to whole input voxels, at least one along each axis."""
    if len(chunks) != len(shape) or any(n < 1 for n in chunks):
        raise ConfigError(
            f"chunks={tuple(chunks)} needs {len(shape)} positive numbers, one for each "
            "axis of the result."
        )
    return tuple(
        min(size, max(n // s, 1) * s)
        for n, size, s in zip(chunks, shape, factors, strict=True)
    )
